// What the model of the loop (tests/model) leaves out: how long it waits.
#include "agent/forward/forwarder.h"

#include <memory>

#include "tests/catch.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/faulty_sink.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace forwarder_test {

using namespace std::chrono_literals;

struct Loop {
  explicit Loop(std::size_t records_in_a_batch = 100) {
    StoreSettings with;
    with.directory = folder.path() / "queue";
    with.agent = "loop";
    with.capacity_bytes = 4 << 20;
    with.lanes = {{"telemetry", 1}, {"alarms", 0}};
    auto opened = Store::open(with, clock);
    REQUIRE(opened.ok());
    store = std::move(*opened);
    Forwarder::Settings settings;
    settings.limits.records = records_in_a_batch;
    settings.batch_interval = 500ms;
    settings.backoff_first = 1000ms;
    settings.backoff_most = 5000ms;
    settings.idle = 0ms;
    settings.proofs = 3;
    settings.proof_patience = 2000ms;
    forwarder = std::make_unique<Forwarder>(*store, sink, Forwarder::own_writes(*store), clock, settings);
  }
  void put(int records, const std::string& key = "", const std::string& lane = "telemetry") {
    Group group;
    group.lane = *store->lane(lane);
    for (int i = 0; i < records; ++i) {
      group.records.emplace_back().payload = "x";
      group.records.back().key = key;
    }
    REQUIRE(store->commit(std::span(&group, 1)).ok());
  }
  std::uint64_t delivered(std::size_t lane = 0) const { return store->status().lanes.at(lane).delivered.value(); }
  /// How long one step took on the clock, which only sleeping moves.
  BootTime step() {
    auto before = clock.boottime();
    REQUIRE(forwarder->step({}).ok());
    return clock.boottime() - before;
  }

  TempDir folder;
  FakeClock clock;
  FaultyDestination destination{1};
  FaultySink sink{destination};
  std::unique_ptr<Store> store;
  std::unique_ptr<Forwarder> forwarder;
};

TEST_CASE("a backlog goes batch after batch, and then the batch interval is kept", "[forwarder]") {
  Loop loop(100);
  loop.put(250);
  CHECK(loop.step() == 0ms);  // asks
  CHECK(loop.step() == 0ms);
  CHECK(loop.step() == 0ms);
  CHECK(loop.destination.records().size() == 200);
  CHECK(loop.step() == 500ms);  // the last one leaves nothing behind
  CHECK(loop.destination.records().size() == 250);
  loop.put(1);
  CHECK(loop.step() == 500ms);
}

TEST_CASE("a failing destination is asked at growing distances, each between half of it and all of it", "[forwarder]") {
  Loop loop;
  loop.destination.faults.fail_resume = 1;
  for (auto most : {1000ms, 2000ms, 4000ms, 5000ms, 5000ms}) {
    auto slept = loop.step();
    CHECK(slept >= most / 2);
    CHECK(slept <= most);
  }
  CHECK_FALSE(loop.forwarder->status().connected);
  CHECK(loop.forwarder->status().failures == 5);

  loop.destination.faults.fail_resume = 0;
  loop.put(1);
  CHECK(loop.step() == 0ms);
  CHECK(loop.forwarder->status().connected);
  CHECK(loop.step() == 500ms);  // a commit that succeeds...
  loop.destination.faults.lose_reply = 1;
  loop.put(1);
  CHECK(loop.step() <= 1000ms);  // ...ends the growth
  CHECK_FALSE(loop.forwarder->status().connected);
}

TEST_CASE("what was committed last stays in the store until there is proof of it", "[forwarder]") {
  Loop loop(100);
  loop.put(150);
  loop.step();  // asks
  loop.step();
  CHECK(loop.destination.records().size() == 100);
  CHECK(loop.delivered() == 0);
  loop.step();  // before the next commit it looks at the one before
  CHECK(loop.destination.records().size() == 150);
  CHECK(loop.delivered() == 100);
  loop.step();  // nothing to send: it looks
  CHECK(loop.delivered() == 150);
  loop.step();
  CHECK(loop.forwarder->status().commits == 2);
  CHECK(loop.forwarder->status().resumes == 1);
}

TEST_CASE("a lane waits at the record whose topic is missing, the others go on", "[forwarder]") {
  Loop loop(100);
  constexpr std::size_t alarms = 1;
  loop.destination.faults.topic_is_missing = true;
  loop.put(2, "", "alarms");
  loop.put(3, "topic", "alarms");
  loop.put(10);
  loop.step();  // asks
  loop.step();
  loop.step();  // proof
  CHECK(loop.delivered() == 10);
  CHECK(loop.delivered(alarms) == 2);
  CHECK(loop.forwarder->status().connected);
  loop.put(5, "", "alarms");
  loop.put(5);
  loop.step();
  loop.step();
  CHECK(loop.delivered() == 15);
  CHECK(loop.delivered(alarms) == 2);
  CHECK(loop.destination.lanes_held_up == 1);  // until the wait is over the lane is not even read

  loop.destination.faults.topic_is_missing = false;
  loop.clock.sleep(10s, {});
  loop.step();
  loop.step();
  CHECK(loop.delivered(alarms) == 10);
  CHECK(loop.forwarder->status().failures == 0);
  CHECK(loop.forwarder->status().resumes == 1);
}

TEST_CASE("while all that is left waits for a topic nothing is committed", "[forwarder]") {
  Loop loop(100);
  loop.destination.faults.topic_is_missing = true;
  loop.put(3, "topic");
  loop.step();  // asks
  for (int turn = 0; turn < 3; ++turn) {
    loop.step();
    loop.clock.sleep(10s, {});
  }
  CHECK(loop.forwarder->status().commits == 0);
  CHECK(loop.destination.records().empty());
}

TEST_CASE("records whose topic is missing for good are set aside at once, however many", "[forwarder]") {
  Loop loop(100);
  loop.put(5);
  loop.put(30, "homeless");
  loop.put(5);
  BootTime slept = loop.step();  // asks
  while (loop.delivered() < 40) slept += loop.step();
  CHECK(slept <= 1000ms);  // two intervals between commits
  CHECK(loop.destination.records().size() == 10);
  CHECK(loop.forwarder->status().set_aside == 30);
  auto letters = loop.store->dead_letters({}, {});
  REQUIRE(letters);
  REQUIRE(letters->size() == 30);
  CHECK(letters->front().reason == "its topic is not there, for good");
}

TEST_CASE("what was acknowledged and cannot be seen is asked about, and kept until then", "[forwarder]") {
  Loop loop;
  loop.destination.faults.leave_undecided = 1;
  loop.destination.faults.decide_by_itself = 0;
  loop.put(10);
  loop.step();  // asks
  loop.step();  // is told that all is well
  for (int i = 0; i < 3; ++i) loop.step();
  CHECK(loop.delivered() == 0);
  CHECK(loop.destination.records().empty());
  CHECK(loop.forwarder->status().resumes == 1);
  loop.step();
  CHECK(loop.forwarder->status().resumes == 2);
  CHECK(loop.delivered() == 0);
  loop.destination.faults.leave_undecided = 0;
  loop.step();  // it was taken back, and is sent again
  CHECK(loop.destination.records().size() == 10);
  loop.step();
  CHECK(loop.delivered() == 10);
}

TEST_CASE("what is never proven is asked about even if there is always something to send", "[forwarder]") {
  Loop loop;
  loop.destination.faults.undecided_partition = 1;
  loop.destination.faults.decide_by_itself = 0;
  loop.put(10);
  loop.step();  // asks
  int steps = 0;
  for (; loop.forwarder->status().resumes < 2 && steps < 20; ++steps) {
    loop.put(10);
    loop.step();
  }
  CHECK(steps == 7);  // five commits of 500 ms each, one without proof for too long, one that asks
  CHECK(loop.delivered() == 0);
}

TEST_CASE("of a commit that was carried out in part only the rest is sent again", "[forwarder]") {
  Loop loop;
  loop.destination.faults.undecided_partition = 1;  // 3, 4, 5
  loop.destination.faults.decide_by_itself = 0;
  loop.put(10);
  loop.step();  // asks
  loop.step();
  CHECK(loop.destination.records().size() == 7);
  for (int i = 0; i < 3; ++i) loop.step();
  CHECK(loop.delivered() == 0);
  loop.step();  // asks again: they were taken back
  CHECK(loop.forwarder->status().carried_out_in_part == 1);
  loop.destination.faults.undecided_partition.reset();
  loop.step();
  REQUIRE(loop.destination.records().size() == 10);
  for (std::size_t i = 7; i < 10; ++i) CHECK(loop.destination.records()[i].sequence == Sequence(i - 4));
  loop.step();
  CHECK(loop.delivered() == 10);
  CHECK(loop.forwarder->status().records == 13);  // 10 and then 3
}

TEST_CASE("one record that is refused for good costs as many tries as halving takes, and the rest arrives",
          "[forwarder]") {
  Loop loop(100);
  Group group;
  for (int i = 0; i < 100; ++i) {
    group.records.emplace_back().payload = "x";
    if (i == 41) group.records.back().key = "poison";
  }
  REQUIRE(loop.store->commit(std::span(&group, 1)).ok());
  int steps = 0;
  while (loop.destination.records().size() < 99 && steps < 100) {
    loop.step();
    ++steps;
  }
  CHECK(loop.destination.records().size() == 99);
  CHECK(loop.forwarder->status().set_aside == 1);
  CHECK(loop.forwarder->status().failures <= 12);  // 100, 50, 25, 12, ... and again behind what went through
  auto letters = loop.store->dead_letters({}, {});
  REQUIRE(letters);
  REQUIRE(letters->size() == 1);
  CHECK(letters->front().stored.sequence == Sequence(42));
  CHECK(letters->front().reason.find("refused for good") != std::string::npos);
}

TEST_CASE("when nothing is taken any more, what is refused is set aside slowly", "[forwarder]") {
  Loop loop(1);
  Group group;
  for (int i = 0; i < 14; ++i) group.records.emplace_back().key = "poison";
  REQUIRE(loop.store->commit(std::span(&group, 1)).ok());
  BootTime slept{};
  for (int i = 0; i < 20; ++i) slept += loop.step();
  CHECK(loop.forwarder->status().set_aside == 10);
  CHECK(slept == 0ms);
  // From now on each waits, and is tried once more, before it is set aside.
  for (int i = 0; i < 2; ++i) slept += loop.step();  // asked and refused: waits
  CHECK(loop.forwarder->status().set_aside == 10);
  CHECK(slept >= 500ms);
  for (int i = 0; i < 2; ++i) slept += loop.step();  // and again
  CHECK(loop.forwarder->status().set_aside == 11);
}

TEST_CASE("a destination that has forgotten what was proven to be there is told of, and goes on", "[forwarder]") {
  Loop loop;
  loop.put(10);
  for (int i = 0; i < 3; ++i) loop.step();
  REQUIRE(loop.delivered() == 10);
  loop.destination.forget_checkpoint();
  loop.destination.faults.lose_request = 1;
  loop.put(1);
  loop.step();
  loop.destination.faults.lose_request = 0;
  CHECK(loop.forwarder->status().checkpoints_behind == 0);
  loop.step();  // asks
  CHECK(loop.forwarder->status().checkpoints_behind == 1);
  loop.step();
  CHECK(loop.destination.records().size() == 11);
}

}  // namespace forwarder_test
}  // namespace
}  // namespace penstock
