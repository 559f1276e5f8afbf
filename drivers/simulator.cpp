#include "drivers/simulator.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "drivers/polled.h"

namespace penstock {
namespace {

struct Quantity {
  const char* name;
  const char* unit;  // UCUM
  int least, most, step;
};
constexpr Quantity kQuantities[] = {
    {"temperature", "Cel", 1500, 9500, 40}, {"pressure", "bar", 80, 1200, 10},  {"humidity", "%", 1500, 9800, 50},
    {"current", "A", 0, 3200, 60},          {"vibration", "mm/s", 5, 1100, 25},
};
constexpr std::chrono::milliseconds kTick{10};
constexpr std::uint64_t kGroupRecords = 1000;
constexpr std::uint64_t kGroupBytes = 256 << 10;

}  // namespace

SimulatedSensors::SimulatedSensors(const SimulatorSettings& settings)
    : payload_bytes_(settings.payload_bytes), random_(settings.seed) {
  for (std::uint32_t i = 0; i < settings.sensors; ++i) {
    const auto& quantity = kQuantities[i % std::size(kQuantities)];
    int value = quantity.least + static_cast<int>(random() % static_cast<unsigned>(quantity.most - quantity.least));
    sensors_.push_back({fmt::format("sim/{}/{:04}", quantity.name, i / std::size(kQuantities) + 1), quantity.unit,
                        quantity.least, quantity.most, quantity.step, value});
  }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same on every machine and library.
std::uint64_t SimulatedSensors::random() {
  std::uint64_t z = random_ += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

Record SimulatedSensors::next() {
  auto& sensor = sensors_[turn_++ % sensors_.size()];
  int step = static_cast<int>(random() % static_cast<unsigned>(2 * sensor.step + 1)) - sensor.step;
  sensor.value = std::clamp(sensor.value + step, sensor.least, sensor.most);

  Record record;
  record.stream = sensor.stream;
  record.content_type = "application/json";
  record.payload =
      fmt::format(R"({{"value":{}.{:02},"unit":"{}"}})", sensor.value / 100, sensor.value % 100, sensor.unit);
  constexpr std::string_view kPad = R"(,"pad":""})";
  if (record.payload.size() < payload_bytes_) {
    record.payload.pop_back();
    record.payload += kPad.substr(0, kPad.size() - 2);
    std::uint64_t letters = 0;
    while (record.payload.size() + 2 < payload_bytes_) {
      if (letters < 26) letters = random();
      record.payload += static_cast<char>('a' + letters % 26);
      letters /= 26;
    }
    record.payload += "\"}";
  }
  return record;
}

SimulatorDriver::SimulatorDriver(const SimulatorSettings& settings, OnBusy on_busy)
    : settings_(settings), on_busy_(on_busy), sensors_(settings) {}

Result<void> SimulatorDriver::run(Outlet& outlet, const Clock& clock, std::stop_token stop) {
  PolledOutlet polled(outlet, on_busy_);
  outlet.say(settings_.rate > 0 ? fmt::format("{} sensors, {} readings/s", settings_.sensors, settings_.rate)
                                : fmt::format("{} sensors, as fast as the queue takes them", settings_.sensors));
  const std::uint64_t most = std::clamp<std::uint64_t>(kGroupBytes / (settings_.payload_bytes + 100), 1, kGroupRecords);
  const auto tick = settings_.rate > 0
                        ? std::max<std::chrono::nanoseconds>(
                              kTick, std::chrono::nanoseconds(static_cast<std::int64_t>(1e9 / settings_.rate)))
                        : std::chrono::nanoseconds(0);
  BootTime began = clock.boottime();
  double done = 0;  // since `began`
  while (!stop.stop_requested()) {
    if (settings_.limit && made_ >= *settings_.limit) {
      outlet.say(fmt::format("done after {} readings", made_));
      clock.sleep(std::chrono::hours(1), stop);
      continue;
    }
    std::uint64_t count = most;
    if (settings_.rate > 0) {
      double due = std::chrono::duration<double>(clock.boottime() - began).count() * settings_.rate + 1 - done;
      // A sensor does not catch up: what a wait of more than a second prevented was never measured.
      if (double late = due - std::max(settings_.rate, 1.0); late > 0)
        done += std::floor(late), due -= std::floor(late);
      count = std::min<std::uint64_t>(most, static_cast<std::uint64_t>(due));
      if (count == 0) {
        clock.sleep(tick, stop);
        continue;
      }
    }
    if (settings_.limit) count = std::min(count, *settings_.limit - made_);
    std::vector<Record> records;
    records.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) records.push_back(sensors_.next());
    made_ += count;
    done += static_cast<double>(count);
    if (auto put = polled.put(std::move(records), stop); !put) {
      return stop.stop_requested() ? Result<void>() : put;
    }
  }
  return {};
}

DriverType simulator_driver() {
  return {"simulator", "synthetic sensors at a rate, with a seed",
          Keys<SimulatorSettings>()
              .key("sensors", &SimulatorSettings::sensors, "how many sensors")
              .between(1, 100'000)
              .key("rate", &SimulatorSettings::rate,
                   "readings a second of all sensors together; 0: as fast as the queue takes them")
              .between(0, 1'000'000)
              .key("seed", &SimulatorSettings::seed, "the same seed gives the same readings")
              .size("payload_bytes", &SimulatorSettings::payload_bytes, "payloads are padded to this size")
              .between(0, 1 << 20)
              .key("limit", &SimulatorSettings::limit, "stop after so many readings")
              .unit("readings"),
          [](const DriverSection& section) {
            return std::make_unique<SimulatorDriver>(*section.settings.as<SimulatorSettings>(), section.on_busy);
          }};
}

}  // namespace penstock
