// The records every part of the bench carries: JSON sensor readings of about 130 bytes, the same for everybody and for
// every run (a seed, not the clock, makes them).
//
// Plain functions, any thread.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "buffer/clock.h"
#include "buffer/record.h"

namespace penstock::bench {

class Samples {
 public:
  explicit Samples(std::uint32_t seed = 1) : random_(seed) {}

  /// The next reading of one of 200 sensors; times advance by about 10 ms.
  Record next();
  std::vector<Record> next(std::size_t count);

 private:
  std::minstd_rand random_;
  std::uint64_t number_ = 0;
  WallTime time_{std::chrono::microseconds(1'777'896'000'000'000)};
  BootTime boottime_{60'000'000};
};

std::uint64_t payload_bytes(const std::vector<Record>& records);

}  // namespace penstock::bench
