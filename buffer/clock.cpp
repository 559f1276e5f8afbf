#include "buffer/clock.h"

#include <sys/random.h>
#include <sys/timex.h>
#include <time.h>

#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <string>

namespace penstock {
namespace {

std::chrono::microseconds clock_reading(clockid_t id) {
  timespec now{};
  clock_gettime(id, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::microseconds(now.tv_nsec / 1000);
}

}  // namespace

std::array<std::uint8_t, 16> random_bytes() {
  std::array<std::uint8_t, 16> bytes;
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) std::abort();
  return bytes;
}

SystemClock::SystemClock() {
  std::string text;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> text;
  // Without /proc (a bare container) each process counts as a boot of its own: clock repair then never guesses.
  boot_ = Boot::from_hex(text).value_or(draw<Boot>());
}

WallTime SystemClock::wall() const { return WallTime(clock_reading(CLOCK_REALTIME)); }

BootTime SystemClock::boottime() const { return clock_reading(CLOCK_BOOTTIME); }

bool SystemClock::synchronised() const {
  timex state{};
  int result = adjtimex(&state);
  return result >= 0 && result != TIME_ERROR && (state.status & STA_UNSYNC) == 0;
}

bool SystemClock::sleep(std::chrono::nanoseconds duration, std::stop_token stop) const {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, stop, duration, [] { return false; });
  return !stop.stop_requested();
}

}  // namespace penstock
