// Table: every kind of driver there is. A new driver is one file, one line in table.cpp, one test with a fake device,
// one section in the docs.
//
// The driver's header has its settings (plain, comparable, defaults at the members) and says its type:
//
//   struct PressSettings { std::string port; ...; bool operator==(const PressSettings&) const = default; };
//   DriverType press_driver();
//
// Its .cpp has the key table, the class, and:
//
//   DriverType press_driver() {
//     return {"press", "reads the press's counter", press_keys(), [](const DriverSection& section) {
//               return std::make_unique<PressDriver>(*section.settings.as<PressSettings>());
//             }};
//   }
//
// Plain values; any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/keys.h"
#include "config/settings.h"
#include "drivers/driver.h"

namespace penstock {

struct DriverType {
  std::string name;     // type = "name" in [drivers.*]
  std::string summary;  // one line
  KeyTable keys;        // what it has besides type, lane and on_busy
  /// Makes the driver of a section that load() read with `keys`. Opens nothing: that is run()'s business.
  std::function<std::unique_ptr<Driver>(const DriverSection& section)> make;
};

/// By name.
const std::vector<DriverType>& driver_types();
/// nullptr when there is none of this name.
const DriverType* find_driver_type(const std::string& name);
/// The same for config/, which knows no driver.
std::vector<DriverKind> driver_kinds();

}  // namespace penstock
