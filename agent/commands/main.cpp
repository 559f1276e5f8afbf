// The command line of Penstock: a table of commands.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "agent/commands/command.h"
#include "agent/version.h"

namespace {

constexpr penstock::Command kCommands[] = {
    {"run", "run the agent: what the configuration names, into the queue, into Kafka", penstock::add_run},
    {"check", "read a configuration as `run` would and say all that is wrong with it", penstock::add_check},
    {"demo", "the whole path without configuration or Kafka: live, with a proof at the end", penstock::add_demo},
    {"status", "what the running agent does", penstock::add_status},
    {"queue", "what lies in the queue: list, peek, export, check, dead letters, repair", penstock::add_queue},
    {"import", "historical data, CSV or JSON lines, into the queue; goes on where it was left off",
     penstock::add_import},
    {"config", "print the configuration's JSON Schema, an example, or its reference", penstock::add_config},
    {"verify", "prove from Kafka alone that nothing is missing, doubled or out of order", penstock::add_verify},
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Penstock: sensors and MQTT -> a durable queue on this machine -> exactly once into Kafka", "penstock");
  app.set_version_flag("--version", penstock::version());
  app.require_subcommand(1);
  int status = penstock::kDone;
  for (const auto& command : kCommands) {
    command.add(*app.add_subcommand(command.name, command.summary), status);
  }

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? penstock::kDone : penstock::kUsage;
  } catch (const std::exception& problem) {  // no memory; fmt::print on a full disk
    std::fprintf(stderr, "penstock: %s\n", problem.what());
    return penstock::kFailed;
  }

  if ((std::fflush(stdout) != 0 || std::ferror(stdout) != 0) && status == penstock::kDone) {
    std::fputs("penstock: the result could not be written to stdout\n", stderr);
    status = penstock::kFailed;
  }
  // Threads may have been left behind in calls that cannot be ended (a commit to a Kafka that is away): they must not
  // meet the destruction of what they still use. Everything that has to be on disk is there by now.
  std::fflush(nullptr);
  std::_Exit(status);
}
