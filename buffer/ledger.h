// Ledger: what was given up and is not yet known to be in Kafka. A plain value; the store copies it for each commit.
//
// An entry with a range speaks of numbered records; it ends when the delivered mark passes it. An entry without a range
// counts what never got a number; it ends when the checkpoint's ledger number reaches it, so it must not grow any more
// once it was handed out (`closed`).
#pragma once

#include <cstdint>
#include <map>
#include <set>

#include "buffer/clock.h"
#include "buffer/identity.h"
#include "buffer/record.h"

namespace penstock {

struct LedgerEntry {
  Cause cause = Cause::evicted;
  Lane lane{};
  Sequence first, last;  // 0, 0: no range
  std::uint64_t count = 0;
  WallTime time{};
  bool ranged() const { return first != Sequence(); }
};

class Ledger {
 public:
  using Entries = std::map<std::uint64_t, LedgerEntry>;

  const Entries& entries() const { return entries_; }
  /// The highest number ever given.
  std::uint64_t last_number() const { return last_number_; }
  /// Entries whose row on disk must be written or erased, since forget_changes().
  const std::set<std::uint64_t>& changed() const { return changed_; }
  void forget_changes() { changed_.clear(); }

  /// As read from disk.
  void load(std::uint64_t number, const LedgerEntry& entry);
  void load_last_number(std::uint64_t number) { last_number_ = std::max(last_number_, number); }

  /// Adds entry.first..last, joining what it touches of the same lane and cause, but nothing below `epoch_first`.
  void add_range(const LedgerEntry& entry, Sequence epoch_first);
  /// Adds a count without a range, to the newest such entry above `closed` or as a new one.
  void add_count(const LedgerEntry& entry, std::uint64_t closed);
  /// Ends an entry without a range; leaves others alone.
  void strike(std::uint64_t number);
  /// Takes everything of `lane` up to `delivered` out of the ranges.
  void clip(Lane lane, Sequence delivered);

  /// The entry whose range holds `sequence`; null: none.
  const LedgerEntry* covering(Lane lane, Sequence sequence, std::uint64_t* number = nullptr) const;
  /// The lowest range of the lane that begins at or after `sequence`.
  const LedgerEntry* following(Lane lane, Sequence sequence, std::uint64_t* number = nullptr) const;
  /// Every one of first..last lies in some range.
  bool covers(Lane lane, Sequence first, Sequence last) const;

 private:
  Entries entries_;
  std::uint64_t last_number_ = 0;
  std::set<std::uint64_t> changed_;
};

}  // namespace penstock
