#include "drivers/sysfs.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "drivers/polled.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFileBytes = 4096;  // sysfs never gives more
constexpr std::size_t kPoints = 10'000;   // a tree with more is not one of sensors
constexpr std::chrono::seconds kLookAround{60};

struct FileText {
  std::string text;
  int error = 0;  // errno
};

FileText read_file(const fs::path& path) {
  FileText file;
  // Not blocking: a path that names a pipe must not stop the driver.
  int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return {"", errno};
  file.text.resize(kFileBytes);
  ssize_t got = ::read(descriptor, file.text.data(), file.text.size());
  if (got < 0) file.error = errno;
  file.text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  close(descriptor);
  while (!file.text.empty() && std::strchr(" \t\r\n", file.text.back()) != nullptr) file.text.pop_back();
  file.text.erase(0, std::min(file.text.find_first_not_of(" \t\r\n"), file.text.size()));
  return file;
}

std::optional<double> number_in(const std::string& text) {
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

/// A name from a device as part of a stream: without what would break a path or a line.
std::string stream_part(const std::string& name) {
  std::string part;
  for (char c : name) part += c > ' ' && c < 127 && c != '/' && c != '"' && c != '\\' ? c : '_';
  return part.empty() ? "_" : part;
}

std::vector<fs::path> entries(const fs::path& directory) {
  std::vector<fs::path> found;
  std::error_code error;
  for (auto it = fs::directory_iterator(directory, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    if (found.size() >= kPoints) break;
    found.push_back(it->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

struct HwmonKind {
  const char* prefix;
  const char* unit;
  double scale;
};
constexpr HwmonKind kHwmonKinds[] = {
    {"temp", "Cel", 1e-3}, {"in", "V", 1e-3},     {"curr", "A", 1e-3},     {"power", "W", 1e-6},
    {"fan", "/min", 1},    {"energy", "J", 1e-6}, {"humidity", "%", 1e-3},
};

/// temp1_input -> temp1 and its kind.
const HwmonKind* hwmon_kind(const std::string& file, std::string& channel) {
  constexpr std::string_view kInput = "_input";
  if (!file.ends_with(kInput)) return nullptr;
  channel = file.substr(0, file.size() - kInput.size());
  auto digits = channel.find_first_of("0123456789");
  if (digits == std::string::npos || channel.find_first_not_of("0123456789", digits) != std::string::npos)
    return nullptr;
  for (const auto& kind : kHwmonKinds) {
    if (channel.compare(0, digits, kind.prefix) == 0) return &kind;
  }
  return nullptr;
}

void find_thermal(const fs::path& root, std::vector<SysfsPoint>& points) {
  for (const auto& zone : entries(root / "class/thermal")) {
    if (!zone.filename().string().starts_with("thermal_zone")) continue;
    auto type = read_file(zone / "type").text;
    points.push_back(
        {zone / "temp", "thermal/" + stream_part(type.empty() ? zone.filename().string() : type), 1e-3, 0, "Cel"});
  }
}

void find_hwmon(const fs::path& root, std::vector<SysfsPoint>& points) {
  for (const auto& chip : entries(root / "class/hwmon")) {
    auto name = read_file(chip / "name").text;
    if (name.empty()) name = chip.filename().string();
    for (const auto& file : entries(chip)) {
      std::string channel;
      const HwmonKind* kind = hwmon_kind(file.filename().string(), channel);
      if (kind == nullptr) continue;
      auto label = read_file(chip / (channel + "_label")).text;
      points.push_back({file, "hwmon/" + stream_part(name) + "/" + stream_part(label.empty() ? channel : label),
                        kind->scale, 0, kind->unit});
    }
  }
}

Record json_record(const SysfsPoint& point, Kind kind, const nlohmann::ordered_json& body) {
  Record record;
  record.stream = point.stream;
  record.kind = kind;
  record.content_type = "application/json";
  record.payload = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return record;
}

Record reading(const SysfsPoint& point, double value) {
  Record record;
  record.stream = point.stream;
  record.content_type = "application/json";
  // Nine digits: what the scale adds beyond them is the arithmetic's, not the sensor's.
  record.payload = fmt::format(R"({{"value":{:.9g})", value);
  if (!point.unit.empty()) record.payload += fmt::format(R"(,"unit":{})", nlohmann::json(point.unit).dump());
  record.payload += '}';
  return record;
}

}  // namespace

std::vector<SysfsPoint> discover_sysfs(const fs::path& root, const std::vector<std::string>& classes) {
  std::vector<SysfsPoint> points;
  for (const auto& name : classes) {
    if (name == "thermal") find_thermal(root, points);
    if (name == "hwmon") find_hwmon(root, points);
  }
  std::set<std::string> streams;
  for (auto& point : points) {
    std::string stream = point.stream;
    for (int n = 2; !streams.insert(point.stream).second; ++n) point.stream = fmt::format("{}-{}", stream, n);
  }
  return points;
}

SysfsDriver::SysfsDriver(const SysfsSettings& settings, OnBusy on_busy) : settings_(settings), on_busy_(on_busy) {
  for (auto point : settings.points) {
    point.path = settings.root / point.path;
    watched_.push_back({std::move(point)});
  }
}

/// Adds what is new. What is gone stays, so that its loss is told and its return is seen.
void SysfsDriver::look_around() {
  for (auto& point : discover_sysfs(settings_.root, settings_.discover)) {
    bool known = std::any_of(watched_.begin(), watched_.end(), [&](const Watched& watched) {
      return watched.point.path == point.path || watched.point.stream == point.stream;
    });
    if (!known && watched_.size() < kPoints) watched_.push_back({std::move(point)});
  }
}

Result<void> SysfsDriver::run(Outlet& outlet, const Clock& clock, std::stop_token stop) {
  PolledOutlet polled(outlet, on_busy_);
  std::optional<BootTime> looked;
  BootTime next = clock.boottime();
  while (!stop.stop_requested()) {
    if (!looked || clock.boottime() - *looked >= kLookAround) {
      look_around();
      looked = clock.boottime();
    }
    std::vector<Record> records = poll();
    auto bad =
        std::count_if(watched_.begin(), watched_.end(), [](const Watched& w) { return w.health != Health::fine; });
    outlet.say(watched_.empty() ? fmt::format("no sensors found under {}", settings_.root.string())
               : bad > 0        ? fmt::format("{} files, {} of them unreadable or no number", watched_.size(), bad)
                                : fmt::format("{} files", watched_.size()));
    if (!records.empty()) {
      if (auto put = polled.put(std::move(records), stop); !put) {
        return stop.stop_requested() ? Result<void>() : put;
      }
    }
    next = std::max<BootTime>(next + settings_.interval, clock.boottime());
    clock.sleep(next - clock.boottime(), stop);
  }
  return {};
}

std::vector<Record> SysfsDriver::poll() {
  std::vector<Record> records;
  for (auto& watched : watched_) read(watched, records);
  return records;
}

void SysfsDriver::read(Watched& watched, std::vector<Record>& records) {
  const auto& point = watched.point;
  auto become = [&](Health health, const char* state, const std::string& error) {
    if (watched.health == health) return;
    bool first = watched.health == Health::unknown;
    watched.health = health;
    if (first && health == Health::fine) return;  // nothing to tell
    nlohmann::ordered_json body{{"file", point.path.string()}, {"state", state}};
    if (!error.empty()) body["error"] = error;
    records.push_back(json_record(point, Kind::event, body));
  };

  FileText file = read_file(point.path);
  if (file.error != 0) {
    become(Health::unreadable, "unreadable", std::generic_category().message(file.error));
    return;
  }
  auto value = number_in(file.text);
  if (value) {
    become(Health::fine, "back", "");
    records.push_back(reading(point, *value * point.scale + point.offset));
    return;
  }
  std::string raw = file.text.substr(0, 200);
  become(Health::garbage, "garbage", "not a number");
  records.push_back(json_record(point, Kind::reading, {{"value", nullptr}, {"raw", raw}}));
  records.back().quality = Quality::bad;
}

DriverType sysfs_driver() {
  using namespace std::chrono_literals;
  KeyTable point = Keys<SysfsPoint>()
                       .key("path", &SysfsPoint::path, "the file; relative to root unless it begins with /")
                       .required()
                       .example("\"class/hwmon/hwmon0/temp1_input\"")
                       .key("stream", &SysfsPoint::stream, "its stream")
                       .required()
                       .example("\"cabinet/temperature\"")
                       .key("scale", &SysfsPoint::scale, "value = number in the file * scale + offset")
                       .key("offset", &SysfsPoint::offset, "see scale")
                       .key("unit", &SysfsPoint::unit, "in UCUM: \"Cel\", \"V\", \"%\"");
  return {"sysfs", "thermal zones, hwmon chips and any numeric file",
          Keys<SysfsSettings>()
              .key("root", &SysfsSettings::root, "where the tree is")
              .key("discover", &SysfsSettings::discover, "what to look for by itself: \"thermal\", \"hwmon\"")
              .check([](const std::string& name) {
                return name == "thermal" || name == "hwmon" ? "" : "\"thermal\" or \"hwmon\"";
              })
              .tables("points", &SysfsSettings::points, point, "files to read besides")
              .key("interval", &SysfsSettings::interval, "time between two readings")
              .between(10ms, 24h)
              .verify([](const SysfsSettings& settings, Complaints& say) {
                std::set<std::string> streams;
                for (const auto& one : settings.points) {
                  if (!streams.insert(one.stream).second) {
                    say.problem("points", fmt::format("have stream \"{}\" twice, expected each once", one.stream));
                  }
                }
              }),
          [](const DriverSection& section) {
            return std::make_unique<SysfsDriver>(*section.settings.as<SysfsSettings>(), section.on_busy);
          }};
}

}  // namespace penstock
