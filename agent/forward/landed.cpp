#include "agent/forward/landed.h"

#include <algorithm>
#include <iterator>
#include <vector>

namespace penstock {
namespace {

/// The range that holds `value`, or the first one behind it.
template <class Ranges>
auto at_or_behind(const Ranges& ranges, std::uint64_t value) {
  auto found = ranges.upper_bound(value);
  if (found != ranges.begin() && std::prev(found)->second >= value) --found;
  return found;
}

}  // namespace

void Landed::add(const Epoch& epoch, const std::string& lane, Sequence first, Sequence last) {
  auto& ranges = ranges_[{epoch, lane}];
  std::uint64_t low = first.value(), high = last.value();
  auto next = at_or_behind(ranges, low == 0 ? 0 : low - 1);  // one that ends just before is part of it
  while (next != ranges.end() && next->first <= (high == UINT64_MAX ? high : high + 1)) {
    low = std::min(low, next->first);
    high = std::max(high, next->second);
    next = ranges.erase(next);
  }
  ranges[low] = high;
}

void Landed::add_count(const Epoch& epoch, std::uint64_t entry) { counts_.insert({epoch, entry}); }

const Landed::Ranges* Landed::of(const Epoch& epoch, const std::string& lane) const {
  auto found = ranges_.find({epoch, lane});
  return found == ranges_.end() ? nullptr : &found->second;
}

bool Landed::has(const Epoch& epoch, const std::string& lane, Sequence sequence) const {
  const Ranges* ranges = of(epoch, lane);
  if (ranges == nullptr) return false;
  auto found = at_or_behind(*ranges, sequence.value());
  return found != ranges->end() && found->first <= sequence.value();
}

void Landed::strike(Batch& batch, const LaneNames& name_of) const {
  if (empty()) return;
  std::map<Lane, std::string> names;
  auto name = [&](Lane lane) -> const std::string& {
    auto& known = names[lane];
    if (known.empty()) known = name_of(lane);
    return known;
  };
  std::erase_if(batch.records,
                [&](const StoredRecord& stored) { return has(stored.epoch, name(stored.lane), stored.sequence); });

  std::vector<Gap> left;
  for (const auto& gap : batch.gaps) {
    if (gap.last == Sequence()) {
      if (counts_.count({gap.epoch, gap.entry}) == 0) left.push_back(gap);
      continue;
    }
    const Ranges* ranges = of(gap.epoch, name(gap.lane));
    auto keep = [&](std::uint64_t first, std::uint64_t last) {
      auto& part = left.emplace_back(gap);
      part.first = Sequence(first);
      part.last = Sequence(last);
      part.count = count_between(part.first, part.last);
    };
    std::uint64_t first = gap.first.value();
    const std::uint64_t last = gap.last.value();
    if (ranges != nullptr) {
      for (auto there = at_or_behind(*ranges, first); there != ranges->end() && there->first <= last; ++there) {
        if (there->first > first) keep(first, there->first - 1);
        first = there->second + 1;
      }
    }
    if (first <= last) keep(first, last);
  }
  batch.gaps = std::move(left);
}

void Landed::keep(const History& ours) {
  auto is_ours = [&](const Epoch& epoch) {
    return std::any_of(ours.epochs.begin(), ours.epochs.end(), [&](const auto& entry) { return entry.epoch == epoch; });
  };
  std::erase_if(counts_, [&](const auto& count) { return !is_ours(count.first); });
  for (auto& [name, ranges] : ranges_) {
    const Epoch& epoch = name.first;
    const std::string& lane = name.second;
    std::erase_if(ranges, [&](const auto& range) {
      Sequence first(range.first), last(range.second);
      return first > at(ours.last, lane) || (ours.epoch_of(lane, first) != epoch && ours.epoch_of(lane, last) != epoch);
    });
  }
  std::erase_if(ranges_, [](const auto& entry) { return entry.second.empty(); });
}

bool Landed::beyond(const Checkpoint& after) const {
  return std::any_of(counts_.begin(), counts_.end(), [&](const auto& count) { return count.second > after.ledger; }) ||
         std::any_of(ranges_.begin(), ranges_.end(), [&](const auto& entry) {
           return Sequence(entry.second.rbegin()->second) > at(after.delivered, entry.first.second);
         });
}

Sequence Landed::reaches(const Epoch& epoch, const std::string& lane, Sequence from, Sequence most) const {
  const Ranges* ranges = of(epoch, lane);
  if (ranges == nullptr || from >= most) return from;
  auto found = at_or_behind(*ranges, from.next().value());
  if (found == ranges->end() || found->first > from.next().value()) return from;
  return std::min(Sequence(found->second), most);
}

}  // namespace penstock
