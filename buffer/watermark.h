// Watermark: a mark that only rises, and waiting for it.
//
// Any thread may read, raise, wait or subscribe. Raising to a lower value does nothing.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stop_token>
#include <vector>

namespace penstock {

class Watermark {
 public:
  explicit Watermark(std::uint64_t start = 0) : value_(start) {}
  Watermark(const Watermark&) = delete;
  Watermark& operator=(const Watermark&) = delete;

  std::uint64_t value() const { return value_.load(std::memory_order_acquire); }

  /// Raises the mark to `value` if that is higher, wakes who waits, then calls the subscribers.
  void raise(std::uint64_t value);

  /// True once the mark is at least `value`; false when a stop was asked for before.
  bool wait(std::uint64_t value, std::stop_token stop) const;

  /// As wait, but for at most `timeout`; true only if the mark was reached.
  bool wait_for(std::uint64_t value, std::chrono::nanoseconds timeout, std::stop_token stop) const;

  /// `call` runs after every rise, in the thread that raised it, until the Watermark ends; it must be quick and must
  /// not touch this Watermark's subscribers. What it refers to must outlive the Watermark.
  void subscribe(std::function<void()> call);

 private:
  std::atomic<std::uint64_t> value_;
  mutable std::mutex mutex_;
  mutable std::condition_variable_any risen_;
  std::vector<std::function<void()>> subscribers_;
};

}  // namespace penstock
