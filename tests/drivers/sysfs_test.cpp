#include "drivers/sysfs.h"

#include <sys/stat.h>

#include <condition_variable>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/catch.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_outlet.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace sysfs_test {

using namespace std::chrono_literals;

/// Sleeps until the test takes a step, and the time it was asked to sleep passes then.
class SteppedClock final : public Clock {
 public:
  WallTime wall() const override { return time_.wall(); }
  BootTime boottime() const override { return time_.boottime(); }
  Boot boot() const override { return time_.boot(); }
  bool synchronised() const override { return true; }
  bool sleep(std::chrono::nanoseconds duration, std::stop_token stop) const override {
    std::unique_lock lock(mutex_);
    ++sleeping_;
    changed_.notify_all();
    bool stepped = changed_.wait(lock, stop, [&] { return steps_ > 0; });
    --sleeping_;
    if (!stepped) return false;
    --steps_;
    changed_.notify_all();
    time_.tick(std::chrono::ceil<std::chrono::microseconds>(duration));
    return true;
  }
  void step() {
    std::lock_guard lock(mutex_);
    ++steps_;
    changed_.notify_all();
  }
  bool wait_asleep() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 20s, [&] { return sleeping_ > 0 && steps_ == 0; });
  }

 private:
  FakeClock time_;
  mutable std::mutex mutex_;
  mutable std::condition_variable_any changed_;
  mutable int steps_ = 0, sleeping_ = 0;
};

struct Machine {
  void write(const std::string& name, const std::string& content) {
    auto path = dir.path() / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::trunc) << content;
  }
  void remove(const std::string& name) { std::filesystem::remove_all(dir.path() / name); }
  void start(SysfsSettings with = {}) {
    with.root = dir.path();
    driver.emplace(with, OnBusy::wait);
    thread = std::jthread([this](std::stop_token stop) { CHECK(driver->run(outlet, clock, stop).ok()); });
    REQUIRE(clock.wait_asleep());
  }
  /// One more poll; the records it brought.
  std::vector<Record> poll() {
    auto before = outlet.size();
    clock.step();
    REQUIRE(clock.wait_asleep());
    auto all = outlet.records();
    return {all.begin() + static_cast<std::ptrdiff_t>(before), all.end()};
  }

  TempDir dir;
  SteppedClock clock;
  FakeOutlet outlet;
  std::optional<SysfsDriver> driver;
  std::jthread thread;
};

SysfsSettings one_point(const std::string& path) {
  SysfsSettings settings;
  settings.discover.clear();
  settings.points.push_back({path, "tank/level", 0.5, -10, "%"});
  return settings;
}

TEST_CASE("thermal zones and hwmon channels are found, named by what the kernel calls them, and scaled") {
  Machine machine;
  machine.write("class/thermal/thermal_zone0/type", "x86_pkg_temp\n");
  machine.write("class/thermal/thermal_zone0/temp", "45123\n");
  machine.write("class/thermal/thermal_zone1/type", "acpitz\n");
  machine.write("class/thermal/thermal_zone1/temp", "-5000\n");
  machine.write("class/thermal/thermal_zone2/type", "acpitz\n");
  machine.write("class/thermal/thermal_zone2/temp", "0\n");
  machine.write("class/thermal/cooling_device0/type", "fan\n");
  machine.write("class/hwmon/hwmon3/name", "k10temp\n");
  machine.write("class/hwmon/hwmon3/temp1_input", "61250\n");
  machine.write("class/hwmon/hwmon3/temp1_label", "T ctl/1\n");
  machine.write("class/hwmon/hwmon3/temp1_max", "70000\n");
  machine.write("class/hwmon/hwmon3/fan2_input", "1200\n");
  machine.write("class/hwmon/hwmon3/in0_input", "3312\n");
  machine.write("class/hwmon/hwmon3/intrusion0_input", "1\n");
  machine.start();
  std::map<std::string, std::string> seen;
  for (const auto& record : machine.outlet.records()) seen[record.stream] = record.payload;
  CHECK(seen == std::map<std::string, std::string>{
                    {"thermal/x86_pkg_temp", R"({"value":45.123,"unit":"Cel"})"},
                    {"thermal/acpitz", R"({"value":-5,"unit":"Cel"})"},
                    {"thermal/acpitz-2", R"({"value":0,"unit":"Cel"})"},
                    {"hwmon/k10temp/T_ctl_1", R"({"value":61.25,"unit":"Cel"})"},
                    {"hwmon/k10temp/fan2", R"({"value":1200,"unit":"/min"})"},
                    {"hwmon/k10temp/in0", R"({"value":3.312,"unit":"V"})"},
                });
  for (const auto& record : machine.outlet.records()) CHECK(nlohmann::json::accept(record.payload));
}

TEST_CASE("a file named in the config is scaled, offset and given its unit, at every interval") {
  Machine machine;
  machine.write("level", "  84 \n");
  machine.start(one_point("level"));
  REQUIRE(machine.outlet.size() == 1);
  auto before = machine.clock.boottime();
  machine.write("level", "1e2");
  auto next = machine.poll();
  REQUIRE(next.size() == 1);
  CHECK(machine.outlet.records()[0].payload == R"({"value":32,"unit":"%"})");
  CHECK(next[0].payload == R"({"value":40,"unit":"%"})");
  CHECK(next[0].quality == Quality::good);
  CHECK(machine.clock.boottime() - before == 10s);
}

TEST_CASE("a file that vanishes is told once, and once when it is back") {
  Machine machine;
  machine.write("level", "1");
  machine.start(one_point("level"));
  machine.remove("level");
  auto gone = machine.poll();
  REQUIRE(gone.size() == 1);
  CHECK(gone[0].kind == Kind::event);
  CHECK(gone[0].stream == "tank/level");
  auto told = nlohmann::json::parse(gone[0].payload);
  CHECK(told["state"] == "unreadable");
  CHECK(told["error"] == "No such file or directory");
  CHECK(machine.poll().empty());
  CHECK(machine.poll().empty());
  machine.write("level", "2");
  auto back = machine.poll();
  REQUIRE(back.size() == 2);
  CHECK(nlohmann::json::parse(back[0].payload)["state"] == "back");
  CHECK(back[1].kind == Kind::reading);
  CHECK(machine.poll().size() == 1);
}

TEST_CASE("content that is no number is a bad reading with its text, and an event when it begins and ends") {
  Machine machine;
  machine.write("level", "1");
  machine.start(one_point("level"));
  for (const std::string garbage : {"abc", "12 34", "", "nan", "inf", "1,5", "0x12", "\xff\xfe\"\\", "1e999"}) {
    machine.write("level", garbage);
    auto bad = machine.poll();
    INFO(garbage);
    REQUIRE(bad.size() == 2);
    CHECK(nlohmann::json::parse(bad[0].payload)["state"] == "garbage");
    CHECK(bad[1].quality == Quality::bad);
    CHECK(bad[1].kind == Kind::reading);
    auto body = nlohmann::json::parse(bad[1].payload);
    CHECK(body["value"].is_null());
    if (garbage == "12 34") CHECK(body["raw"] == garbage);
    CHECK(machine.poll().size() == 1);  // the event once, the reading each time
    machine.write("level", "7");
    CHECK(machine.poll().size() == 2);
  }
}

TEST_CASE("a huge file, a directory and a pipe in the place of a value neither stop nor hurt the driver") {
  Machine machine;
  machine.write("level", std::string(1 << 20, '9'));
  machine.start(one_point("level"));
  CHECK(machine.outlet.records().back().quality == Quality::bad);
  machine.remove("level");
  std::filesystem::create_directory(machine.dir.path() / "level");
  CHECK(machine.poll().size() == 1);
  machine.remove("level");
  REQUIRE(mkfifo((machine.dir.path() / "level").c_str(), 0600) == 0);
  machine.poll();
  machine.remove("level");
  machine.write("level", "5");
  CHECK(machine.poll().back().payload == R"({"value":-7.5,"unit":"%"})");
}

TEST_CASE("a chip that appears later is found within a minute, and no sensor at all is no error") {
  Machine machine;
  machine.start();
  CHECK(machine.outlet.size() == 0);
  CHECK(machine.outlet.wait_for_saying("no sensors found"));
  machine.write("class/hwmon/hwmon0/name", "nvme\n");
  machine.write("class/hwmon/hwmon0/temp1_input", "30000\n");
  for (int i = 0; i < 5; ++i) CHECK(machine.poll().empty());
  CHECK(machine.poll().size() == 1);
  machine.remove("class/hwmon/hwmon0");
  CHECK(machine.poll().size() == 1);  // the event
}

TEST_CASE("a stop ends the driver while it sleeps") {
  Machine machine;
  machine.start();
  machine.thread.request_stop();
  machine.thread.join();
}

TEST_CASE("this machine's own tree is read without a complaint") {
  for (const auto& point : discover_sysfs("/sys", {"thermal", "hwmon"})) {
    CHECK_FALSE(point.stream.empty());
    CHECK(point.path.string().starts_with("/sys/"));
  }
}

TEST_CASE("the sysfs section is read with its points") {
  const std::string head = "[agent]\nid = \"a\"\n[kafka]\nbrokers = [\"k:9092\"]\n[drivers.host]\ntype = \"sysfs\"\n";
  auto loaded = load_text(head + R"(interval = "2s"
discover = ["hwmon"]
points = [{ path = "/run/level", stream = "tank/level", scale = 0.1, unit = "%" }]
)",
                          {}, driver_kinds());
  INFO(loaded.report());
  REQUIRE(loaded.ok());
  const auto* settings = loaded.settings.drivers.at(0).settings.as<SysfsSettings>();
  REQUIRE(settings != nullptr);
  CHECK(settings->interval == 2s);
  CHECK(settings->points.at(0).scale == 0.1);
  CHECK_FALSE(load_text(head + "discover = [\"iio\"]\n", {}, driver_kinds()).ok());
  CHECK_FALSE(load_text(head + "points = [{ path = \"a\", stream = \"s\" }, { path = \"b\", stream = \"s\" }]\n", {},
                        driver_kinds())
                  .ok());
}

}  // namespace sysfs_test
}  // namespace
}  // namespace penstock
