// A driver kind for the tests of config/: one key of every type.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"

namespace penstock::sample {

enum class Mode { fast, careful };

struct Point {
  std::string name;
  int address = 0;
  bool operator==(const Point&) const = default;
};

struct Settings {
  std::string device = "/dev/thing";
  bool enabled = true;
  std::uint16_t count = 3;
  double factor = 1.5;
  std::chrono::milliseconds interval{1000};
  std::uint64_t memory = 4096;
  std::optional<std::uint64_t> limit;
  double share = 10;
  Mode mode = Mode::fast;
  std::vector<std::string> tags = {"a"};
  std::map<std::string, std::string> labels;
  Secret password;
  std::vector<Point> points;
  bool operator==(const Settings&) const = default;
};

inline KeyTable point_keys() {
  return Keys<Point>()
      .key("name", &Point::name, "its name")
      .required()
      .key("address", &Point::address, "its address")
      .between(0, 99);
}

inline KeyTable keys() {
  using namespace std::chrono_literals;
  return Keys<Settings>()
      .key("device", &Settings::device, "the device")
      .check([](const std::string& text) { return text.starts_with('/') ? "" : "a path that begins with /"; })
      .key("enabled", &Settings::enabled, "whether")
      .key("count", &Settings::count, "how many")
      .unit("things")
      .key("factor", &Settings::factor, "how much")
      .between(0.5, 2.5)
      .key("interval", &Settings::interval, "how often")
      .between(10ms, 1h)
      .size("memory", &Settings::memory, "RAM")
      .rate("limit", &Settings::limit, "bytes a second")
      .percentage("share", &Settings::share, "of all")
      .choice("mode", &Settings::mode, {{"fast", Mode::fast}, {"careful", Mode::careful}}, "how")
      .key("tags", &Settings::tags, "words")
      .key("labels", &Settings::labels, "names and values")
      .key("password", &Settings::password, "a secret")
      .tables("points", &Settings::points, point_keys(), "what to read")
      .verify([](const Settings& settings, Complaints& say) {
        if (settings.mode == Mode::careful && settings.count > 10) {
          say.problem("count", "is too many for mode \"careful\", expected at most 10");
        }
        if (settings.count == 0) say.warning("count", "is 0: nothing will be read");
      });
}

inline std::vector<DriverKind> kinds() { return {{"thing", "a sample", keys()}, {"ring", "another", keys()}}; }

}  // namespace penstock::sample
