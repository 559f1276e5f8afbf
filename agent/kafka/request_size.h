// RequestSize: how large a produce request may be, before compression: librdkafka's batch.size.
//
// librdkafka sends one request at a time to a partition (its idempotent producer counts messages where the protocol allows five
// requests), so over a long way the size of a request is the rate. What a broker takes is limited after compression (max.message.bytes
// of the topic, 1 MiB by default), which is not known before; and on a slow link one must not take so long that it times out
// (socket.timeout.ms). So: large at first, smaller when one is refused, or when it is known how slow the link is.
//
// A plain value, one thread. In RAM only: another life begins with the largest.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>

#include "buffer/clock.h"

namespace penstock {

class RequestSize {
 public:
  static constexpr std::size_t kLargest = 4'000'000, kSmallest = 1'000'000;

  /// For the next producer. A refusal counts for a day: what is sent may compress better by then.
  std::size_t bytes(BootTime now) {
    if (refused_ && now - *refused_ > std::chrono::hours(24)) {
      refused_.reset();
      bytes_ = kLargest;
    }
    return std::clamp(in_three_seconds_, kSmallest, bytes_);
  }

  /// A transaction of so many bytes took so long.
  void moved(std::size_t bytes, BootTime took) {
    if (bytes < kSmallest / 10) return;  // only round trips
    const double rate = static_cast<double>(bytes) / static_cast<double>(std::max<BootTime>(took, BootTime(1)).count());
    const double three_seconds = static_cast<double>(BootTime(std::chrono::seconds(3)).count());
    in_three_seconds_ = static_cast<std::size_t>(std::min(rate * three_seconds, static_cast<double>(kLargest)));
  }

  /// The brokers have refused one for its size. False: it was of the smallest already, so it is for a record in it.
  bool refused(BootTime now) {
    const std::size_t was = bytes(now);
    refused_ = now;
    bytes_ = std::max(was / 2, kSmallest);
    return was > kSmallest;
  }

 private:
  std::size_t bytes_ = kLargest, in_three_seconds_ = kLargest;
  std::optional<BootTime> refused_;
};

}  // namespace penstock
