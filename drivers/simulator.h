// simulator: synthetic sensors at a rate. For trying out, for load, for tests; its n-th reading depends on the seed and
// n alone, on any machine.
//
// A sensor's value walks in small steps between two bounds. Streams are sim/<quantity>/<number>, payloads
// {"value":21.53,"unit":"Cel"}, made longer with a "pad" of random letters when payload_bytes asks for it.
// One thread, the driver's. It remembers nothing: a new process begins at the first reading again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "drivers/driver.h"
#include "drivers/table.h"

namespace penstock {

struct SimulatorSettings {
  std::uint32_t sensors = 10;
  double rate = 10;  // readings a second of all sensors together; 0: as fast as the queue takes them
  std::uint64_t seed = 1;
  std::uint64_t payload_bytes = 0;     // at least so long
  std::optional<std::uint64_t> limit;  // so many readings, then silence
  bool operator==(const SimulatorSettings&) const = default;
};

/// Where the readings come from: a pure sequence.
class SimulatedSensors {
 public:
  explicit SimulatedSensors(const SimulatorSettings& settings);
  Record next();

 private:
  struct Sensor {
    std::string stream;
    const char* unit;
    int least, most, step;  // in hundredths of the unit
    int value;
  };
  std::uint64_t random();

  const std::uint64_t payload_bytes_;
  std::uint64_t random_;
  std::size_t turn_ = 0;
  std::vector<Sensor> sensors_;
};

class SimulatorDriver final : public Driver {
 public:
  SimulatorDriver(const SimulatorSettings& settings, OnBusy on_busy);
  Result<void> run(Outlet& outlet, const Clock& clock, std::stop_token stop) override;

 private:
  const SimulatorSettings settings_;
  const OnBusy on_busy_;
  SimulatedSensors sensors_;
  std::uint64_t made_ = 0;
};

DriverType simulator_driver();

}  // namespace penstock
