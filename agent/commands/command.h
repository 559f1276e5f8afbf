// Command: one word of the command line. Each has a file of its own here, which exposes one function: it puts the
// command's options on its CLI::App and a callback that runs it and sets the exit status. main.cpp has the table.
//
// Results go to stdout, everything else to stderr.
#pragma once

namespace CLI {
class App;
}

namespace penstock {

/// What the process ends with.
enum ExitStatus : int {
  kDone = 0,
  kFailed = 1,
  kProofFailed = 2,  // a proof was made and did not hold
  kUsage = 64,       // the command line cannot be understood
  kBadConfig = 78,   // the configuration file has problems
};

struct Command {
  const char* name;
  const char* summary;
  void (*add)(CLI::App& app, int& status);
};

/// Where the configuration is when `-c` does not say.
constexpr const char* kDefaultConfig = "/etc/penstock/penstock.toml";

void add_check(CLI::App& app, int& status);
void add_config(CLI::App& app, int& status);
void add_demo(CLI::App& app, int& status);
void add_import(CLI::App& app, int& status);
void add_queue(CLI::App& app, int& status);
void add_verify(CLI::App& app, int& status);
void add_run(CLI::App& app, int& status);
void add_status(CLI::App& app, int& status);

}  // namespace penstock
