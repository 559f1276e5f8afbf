#include "buffer/watermark.h"

#include <chrono>

namespace penstock {

void Watermark::raise(std::uint64_t value) {
  std::vector<std::function<void()>> subscribers;
  {
    std::lock_guard lock(mutex_);
    if (value <= value_.load(std::memory_order_relaxed)) return;
    value_.store(value, std::memory_order_release);
    subscribers = subscribers_;
  }
  risen_.notify_all();
  for (const auto& call : subscribers) call();
}

bool Watermark::wait(std::uint64_t value, std::stop_token stop) const {
  std::unique_lock lock(mutex_);
  return risen_.wait(lock, stop, [&] { return this->value() >= value; });
}

bool Watermark::wait_for(std::uint64_t value, std::chrono::nanoseconds timeout, std::stop_token stop) const {
  std::unique_lock lock(mutex_);
  return risen_.wait_for(lock, stop, timeout, [&] { return this->value() >= value; });
}

void Watermark::subscribe(std::function<void()> call) {
  std::lock_guard lock(mutex_);
  subscribers_.push_back(std::move(call));
}

}  // namespace penstock
