// sysfs: reads numeric files, each holding one value: thermal zones and hwmon chips, which it finds by itself, and any
// file it is told of. (Documentation/ABI/testing/sysfs-class-thermal, sysfs-class-hwmon in the kernel's tree.)
//
// Every reading is one record {"value":45.1,"unit":"Cel"}; streams are thermal/<type>, hwmon/<chip>/<label> and what the
// config says. A file that cannot be read is told once by an event record on its stream, and once again when it is
// back; content that is no number gives a reading of quality `bad` with the raw text, and an event when it begins.
// One thread, the driver's. Nothing is remembered over a crash.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "drivers/driver.h"
#include "drivers/table.h"

namespace penstock {

struct SysfsPoint {
  std::filesystem::path path;  // relative: to root
  std::string stream;
  double scale = 1;
  double offset = 0;
  std::string unit;
  bool operator==(const SysfsPoint&) const = default;
};

struct SysfsSettings {
  std::filesystem::path root = "/sys";
  std::vector<std::string> discover = {"thermal", "hwmon"};
  std::vector<SysfsPoint> points;
  std::chrono::milliseconds interval{10'000};
  bool operator==(const SysfsSettings&) const = default;
};

/// What there is to read under `root`, by stream; no two have the same stream.
std::vector<SysfsPoint> discover_sysfs(const std::filesystem::path& root, const std::vector<std::string>& classes);

class SysfsDriver final : public Driver {
 public:
  SysfsDriver(const SysfsSettings& settings, OnBusy on_busy);
  Result<void> run(Outlet& outlet, const Clock& clock, std::stop_token stop) override;

 private:
  enum class Health { unknown, fine, unreadable, garbage };
  struct Watched {
    SysfsPoint point;
    Health health = Health::unknown;
  };
  void look_around();
  std::vector<Record> poll();
  void read(Watched& watched, std::vector<Record>& records);

  const SysfsSettings settings_;
  const OnBusy on_busy_;
  std::vector<Watched> watched_;
};

DriverType sysfs_driver();

}  // namespace penstock
