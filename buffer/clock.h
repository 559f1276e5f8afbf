// Clock: time is passed in, so that a test can tick it.
//
// Three times, never mixed: `wall` (may be wrong and may jump: a gateway boots without a real-time clock), `boottime`
// (CLOCK_BOOTTIME: only goes forward, counts suspend, starts at 0 with each boot) and the boot it belongs to.
// Every function is safe in any thread.
#pragma once

#include <chrono>
#include <stop_token>

#include "buffer/identity.h"

namespace penstock {

/// Microseconds since the Unix epoch.
using WallTime = std::chrono::sys_time<std::chrono::microseconds>;
/// Since this machine booted.
using BootTime = std::chrono::microseconds;

class Clock {
 public:
  virtual ~Clock() = default;

  virtual WallTime wall() const = 0;
  virtual BootTime boottime() const = 0;
  /// The same for the whole life of the process.
  virtual Boot boot() const = 0;
  /// True once the kernel knows the wall clock to be synchronised (adjtimex(2)).
  virtual bool synchronised() const = 0;

  /// Sleeps for `duration` or until a stop is asked for; false when it was stopped.
  virtual bool sleep(std::chrono::nanoseconds duration, std::stop_token stop) const = 0;
};

class SystemClock final : public Clock {
 public:
  SystemClock();

  WallTime wall() const override;
  BootTime boottime() const override;
  Boot boot() const override { return boot_; }
  bool synchronised() const override;
  bool sleep(std::chrono::nanoseconds duration, std::stop_token stop) const override;

 private:
  Boot boot_;
};

}  // namespace penstock
