// What a store that was cut off at some instant still owes to those who heard its reports, and whether it keeps it.
//
// The victims (store_writer) and the checkers (store_kill_test, store_check) agree here: on the store's settings, on what
// a record holds (a function of its lane and sequence, the same in every life), and on the lines that report.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "buffer/store.h"

namespace penstock {

StoreSettings crash_settings(const std::string& directory, std::uint64_t capacity_bytes);

std::string payload_of(const std::string& lane, std::uint64_t sequence);

/// A group for each lane with as many records as `count()` says, and with them the state that belongs to the last one.
std::vector<Group> next_groups(const Store& store, const Clock& clock, const std::function<std::uint64_t()>& count);

/// What a victim said so far, per lane. One line each:
///   durable LANE SEQUENCE       the store said so
///   delivered LANE SEQUENCE     a batch up to there is with the reader of these lines; said before the store is told
///   failed WHAT                 the store refused; the victim ends
struct Said {
  using Counts = std::map<std::string, std::uint64_t>;
  Counts durable, delivered;
  std::string failure;
  std::size_t lines = 0;

  void hear(const std::string& text);  // whole lines
};

/// Empty if everything that was said holds: nothing durable is missing, each record is what was put, in order and without
/// holes but for gaps that are told as evicted, each state is that of the last commit, and nothing counts as delivered
/// that never was. Else what is wrong.
std::string broken_promise(Store& store, const Said& said);

/// The same of a directory; then the store takes three more commits, is opened once more, and still has them all.
std::string broken_promise(const std::string& directory, std::uint64_t capacity_bytes, const Said& said);

}  // namespace penstock
