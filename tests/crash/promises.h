// What a store that was cut off at some instant still owes to those who heard its reports, and whether it keeps it.
//
// The victims (store_writer) and the checkers (store_kill_test, store_check) agree here: on the store's settings, on what
// a record holds (a function of its lane and sequence, the same in every life), and on the lines that report.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
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
///   begun LIFE 0                a new life, on what the ones before have left
///   aside LANE SEQUENCE         the record is a dead letter; said after the store was told, as durable is
///   retried LANE SEQUENCE       that dead letter will be retried; said before the store is told
///   discarded LANE SEQUENCE     the same of a discard
///   gone LANE SEQUENCE          it was
///   failed WHAT                 the store refused; the victim ends
struct Said {
  using Counts = std::map<std::string, std::uint64_t>;
  using Name = std::pair<std::string, std::uint64_t>;  // lane and sequence
  Counts durable, delivered;
  std::map<Name, std::string> letters;  // the last word of each; "tried": what came of it is not known any more
  std::string failure;
  std::size_t lines = 0;

  void hear(const std::string& text);      // whole lines
  std::vector<std::string> again() const;  // lines that say the same
};

/// Sets a record aside, or retries or discards a dead letter, or does nothing, as `pick(low, high)` says. Never so many
/// dead letters that one would have to make room. `say` is given the lines.
Result<void> refuse_some(Store& store, const std::function<std::uint64_t(std::uint64_t, std::uint64_t)>& pick,
                         const std::function<void(const std::string&)>& say);

/// Empty if everything that was said holds: nothing durable is missing, each record is what was put, in order and without
/// holes but for gaps that are told as evicted or as dead letters, each state is that of the last commit, and nothing
/// counts as delivered that never was. What was set aside is never a record again under its sequence: it is a dead letter,
/// or a retry, or was discarded; one of them only. Else what is wrong.
std::string broken_promise(Store& store, const Said& said);

/// The same of a directory; then the store takes three more commits, is opened once more, and still has them all.
std::string broken_promise(const std::string& directory, std::uint64_t capacity_bytes, const Said& said);

}  // namespace penstock
