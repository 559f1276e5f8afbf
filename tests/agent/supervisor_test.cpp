#include "agent/daemon/supervisor.h"

#include <atomic>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "tests/agent/fake_disk.h"
#include "tests/agent/wait_until.h"
#include "tests/catch.h"
#include "tests/fakes/fake_clock.h"

namespace penstock {
namespace {
namespace supervisor_test {

using namespace std::chrono_literals;

/// What a driver does at its n-th run (from 0); false: wait for the stop.
using Script = std::function<std::optional<Result<void>>(int run, Outlet&, const FakeClock&)>;

struct Scripted final : Driver {
  Scripted(Script with, std::atomic<int>& counter) : script(std::move(with)), runs(counter) {}
  Result<void> run(Outlet& outlet, const Clock& clock, std::stop_token stop) override {
    auto end = script(runs++, outlet, dynamic_cast<const FakeClock&>(clock));
    if (end) return *end;
    outlet.wait_durable(~Ticket{0}, stop);  // never
    return {};
  }
  Script script;
  std::atomic<int>& runs;
};

struct Plant {
  ~Plant() { end(); }

  void start(Script script) {
    supervisor.start(
        "press", "fake", std::make_unique<Scripted>(std::move(script), runs),
        std::make_unique<DriverOutlet>(intake, writer, disk, clock, DriverOutlet::Settings{"press", Lane{}, 100'000}));
  }
  void end() {
    supervisor.stop();
    CHECK(supervisor.join(20s).empty());
    intake.close();
    thread.request_stop();
    if (thread.joinable()) thread.join();
  }
  DriverStatus status() const { return supervisor.status().at(0); }
  /// state and error of the event records, in order
  std::vector<std::pair<std::string, std::string>> events() const {
    std::vector<std::pair<std::string, std::string>> all;
    for (const auto& commit : disk.commits()) {
      for (const auto& group : commit) {
        for (const auto& record : group.records) {
          if (record.kind != Kind::event) continue;
          CHECK(record.stream == "penstock/driver/press");
          auto body = nlohmann::json::parse(record.payload);
          CHECK(body["driver"] == "press");
          all.emplace_back(body["state"], body.value("error", ""));
        }
      }
    }
    return all;
  }

  std::atomic<int> runs = 0;
  FakeDisk disk;
  FakeClock clock;
  Intake intake{1 << 20};
  Writer writer{disk, intake, clock, {}};
  std::jthread thread{[this](std::stop_token stop) { CHECK(writer.run(stop).ok()); }};
  Supervisor supervisor{clock, {}};
};

Result<Ticket> put_one(Outlet& outlet) {
  std::vector<Record> records(1);
  records[0].payload = "reading";
  return outlet.put(std::move(records), {}, {});
}

using Events = std::vector<std::pair<std::string, std::string>>;

TEST_CASE("a driver that fails runs again, each time after a longer wait up to a minute, with jitter") {
  Plant plant;
  std::vector<BootTime> starts;
  std::atomic<bool> done = false;
  plant.start([&](int run, Outlet&, const FakeClock& clock) -> std::optional<Result<void>> {
    starts.push_back(clock.boottime());
    if (run == 9) return done = true, std::nullopt;
    return transient("no reply from unit 7 in 500 ms");
  });
  REQUIRE(wait_until([&] { return done.load(); }));
  auto most = 1000ms;
  for (std::size_t i = 1; i < starts.size(); ++i) {
    auto waited = starts[i] - starts[i - 1];
    CHECK(waited <= most);
    CHECK(waited >= most / 2 - 1ms);
    most = std::min<std::chrono::milliseconds>(most * 2, 60'000ms);
  }
  CHECK(plant.status().failures == 9);
  CHECK(plant.status().last_error == "no reply from unit 7 in 500 ms");
  CHECK(plant.status().state == DriverState::running);
}

TEST_CASE("a minute of good running makes the next wait short again") {
  Plant plant;
  std::atomic<bool> done = false;
  BootTime failed_at{}, back_at{};
  plant.start([&](int run, Outlet&, const FakeClock& clock) -> std::optional<Result<void>> {
    if (run < 5) return transient("unplugged");
    if (run == 5) {
      clock.tick(61s);
      failed_at = clock.boottime();
      return transient("unplugged");
    }
    back_at = clock.boottime();
    return done = true, std::nullopt;
  });
  REQUIRE(wait_until([&] { return done.load(); }));
  CHECK(back_at - failed_at <= 1s);
}

TEST_CASE("a stray exception restarts that driver only") {
  Plant plant;
  plant.start([&](int run, Outlet&, const FakeClock&) -> std::optional<Result<void>> {
    if (run == 0) throw std::runtime_error("vector::at");
    if (run == 1) throw 7;
    return std::nullopt;
  });
  REQUIRE(wait_until([&] { return plant.runs == 3; }));
  CHECK(plant.status().failures == 2);
  CHECK_THAT(plant.status().last_error, Catch::Contains("unexpected exception"));
}

TEST_CASE("a failure is told by one event record, the return by another, in the commit of the first record") {
  std::atomic<bool> taken{true};  // Catch2 checks in the test's own thread only
  Plant plant;
  plant.start([&](int run, Outlet& outlet, const FakeClock&) -> std::optional<Result<void>> {
    if (run < 3) return transient("no answer");
    if (!put_one(outlet).ok()) taken = false;
    if (!put_one(outlet).ok()) taken = false;
    if (run == 3) return rejected("bad answer");
    return std::nullopt;
  });
  REQUIRE(wait_until([&] { return plant.events().size() == 4; }));
  CHECK(taken);
  CHECK_FALSE(plant.status().failed);
  plant.end();
  CHECK(plant.events() == Events{{"failed", "no answer"}, {"running", ""}, {"failed", "bad answer"}, {"running", ""}});
  for (const auto& commit : plant.disk.commits()) {
    for (const auto& group : commit) {
      if (group.records.size() == 2) CHECK(group.records[0].payload == "reading");
    }
  }
}

TEST_CASE("a driver that runs well without records is told of after a minute") {
  Plant plant;
  plant.start([&](int run, Outlet&, const FakeClock&) -> std::optional<Result<void>> {
    if (run == 0) return transient("no answer");
    return std::nullopt;
  });
  REQUIRE(wait_until([&] { return plant.runs == 2 && plant.events().size() == 1; }));
  plant.supervisor.tick();
  CHECK(plant.status().failed);
  plant.clock.tick(61s);
  plant.supervisor.tick();
  CHECK(wait_until([&] { return plant.events().size() == 2; }));
  CHECK_FALSE(plant.status().failed);
  plant.supervisor.tick();
  plant.end();
  CHECK(plant.events() == Events{{"failed", "no answer"}, {"running", ""}});
}

TEST_CASE("a driver that ends without being asked to is a failure") {
  Plant plant;
  plant.start([&](int run, Outlet&, const FakeClock&) -> std::optional<Result<void>> {
    if (run == 0) return Result<void>();
    return std::nullopt;
  });
  REQUIRE(wait_until([&] { return plant.runs == 2; }));
  CHECK_THAT(plant.status().last_error, Catch::Contains("without being asked"));
}

TEST_CASE("before a driver runs again it can read back what it remembered") {
  Plant plant;
  std::atomic<bool> done = false;
  std::optional<std::string> seen;
  plant.start([&](int run, Outlet& outlet, const FakeClock&) -> std::optional<Result<void>> {
    if (run == 0) {
      CHECK(outlet.put({}, {{"position", "42"}}, {}).ok());
      return transient("file vanished");
    }
    seen = *outlet.state("position");
    return done = true, std::nullopt;
  });
  REQUIRE(wait_until([&] { return done.load(); }));
  CHECK(seen == "42");
}

TEST_CASE("a driver that does not end is named, the others are not waited for in vain") {
  Plant plant;
  std::atomic<bool> let_go = false, entered = false;
  plant.start([&](int, Outlet&, const FakeClock&) -> std::optional<Result<void>> {
    entered = true;
    wait_until([&] { return let_go.load(); });
    return Result<void>();
  });
  REQUIRE(wait_until([&] { return entered.load(); }));
  plant.supervisor.stop();
  CHECK(plant.supervisor.join(10ms) == std::vector<std::string>{"press"});
  CHECK_FALSE(plant.supervisor.remove("press", 10ms));
  CHECK(plant.supervisor.status().size() == 1);
  let_go = true;
  CHECK(plant.supervisor.remove("press", 20s));
  CHECK(plant.supervisor.status().empty());
}

}  // namespace supervisor_test
}  // namespace
}  // namespace penstock
