// The tally of a test binary: how many cases passed, failed, were skipped. `./dev test` adds up the line it prints when
// PENSTOCK_TALLY is set. Threads: the test thread alone. Included by tests/main.cpp and the reporter.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace penstock {

class Tally {
 public:
  void begin(std::string name) {
    name_ = std::move(name);
    skipped_because_.reset();
  }
  void skip(const std::string& why) { skipped_because_ = why; }
  void end(bool good) {
    if (!good) {
      ++failed_;
    } else if (skipped_because_) {
      ++skipped_;
    } else {
      ++passed_;
    }
  }

  const std::string& name() const { return name_; }
  const std::optional<std::string>& skipped_because() const { return skipped_because_; }
  std::string line() const {
    return std::to_string(passed_) + " passed, " + std::to_string(failed_) + " failed, " + std::to_string(skipped_) +
           " skipped";
  }

 private:
  std::string name_;
  std::optional<std::string> skipped_because_;
  std::size_t passed_ = 0, failed_ = 0, skipped_ = 0;
};

Tally& tally();

}  // namespace penstock
