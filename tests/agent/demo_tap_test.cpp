#include <atomic>
#include <thread>

#include "agent/demo/tap.h"
#include "tests/catch.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_outlet.h"

namespace penstock {
namespace {
namespace demo_tap_test {

Record record_of(std::string payload) {
  Record record;
  record.stream = "boiler";
  record.payload = std::move(payload);
  return record;
}

/// Puts records one by one until it is stopped, then one more that its Outlet has no room for.
class Counter final : public Driver {
 public:
  Result<void> run(Outlet& outlet, const Clock&, std::stop_token stop) override {
    for (int n = 0; !stop.stop_requested(); ++n) {
      std::vector<Record> records{record_of(std::to_string(n))};
      std::vector<StateChange> none;
      if (auto ticket = outlet.offer(records, none); !ticket) {
        untouched = untouched && records == std::vector<Record>{record_of(std::to_string(n))};
        ++refused;
      }
      std::this_thread::yield();
    }
    return {};
  }
  std::atomic<bool> untouched{true};
  std::atomic<int> refused{0};
};

struct Run {
  Run() {
    auto counter = std::make_unique<Counter>();
    driver = counter.get();
    wrapped = tap.wrap("sim", std::move(counter));
  }
  void start() {
    thread = std::jthread([this](std::stop_token stop) { CHECK(wrapped->run(outlet, clock, stop).ok()); });
  }
  void stop() {
    thread.request_stop();
    thread.join();
  }
  bool closes() {
    return outlet.eventually([&] { return tap.closed(); });
  }

  Account account;
  Tap tap{account};
  FakeOutlet outlet;
  FakeClock clock;
  Counter* driver;
  std::unique_ptr<Driver> wrapped;
  std::jthread thread;
};

TEST_CASE("every record a driver hands over is entered with a number, which travels with it") {
  Run run;
  run.start();
  REQUIRE(run.outlet.wait_for_records(100));
  run.tap.close();
  REQUIRE(run.closes());
  run.stop();
  auto records = run.outlet.records();
  CHECK(run.account.so_far().sent == records.size());
  std::uint64_t sequence = 0;
  for (const auto& record : records) {
    REQUIRE(record.headers.size() == 1);
    CHECK(record.headers[0].name == kNumberHeader);
    auto verdict = run.account.arrive({"t",
                                       0,
                                       "gw",
                                       {},
                                       "telemetry",
                                       Sequence(++sequence),
                                       std::stoull(record.headers[0].value),
                                       checksum_of("sim", record.stream, record.content_type, record.payload)});
    REQUIRE(verdict == Account::Verdict::received);
  }
  CHECK(run.account.proof("gw", {}, {{"telemetry", Sequence(sequence)}}).holds());
}

TEST_CASE("what a full Outlet does not take is given back without its number and was not sent") {
  Run run;
  run.outlet.set_room(3);
  run.start();
  REQUIRE(run.outlet.eventually([&] { return run.driver->refused > 3; }));
  run.tap.close();
  REQUIRE(run.closes());
  run.stop();
  CHECK(run.driver->untouched);
  CHECK(run.account.so_far().sent == 3);
}

TEST_CASE("the tap is closed only when all that was handed over is on disk") {
  Run run;
  run.outlet.hold_durable();
  run.start();
  REQUIRE(run.outlet.wait_for_records(5));
  run.tap.close();
  CHECK_FALSE(run.outlet.eventually([&] { return run.tap.closed(); }, std::chrono::milliseconds(50)));
  run.outlet.hold_durable(false);
  CHECK(run.closes());
  run.stop();
}

TEST_CASE("a stop of the agent ends a driver behind the tap, closed or not") {
  Run run;
  run.outlet.hold_durable();
  run.start();
  REQUIRE(run.outlet.wait_for_records(1));
  run.stop();
  CHECK_FALSE(run.tap.closed());
}

}  // namespace demo_tap_test
}  // namespace
}  // namespace penstock
