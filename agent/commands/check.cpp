// penstock check: reads the configuration as `run` would and says all that is wrong.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "agent/commands/command.h"
#include "config/config.h"
#include "config/units.h"
#include "drivers/table.h"

namespace penstock {
namespace {

std::string summary(const Loaded& loaded) {
  const auto& settings = loaded.settings;
  std::vector<std::string> lanes, drivers;
  for (const auto& lane : settings.lanes) lanes.push_back(fmt::format("{} (priority {})", lane.name, lane.priority));
  for (const auto& driver : settings.drivers) {
    drivers.push_back(fmt::format("{} ({} -> {})", driver.name, driver.type, driver.lane));
  }
  std::string text = fmt::format("{}: ok\n", loaded.file);
  text += fmt::format("agent    {}, state in {}\n", settings.agent.id, settings.agent.state_directory.string());
  text += fmt::format("buffer   {}\n", print_size(settings.buffer.capacity_bytes));
  text += fmt::format("lanes    {}\n", fmt::join(lanes, ", "));
  text += fmt::format("drivers  {}\n", fmt::join(drivers, ", "));
  text += fmt::format("brokers  {}\n", fmt::join(settings.kafka.brokers, ", "));
  return text;
}

}  // namespace

void add_check(CLI::App& app, int& status) {
  auto file = std::make_shared<std::string>(kDefaultConfig);  // lives as long as the callback
  app.add_option("-c,--config", *file, "the configuration file")->capture_default_str();
  app.callback([file, &status] {
    auto loaded = load(*file, driver_kinds());
    std::fputs(loaded.report().c_str(), stderr);
    if (loaded.ok()) std::fputs(summary(loaded).c_str(), stdout);
    status = loaded.ok() ? kDone : kBadConfig;
  });
}

}  // namespace penstock
