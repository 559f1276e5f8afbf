// Config: one TOML file -> Settings, or all that is wrong with it at once, each as
// `file:line:column: what is wrong, what was expected, did you mean X`.
//
// config/ knows no driver: their key tables are passed in as DriverKinds (drivers/table.h has them). Reading never
// throws and touches nothing but the file and the secret files it names. Any thread.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "config/keys.h"
#include "config/settings.h"
#include "config/value.h"

namespace penstock {

/// What a driver's `type` means: as data, given from above.
struct DriverKind {
  std::string name;     // type = "name"
  std::string summary;  // one line
  KeyTable keys;        // besides type, lane and on_busy, which every driver has
};

struct Loaded {
  std::string file;
  Settings settings;              // to be used only when ok()
  std::vector<Problem> problems;  // by their place
  std::vector<Problem> warnings;  // by their place
  bool ok() const { return problems.empty(); }
  /// One line each, first the problems, then the warnings: what `check` and `run` print.
  std::string report() const;
};

Loaded load(const std::filesystem::path& file, const std::vector<DriverKind>& kinds,
            const Variables& environment = process_environment());

struct FileFacts {
  std::string name = "penstock.toml";
  std::filesystem::path directory;  // where a relative secret file is looked for
  bool readable_by_all = false;
};
/// The same of a text.
Loaded load_text(std::string_view text, const FileFacts& facts, const std::vector<DriverKind>& kinds,
                 const Variables& environment = process_environment());

/// One section of the file, for load() and for what is generated of it.
struct Section {
  std::string name;  // "agent"
  std::string doc;
  KeyTable keys;
  bool named = false;  // [lanes.NAME]
};
/// In the order of the example: agent, buffer, lanes, kafka, http, drivers (what every driver has).
const std::vector<Section>& sections();

}  // namespace penstock
