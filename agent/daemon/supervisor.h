// Supervisor: one thread for each driver, started again when it fails.
//
// A driver that returns an error, or throws (this is the only place where that is caught), waits 1 s doubling to 60 s
// with jitter and runs again; 60 s of good running begin at 1 s again. The change is told once: an event record on
// stream penstock/driver/<name> when it fails, and one with its first records afterwards (or after 60 s without any).
// Before it runs again all that it put is durable, so that state() shows what it remembered.
//
// Threads: start, stop, join, tick from one thread (the agent's main); status from any.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "agent/daemon/outlet.h"
#include "buffer/clock.h"
#include "drivers/driver.h"

namespace penstock {

enum class DriverState { starting, running, waiting, ended };
const char* name_of(DriverState state);

struct DriverStatus {
  std::string name, type;
  DriverState state = DriverState::starting;
  bool failed = false;  // since the last failure it has neither put a record nor run well for a while
  std::uint64_t failures = 0;
  std::string last_error;
  OutletStatus outlet;
};

class Supervisor {
 public:
  struct Settings {
    std::chrono::milliseconds backoff_first{1'000}, backoff_most{60'000};
    std::chrono::milliseconds good_after{60'000};
  };

  /// `clock` outlives it.
  Supervisor(const Clock& clock, const Settings& settings);
  /// Asks every driver to stop and waits for it, without limit: join() before.
  ~Supervisor();

  void start(std::string name, std::string type, std::unique_ptr<Driver> driver, std::unique_ptr<DriverOutlet> outlet);

  /// The agent is about to end: a driver that returns is not started again, and nothing is said about it.
  void retire() { retired_ = true; }
  /// Asks every driver to stop; returns at once.
  void stop();
  /// Asks one driver to stop, waits for at most `most`; true if it has ended and is forgotten.
  bool remove(const std::string& name, std::chrono::milliseconds most);
  /// Waits for at most `most` for the end of every driver; the names of those that have not ended.
  std::vector<std::string> join(std::chrono::milliseconds most);
  /// Once a second or so: tells of drivers that run well again without having put anything.
  void tick();

  std::vector<DriverStatus> status() const;

 private:
  class Supervised;
  const Clock& clock_;
  const Settings settings_;
  std::atomic<bool> retired_{false};
  mutable std::mutex mutex_;  // the list, not what is in it
  std::vector<std::unique_ptr<Supervised>> drivers_;
};

}  // namespace penstock
