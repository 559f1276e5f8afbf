// A clock that a test ticks by hand. sleep() returns at once after ticking by the duration asked for.
#pragma once

#include <mutex>

#include "buffer/clock.h"

namespace penstock {

class FakeClock final : public Clock {
  template <class Call>
  auto guarded(Call call) const {
    std::lock_guard lock(mutex_);
    return call();
  }

 public:
  explicit FakeClock(WallTime wall = WallTime(std::chrono::seconds(1'780'000'000))) : wall_(wall) {}

  WallTime wall() const override {
    return guarded([&] { return wall_; });
  }
  BootTime boottime() const override {
    return guarded([&] { return boottime_; });
  }
  Boot boot() const override {
    return guarded([&] { return boot_; });
  }
  bool synchronised() const override {
    return guarded([&] { return synchronised_; });
  }
  bool sleep(std::chrono::nanoseconds duration, std::stop_token stop) const override {
    tick(std::chrono::ceil<std::chrono::microseconds>(duration));
    return !stop.stop_requested();
  }

  void tick(std::chrono::microseconds by) const {
    guarded([&] { return wall_ += by, boottime_ += by, 0; });
  }
  void set_wall(WallTime wall) {
    guarded([&] { return wall_ = wall, 0; });
  }
  void set_synchronised(bool on) {
    guarded([&] { return synchronised_ = on, 0; });
  }
  void reboot() {
    guarded([&] { return boot_ = draw<Boot>(), boottime_ = {}, 0; });
  }

 private:
  mutable std::mutex mutex_;
  mutable WallTime wall_;
  mutable BootTime boottime_{std::chrono::seconds(100)};
  Boot boot_ = draw<Boot>();
  bool synchronised_ = true;
};

}  // namespace penstock
