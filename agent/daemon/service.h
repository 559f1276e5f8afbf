// Service: what the outside world of a daemon asks of it: signals, systemd's notifications and watchdog, the log.
//
// Signals and the log are set up by the main thread before any other thread begins.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace penstock {

/// Blocks SIGTERM, SIGINT and SIGHUP in this thread and all it starts, and ignores SIGPIPE, for as long as it lives.
class Signals {
 public:
  enum class Kind { stop, reload };
  Signals();
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  /// The next one that comes within `most`.
  std::optional<Kind> wait(std::chrono::milliseconds most);
};

/// Tells systemd, if it started us: "READY=1\nSTATUS=...". Does nothing otherwise. sd_notify(3)
void notify_systemd(const std::string& text);
/// How often systemd wants to hear from us; nothing when it does not. sd_watchdog_enabled(3)
std::optional<std::chrono::microseconds> watchdog_interval();

/// The default logger: to stderr; with sd-daemon(3)'s level prefixes and without time when stderr is the journal.
void set_up_log();

}  // namespace penstock
