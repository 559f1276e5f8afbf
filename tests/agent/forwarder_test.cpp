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
    auto opened = Store::open(with, clock);
    REQUIRE(opened.ok());
    store = std::move(*opened);
    Forwarder::Settings settings;
    settings.limits.records = records_in_a_batch;
    settings.batch_interval = 500ms;
    settings.backoff_first = 1000ms;
    settings.backoff_most = 5000ms;
    forwarder = std::make_unique<Forwarder>(
        *store, sink, [this](const Settlement& settlement, std::stop_token) { return store->settle(settlement); },
        clock, settings);
  }
  void put(int records) {
    Group group;
    for (int i = 0; i < records; ++i) group.records.emplace_back().payload = "x";
    REQUIRE(store->commit(std::span(&group, 1)).ok());
  }
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

}  // namespace forwarder_test
}  // namespace
}  // namespace penstock
