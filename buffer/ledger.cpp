#include "buffer/ledger.h"

#include <algorithm>

namespace penstock {

void Ledger::load(std::uint64_t number, const LedgerEntry& entry) {
  entries_[number] = entry;
  load_last_number(number);
}

void Ledger::add_range(const LedgerEntry& entry, Sequence epoch_first) {
  for (auto& [number, old] : entries_) {
    if (!old.ranged() || old.lane != entry.lane || old.cause != entry.cause || old.first < epoch_first) continue;
    bool after = old.last.next() == entry.first;
    bool before = entry.last.next() == old.first;
    if (!after && !before) continue;
    (after ? old.last : old.first) = after ? entry.last : entry.first;
    old.count = count_between(old.first, old.last);
    changed_.insert(number);
    return;
  }
  entries_[++last_number_] = entry;
  entries_[last_number_].count = count_between(entry.first, entry.last);
  changed_.insert(last_number_);
}

void Ledger::add_count(const LedgerEntry& entry, std::uint64_t closed) {
  for (auto it = entries_.upper_bound(closed); it != entries_.end(); ++it) {
    auto& old = it->second;
    if (old.ranged() || old.lane != entry.lane || old.cause != entry.cause) continue;
    old.count += entry.count;
    changed_.insert(it->first);
    return;
  }
  entries_[++last_number_] = entry;
  changed_.insert(last_number_);
}

void Ledger::strike(std::uint64_t number) {
  auto found = entries_.find(number);
  if (found == entries_.end() || found->second.ranged()) return;
  entries_.erase(found);
  changed_.insert(number);
}

void Ledger::clip(Lane lane, Sequence delivered) {
  for (auto it = entries_.begin(); it != entries_.end();) {
    auto& entry = it->second;
    if (!entry.ranged() || entry.lane != lane || entry.first > delivered) {
      ++it;
      continue;
    }
    changed_.insert(it->first);
    if (entry.last <= delivered) {
      it = entries_.erase(it);
      continue;
    }
    entry.first = delivered.next();
    entry.count = count_between(entry.first, entry.last);
    ++it;
  }
}

const LedgerEntry* Ledger::covering(Lane lane, Sequence sequence, std::uint64_t* number) const {
  for (const auto& [n, entry] : entries_) {
    if (!entry.ranged() || entry.lane != lane || sequence < entry.first || entry.last < sequence) continue;
    if (number != nullptr) *number = n;
    return &entry;
  }
  return nullptr;
}

const LedgerEntry* Ledger::following(Lane lane, Sequence sequence, std::uint64_t* number) const {
  const LedgerEntry* nearest = nullptr;
  for (const auto& [n, entry] : entries_) {
    if (!entry.ranged() || entry.lane != lane || entry.first < sequence) continue;
    if (nearest != nullptr && nearest->first <= entry.first) continue;
    nearest = &entry;
    if (number != nullptr) *number = n;
  }
  return nearest;
}

bool Ledger::covers(Lane lane, Sequence first, Sequence last) const {
  while (first <= last) {
    auto* entry = covering(lane, first);
    if (entry == nullptr) return false;
    first = entry->last.next();
  }
  return true;
}

}  // namespace penstock
