// StopLimit: ends the process when an orderly stop takes too long. A thread that hangs must not keep systemd waiting;
// kill -9 is correct at any instant, and so is this.
//
// A resource with one thread of its own; its end within the limit calls it off.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace penstock {

class StopLimit {
 public:
  StopLimit(std::chrono::milliseconds limit, std::string why);

  /// Ends the process at once, with status 1.
  [[noreturn]] static void end_now(const std::string& why);

 private:
  std::mutex mutex_;
  std::condition_variable_any over_;
  std::jthread thread_;
};

}  // namespace penstock
