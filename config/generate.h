// Generate: the JSON Schema, the reference page and the example file, from the same key tables that read the file.
//
// Pure functions of the key tables; their output is stable, so that the checked-in copies can be compared with it.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace penstock {

/// JSON Schema (draft 2020-12), for editors.
std::string json_schema(const std::vector<DriverKind>& kinds);
/// docs/configuration.md.
std::string reference_page(const std::vector<DriverKind>& kinds);
/// config/penstock.example.toml: every key; what has a default is commented out as `#key = value`.
std::string example_file(const std::vector<DriverKind>& kinds);

}  // namespace penstock
