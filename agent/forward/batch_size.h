// BatchSize: how much one transaction carries. An open transaction holds back every read_committed reader of its
// partitions, and one that is not done by its timeout was for nothing: so no more than the present link moves in a given time.
//
// A plain value; one thread. What was learnt is gone with the process, and learnt again within a few batches.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "buffer/clock.h"
#include "buffer/store.h"

namespace penstock {

class BatchSize {
 public:
  /// `bytes_a_second`: more than that the link surely does not move; 0: nothing is known of it.
  BatchSize(const BatchLimits& most, std::chrono::milliseconds time, std::uint64_t bytes_a_second = 0)
      : most_(most), time_(time), bytes_(std::min(kFirst, most.bytes)) {
    if (bytes_a_second == 0) return;
    const auto fits = static_cast<double>(bytes_a_second) * std::chrono::duration<double>(time).count();
    if (fits < static_cast<double>(bytes_)) bytes_ = std::max(std::min(kLeast, bytes_), static_cast<std::size_t>(fits));
  }

  BatchLimits limits() const { return {most_.records, bytes_}; }

  /// A batch of so many bytes (Record::bytes) was committed in that time; `full`: there was more to send.
  void committed(std::size_t bytes, BootTime took, bool full) {
    const double share = std::chrono::duration<double>(took) / std::max<BootTime>(time_, BootTime(1));
    const auto fits = static_cast<std::size_t>(static_cast<double>(bytes) / std::max(share, 1e-6));
    if (share > 1) {
      bytes_ = std::max(kLeast, std::min(bytes_, fits));
    } else if (full) {
      bytes_ = std::max(bytes_, std::min({kGrowth * bytes, fits, most_.bytes}));
    }
  }
  /// It may have been too much for the link.
  void failed() { bytes_ = std::max(std::min(kLeast, most_.bytes), bytes_ / 2); }

 private:
  static constexpr std::size_t kFirst = 256 << 10, kLeast = 16 << 10, kGrowth = 4;

  BatchLimits most_;
  std::chrono::milliseconds time_;
  std::size_t bytes_;
};

}  // namespace penstock
