#include "agent/kafka/twin_watch.h"

#include <string>

#include "agent/daemon/kafka.h"
#include "agent/kafka/mock_cluster.h"
#include "agent/kafka/twin_lookout.h"
#include "tests/catch.h"
#include "tests/fakes/batches.h"
#include "tests/fakes/fake_clock.h"

namespace penstock {
namespace {
namespace twin_watch_test {

using namespace std::chrono_literals;
using Answer = TwinWatch::Answer;

struct Watching {
  Answer after(std::chrono::seconds passed, const std::optional<TwinWatch::Seen>& seen) {
    clock.tick(passed);
    return watch.look(seen, clock.boottime());
  }
  static TwinWatch::Seen own(std::int64_t offset) { return {false, offset}; }
  static TwinWatch::Seen foreign(std::int64_t offset) { return {true, offset}; }

  FakeClock clock;
  TwinWatch watch{90s};
};

TEST_CASE("without a checkpoint, or with our own, there is no waiting", "[twins]") {
  Watching our;
  CHECK(our.after(0s, std::nullopt) == Answer::go);
  CHECK(our.after(0s, our.own(7)) == Answer::go);
}

TEST_CASE("a foreign checkpoint that stands still for all the time is no living agent's", "[twins]") {
  Watching our;
  CHECK(our.after(0s, our.foreign(7)) == Answer::wait);
  CHECK(our.after(89s, our.foreign(7)) == Answer::wait);
  CHECK(our.after(1s, our.foreign(7)) == Answer::go);
  CHECK(our.after(1s, our.foreign(7)) == Answer::go);  // and stays so
}

TEST_CASE("a foreign checkpoint that moves is a living agent's, for ever", "[twins]") {
  Watching our;
  CHECK(our.after(0s, our.foreign(7)) == Answer::wait);
  CHECK(our.after(60s, our.foreign(9)) == Answer::duplicate);
  CHECK(our.after(1000s, our.foreign(9)) == Answer::duplicate);
  CHECK(our.after(1s, our.own(10)) == Answer::duplicate);
}

TEST_CASE("one that moves after we went on and were fenced is a living agent's", "[twins]") {
  Watching our;
  CHECK(our.after(0s, our.foreign(7)) == Answer::wait);
  CHECK(our.after(90s, our.foreign(7)) == Answer::go);
  CHECK(our.after(5s, our.own(8)) == Answer::go);
  CHECK(our.after(5s, our.foreign(9)) == Answer::wait);  // it took over from us: is it still there?
  CHECK(our.after(5s, our.foreign(10)) == Answer::duplicate);
}

TEST_CASE("time in which the link was away does not count as standing still", "[twins]") {
  Watching our;
  CHECK(our.after(0s, our.foreign(7)) == Answer::wait);
  CHECK(our.after(50s, our.foreign(7)) == Answer::wait);
  our.watch.lost_sight();
  CHECK(our.after(10'000s, our.foreign(7)) == Answer::wait);
  CHECK(our.after(39s, our.foreign(7)) == Answer::wait);
  CHECK(our.after(1s, our.foreign(7)) == Answer::go);
}

TEST_CASE("one that has moved when the link is back is a living agent's", "[twins]") {
  Watching our;
  CHECK(our.after(0s, our.foreign(7)) == Answer::wait);
  our.watch.lost_sight();
  CHECK(our.after(10'000s, our.foreign(8)) == Answer::duplicate);
}

TEST_CASE("a checkpoint that was deleted, or is ours again, ends the watch", "[twins]") {
  Watching our;
  CHECK(our.after(0s, our.foreign(7)) == Answer::wait);
  CHECK(our.after(80s, std::nullopt) == Answer::go);
  CHECK(our.after(20s, our.foreign(9)) == Answer::wait);  // and what comes later is watched from the beginning
  CHECK(our.after(89s, our.foreign(9)) == Answer::wait);
  CHECK(our.after(1s, our.foreign(9)) == Answer::go);
}

/// What lies in a topic on the mock cluster, and a lookout there. Its clock ticks when it is slept by, so no test waits.
struct OnMock {
  OnMock() : cluster(std::move(*MockCluster::start(1))) {
    cluster->create_topic("penstock.telemetry", 1);
    settings.agent = "gw-17";
    settings.look_after_topics = false;
    settings.kafka.brokers = {cluster->bootstrap()};
    settings.kafka.properties = {{"reconnect.backoff.ms", "20"}, {"reconnect.backoff.max.ms", "100"}};
  }

  /// A commit of an agent with this name that looks for nobody.
  void commit(const std::string& agent = "gw-17") {
    auto with = settings;
    with.agent = agent;
    with.written_here = {};
    auto sink = KafkaSink::open(with, BatchMaker::lane_name, notes, clock);
    REQUIRE(sink);
    REQUIRE((*sink)->resume({}));
    auto committed = send(**sink, maker.next(1));
    INFO((committed ? "" : committed.error().what));
    REQUIRE(committed);
  }

  Result<void> clear(TwinLookout& lookout, const std::optional<CheckpointPlace>& hint = {}) {
    return lookout.clear(hint, Patience(20s, {}));
  }

  FakeClock clock;
  std::unique_ptr<MockCluster> cluster;
  MemoryNotes notes;
  KafkaSinkSettings settings;
  BatchMaker maker{clock.wall()};
};

TEST_CASE("the lookout goes on at once without a checkpoint and with one of this store", "[twins]") {
  OnMock test;
  test.settings.written_here = [](const Checkpoint&) { return true; };
  CheckpointSearch search;
  TwinLookout lookout(test.settings, test.clock, search);
  CHECK(test.clear(lookout));
  test.commit("gw-18");
  CHECK(test.clear(lookout));
  test.commit();
  CHECK(test.clear(lookout));
  CHECK(test.clear(lookout, CheckpointPlace{99, 0}));
  CHECK(test.clock.boottime() == FakeClock().boottime());
}

TEST_CASE("the lookout of a new agent is through within one look where each answer takes 400 ms", "[twins]") {
  OnMock test;
  test.settings.written_here = [](const Checkpoint&) { return true; };
  test.cluster->set_round_trip(1, 400);
  CheckpointSearch search;
  TwinLookout lookout(test.settings, test.clock, search);
  auto cleared = lookout.clear({}, Patience(-1ms, {}));
  INFO((cleared ? "" : cleared.error().what));
  CHECK(cleared);
}

TEST_CASE("the lookout watches a foreign checkpoint for its time, over several calls, and goes on", "[twins]") {
  OnMock test;
  test.commit();
  int looks = 0;
  test.settings.written_here = [&](const Checkpoint&) { return ++looks, false; };
  CheckpointSearch search;
  TwinLookout lookout(test.settings, test.clock, search);
  auto first = lookout.clear({}, Patience(-1ms, {}));  // time for one look
  REQUIRE_FALSE(first);
  CHECK(first.error().fault == Fault::transient);
  CHECK_THAT(first.error().what, Catch::Contains("watching whether"));
  auto begin = test.clock.boottime();
  CHECK(test.clear(lookout));
  CHECK(test.clock.boottime() - begin >= 90s);
  CHECK(looks > 10);
  CHECK_FALSE(lookout.duplicate());
}

TEST_CASE("the lookout finds a checkpoint that moves and never asks again", "[twins]") {
  OnMock test;
  test.commit();
  int looks = 0;
  test.settings.written_here = [&](const Checkpoint&) {
    if (++looks == 2) test.commit();  // seen by the third look
    return false;
  };
  CheckpointSearch search;
  TwinLookout lookout(test.settings, test.clock, search);
  auto found = test.clear(lookout);
  REQUIRE_FALSE(found);
  CHECK(found.error().fault == Fault::transient);
  CHECK_THAT(found.error().what, Catch::Contains("duplicate_id: another living agent uses the id \"gw-17\""));
  CHECK(lookout.duplicate());
  CHECK(looks == 3);
  auto again = test.clear(lookout);
  REQUIRE_FALSE(again);
  CHECK(again.error().what == found.error().what);
  CHECK(looks == 3);
}

TEST_CASE("a sink with a living twin makes no producer", "[twins]") {
  OnMock test;
  test.commit();
  test.settings.written_here = [&](const Checkpoint&) { return test.commit(), false; };
  auto sink = KafkaSink::open(test.settings, BatchMaker::lane_name, test.notes, test.clock);
  REQUIRE(sink);
  CHECK_FALSE((*sink)->resume({}));
  CHECK_FALSE((*sink)->resume({}));
  CHECK((*sink)->status().duplicate_id);
  CHECK((*sink)->status().producers == 0);
}

TEST_CASE("a link that is away is not a foreign checkpoint that stands still", "[twins]") {
  OnMock test;
  test.settings.kafka.brokers = {"127.0.0.1:9"};
  test.settings.written_here = [](const Checkpoint&) { return false; };
  CheckpointSearch search;
  TwinLookout lookout(test.settings, test.clock, search);
  auto away = lookout.clear({}, Patience(300ms, {}));
  REQUIRE_FALSE(away);
  CHECK(away.error().fault == Fault::transient);
  CHECK_FALSE(lookout.duplicate());
}

}  // namespace twin_watch_test
}  // namespace
}  // namespace penstock
