#include "drivers/table.h"

#include "drivers/mqtt/mqtt.h"
#include "drivers/simulator.h"
#include "drivers/sysfs.h"

namespace penstock {

const std::vector<DriverType>& driver_types() {
  static const std::vector<DriverType> table = {
      // One line a driver, by name.
      mqtt_driver(),
      simulator_driver(),
      sysfs_driver(),
  };
  return table;
}

const DriverType* find_driver_type(const std::string& name) {
  for (const auto& type : driver_types()) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

std::vector<DriverKind> driver_kinds() {
  std::vector<DriverKind> kinds;
  for (const auto& type : driver_types()) kinds.push_back({type.name, type.summary, type.keys});
  return kinds;
}

}  // namespace penstock
