// LossLog: what was given up, as log lines. Every loss is told, and a flood of losses is one line a minute for each cause.
//
// A plain value; one thread.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "buffer/clock.h"
#include "buffer/record.h"

namespace penstock {

class LossLog {
 public:
  using GivenUp = std::vector<std::pair<Cause, std::uint64_t>>;  // per cause, in records, since the start

  /// The lines that are due at `now`: for each cause whose count has risen, if its last line is a minute old.
  std::vector<std::string> due(const GivenUp& given_up, BootTime now);
  /// All that was not told yet: at the end.
  std::vector<std::string> rest(const GivenUp& given_up);

 private:
  struct Told {
    std::uint64_t count = 0;
    BootTime at{};
  };
  std::map<Cause, Told> told_;
};

}  // namespace penstock
