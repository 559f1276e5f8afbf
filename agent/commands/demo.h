// What `penstock demo` does once its options are read: for the command, and for tests that break its proof.
#pragma once

#include <cstdio>

#include "agent/commands/command.h"
#include "agent/demo/demo.h"

namespace penstock {

/// Runs a demo to its end or to a signal, shows it on `out` and says there what was proven; what went wrong on `errors`.
/// Takes SIGINT and SIGTERM while it runs: call it before other threads begin, or with them blocked.
ExitStatus show_demo(const DemoSettings& settings, std::FILE* out, std::FILE* errors);

}  // namespace penstock
