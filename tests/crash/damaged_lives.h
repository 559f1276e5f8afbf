// What the lives of a damaged store come to: stores to damage, and a judge of what its next lives make of it.
//
// Each life is a child process: it opens the store, reads and delivers all there is, and goes on writing. A life may end
// by saying `broken`, as a supervisor would then start it again; it may not die.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>

#include "buffer/store.h"

namespace penstock::damage {

using Random = std::mt19937_64;

inline std::uint64_t pick(Random& random, std::uint64_t low, std::uint64_t high) {
  return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
}

/// What was true of the store when it was damaged.
struct Truth {
  std::map<std::string, std::uint64_t> delivered, last;
  std::set<std::pair<std::string, std::uint64_t>> aside;  // dead letters
  std::uint64_t waiting() const {
    std::uint64_t sum = 0;
    for (const auto& [lane, end] : last) sum += end - delivered.at(lane);
    return sum;
  }
};

StoreSettings settings_of(const std::filesystem::path& directory, std::uint64_t mebibytes = 8);

/// Some thousand records in two lanes, large ones among them, states, several runs, a fork, a part delivered and deleted,
/// a few dead letters. In `directory` as a killed process leaves it.
Truth make_store(const std::filesystem::path& work, const std::filesystem::path& directory, Random& random);

/// As little as has one of everything: two lanes, states, two runs, what is delivered, sealed, and in the journal only. Its
/// capacity is 1 MiB.
Truth make_small_store(const std::filesystem::path& work, const std::filesystem::path& directory);

struct Outcome {
  bool mended = false, anew = false, refused = false;
  int lives = 0;
  std::uint64_t back = 0;     // undelivered records that came through
  std::uint64_t told = 0;     // ...that are in the ledger
  std::string says, failure;  // failure: what must never be
};

/// Lives on the store until one ends well, or refuses, four at most. `newest_may_be_missing`: what came last may be gone
/// without a word.
Outcome live_on(const Truth& truth, bool newest_may_be_missing, const StoreSettings& settings);

}  // namespace penstock::damage
