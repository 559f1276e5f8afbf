#include "buffer/history.h"

#include "tests/catch.h"

namespace penstock {
namespace {
namespace history_test {

Run run(char c) { return *Run::from_hex(std::string(32, c)); }
Epoch epoch(char c) { return *Epoch::from_hex(std::string(32, c)); }
RunEntry started(char id, std::uint64_t first) { return {run(id), epoch('e'), {{"telemetry", Sequence(first)}}}; }
Positions upto(std::uint64_t last) { return {{"telemetry", Sequence(last)}}; }
History store(std::vector<RunEntry> runs, std::uint64_t last, std::uint64_t delivered) {
  return {{{epoch('e'), {}, {}}}, std::move(runs), upto(last), upto(delivered)};
}
Checkpoint checkpoint(std::vector<RunEntry> runs, std::uint64_t delivered) {
  return {epoch('e'), std::move(runs), upto(delivered), 0};
}

TEST_CASE("our own checkpoint raises delivered and is no fork", "[history]") {
  auto result = settle(store({started('1', 1), started('2', 101)}, 200, 50), checkpoint({started('1', 1)}, 80));
  CHECK_FALSE(result.fork);
  CHECK(at(result.delivered, "telemetry") == Sequence(80));
  CHECK_FALSE(result.checkpoint_behind);
}

TEST_CASE("without a checkpoint we go on from our own marks and say so", "[history]") {
  auto result = settle(store({started('1', 1)}, 200, 50), std::nullopt);
  CHECK_FALSE(result.fork);
  CHECK(at(result.delivered, "telemetry") == Sequence(50));
  CHECK(result.checkpoint_behind);
  CHECK_FALSE(settle(store({started('1', 1)}, 200, 0), std::nullopt).checkpoint_behind);
}

TEST_CASE("an older checkpoint never takes delivered back", "[history]") {
  auto result = settle(store({started('1', 1)}, 200, 150), checkpoint({started('1', 1)}, 80));
  CHECK(at(result.delivered, "telemetry") == Sequence(150));
  CHECK(result.checkpoint_behind);
}

TEST_CASE("a checkpoint of a run we do not know is a fork, common up to the last shared run", "[history]") {
  auto result = settle(store({started('1', 1), started('b', 101)}, 300, 20),
                       checkpoint({started('1', 1), started('a', 101)}, 180));
  CHECK(result.fork);
  CHECK(at(result.delivered, "telemetry") == Sequence(100));
}

TEST_CASE("a checkpoint that says what was sent beyond what is proven", "[history]") {
  auto sent = checkpoint({started('1', 1)}, 80);
  sent.sent = upto(120);
  auto ours = settle(store({started('1', 1)}, 120, 50), sent);
  CHECK_FALSE(ours.fork);
  CHECK(at(ours.delivered, "telemetry") == Sequence(80));
  CHECK_FALSE(settle(store({started('1', 1)}, 120, 110), sent).checkpoint_behind);
  // Of a copy that numbered more than this store knows readers may have seen some.
  auto fork = settle(store({started('1', 1)}, 100, 50), sent);
  CHECK(fork.fork);
  CHECK(at(fork.delivered, "telemetry") == Sequence(80));
}

TEST_CASE("a store restored from a backup of the same run is a fork at the backup's end", "[history]") {
  auto result = settle(store({started('1', 1), started('2', 51)}, 70, 10), checkpoint({started('1', 1)}, 100));
  CHECK(result.fork);
  CHECK(at(result.delivered, "telemetry") == Sequence(50));
}

TEST_CASE("a checkpoint of an epoch we do not know is a fork, although all its runs are ours", "[history]") {
  // The copy forked away from us, sent some of what we share, and nothing of its own runs yet.
  auto theirs = checkpoint({started('1', 1)}, 80);
  theirs.epoch = epoch('f');
  auto result = settle(store({started('1', 1), started('2', 101)}, 200, 50), theirs);
  CHECK(result.fork);
  CHECK(at(result.delivered, "telemetry") == Sequence(80));
}

TEST_CASE("a fork never takes back what we know to be delivered", "[history]") {
  auto result = settle(store({started('1', 1), started('b', 101)}, 300, 250),
                       checkpoint({started('1', 1), started('a', 101)}, 180));
  CHECK(result.fork);
  CHECK(at(result.delivered, "telemetry") == Sequence(250));
}

TEST_CASE("with no common run delivered stays our own", "[history]") {
  auto result = settle(store({started('b', 1)}, 300, 7), checkpoint({started('a', 1)}, 180));
  CHECK(result.fork);
  CHECK(at(result.delivered, "telemetry") == Sequence(7));
}

TEST_CASE("the same foreign checkpoint does not make us fork twice, a later one of the same run does", "[history]") {
  auto ours = store({started('1', 1), started('b', 101)}, 300, 100);
  auto theirs = checkpoint({started('1', 1), started('a', 101)}, 180);
  auto first = settle(ours, theirs);
  REQUIRE(first.fork);
  ours.epochs.push_back({epoch('f'), {{"telemetry", Sequence(101)}}, first.forked_from});

  auto again = settle(ours, theirs);
  CHECK_FALSE(again.fork);
  CHECK(at(again.delivered, "telemetry") == Sequence(100));

  theirs.delivered = upto(190);
  CHECK(settle(ours, theirs).fork);
}

TEST_CASE("a checkpoint of what two copies have in common is ours to settle, and told apart by who wrote it",
          "[history]") {
  auto history = store({started('1', 1), started('b', 101)}, 120, 10);
  auto theirs = checkpoint({started('1', 1)}, 80);
  CHECK(written_here(history, theirs));  // an older one that does not say
  theirs.writer = run('1');
  CHECK(written_here(history, theirs));
  theirs.writer = run('b');
  CHECK(written_here(history, theirs));
  theirs.writer = run('c');
  CHECK(ours(history, theirs));
  CHECK_FALSE(settle(history, theirs).fork);
  CHECK_FALSE(written_here(history, theirs));
}

TEST_CASE("a foreign checkpoint is none of this store's, unless it is the one that made it fork", "[history]") {
  auto history = store({started('1', 1), started('b', 101)}, 120, 10);
  auto theirs = checkpoint({started('1', 1), started('c', 101)}, 130);
  CHECK_FALSE(ours(history, theirs));
  CHECK_FALSE(written_here(history, theirs));
  history.epochs.push_back({epoch('f'), upto(101), digest_of(theirs)});
  CHECK(written_here(history, theirs));
  theirs.writer = run('c');  // another one, written since
  CHECK_FALSE(written_here(history, theirs));
}

TEST_CASE("a lane born in a later run has no common part before it", "[history]") {
  RunEntry later{run('b'), epoch('e'), {{"telemetry", Sequence(101)}}};
  History ours{
      {{epoch('e'), {}, {}}}, {started('1', 1), later}, {{"telemetry", Sequence(300)}, {"alarms", Sequence(5)}}, {}};
  Checkpoint theirs{
      epoch('e'), {started('1', 1), started('a', 101)}, {{"telemetry", Sequence(150)}, {"alarms", Sequence(9)}}, 0};
  auto result = settle(ours, theirs);
  CHECK(result.fork);
  CHECK(at(result.delivered, "alarms") == Sequence(0));
  CHECK(at(result.delivered, "telemetry") == Sequence(100));
}

TEST_CASE("a record belongs to the newest epoch that begins at or before it", "[history]") {
  auto ours = store({started('1', 1)}, 300, 0);
  ours.epochs.push_back({epoch('f'), {{"telemetry", Sequence(101)}}, {}});
  CHECK(ours.epoch_of("telemetry", Sequence(100)) == epoch('e'));
  CHECK(ours.epoch_of("telemetry", Sequence(101)) == epoch('f'));
  CHECK(ours.epoch_of("alarms", Sequence(1)) == epoch('f'));
}

}  // namespace history_test
}  // namespace
}  // namespace penstock
