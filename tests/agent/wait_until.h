// Waiting for a condition of another thread: bounded, and without a guess how long it takes.
#pragma once

#include <chrono>
#include <thread>

namespace penstock {

/// True as soon as `holds()`; false after 20 s, which is a failure wherever this is used.
template <class Condition>
bool wait_until(Condition holds, std::chrono::seconds most = std::chrono::seconds(20)) {
  auto end = std::chrono::steady_clock::now() + most;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace penstock
