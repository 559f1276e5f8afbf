// penstock config: what is generated from the key tables.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "agent/commands/command.h"
#include "config/generate.h"
#include "drivers/table.h"

namespace penstock {

void add_config(CLI::App& app, int& status) {
  struct Print {
    const char* name;
    const char* summary;
    std::string (*make)(const std::vector<DriverKind>&);
  };
  static constexpr Print kPrints[] = {
      {"schema", "JSON Schema of the configuration file, for editors", json_schema},
      {"example", "a commented configuration file with every key", example_file},
      {"reference", "every key with its type, default and meaning, as Markdown", reference_page},
  };
  app.require_subcommand(1);
  for (const auto& print : kPrints) {
    app.add_subcommand(print.name, print.summary)->callback([&print, &status] {
      std::fputs(print.make(driver_kinds()).c_str(), stdout);
      status = kDone;
    });
  }
}

}  // namespace penstock
