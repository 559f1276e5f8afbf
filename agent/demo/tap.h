// Tap: stands between the demo's drivers and their Outlets. Enters every record in the Account before it is handed over,
// and can be closed: then the drivers stop while the rest of the agent goes on and empties the queue.
//
// The drivers and Outlets are the real ones and notice nothing but one more header, `demo_number`.
// Threads: wrap before the agent starts; each wrapped driver runs in its own thread; close and closed from any.
// The Account and the Tap outlive the drivers.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "agent/demo/account.h"
#include "drivers/driver.h"

namespace penstock {

/// The header by which the receiver knows a record again.
inline constexpr const char* kNumberHeader = "demo_number";

class Tap {
 public:
  explicit Tap(Account& account) : account_(account) {}
  Tap(const Tap&) = delete;
  Tap& operator=(const Tap&) = delete;

  /// `name`: the driver's in the agent, which is part of what must arrive.
  std::unique_ptr<Driver> wrap(std::string name, std::unique_ptr<Driver> driver);

  /// Asks every wrapped driver to stop; returns at once.
  void close() { closing_.request_stop(); }
  /// True once each has stopped and all that it handed over is on disk.
  bool closed() const { return open_ == 0; }

 private:
  class Counted;
  Account& account_;
  std::stop_source closing_;
  std::atomic<int> open_{0};
};

}  // namespace penstock
