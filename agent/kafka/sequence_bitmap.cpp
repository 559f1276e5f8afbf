#include "agent/kafka/sequence_bitmap.h"

#include <algorithm>
#include <bit>

namespace penstock {

bool SequenceBitmap::add(Sequence sequence) {
  auto [at, fresh] = chunks_.try_emplace(sequence.value() / kChunk);
  Chunk& chunk = at->second;
  if (fresh) chunk.bits = std::make_unique<Bits>();
  if (!chunk.bits) return false;
  auto place = sequence.value() % kChunk;
  auto& word = (*chunk.bits)[place / 64];
  auto bit = std::uint64_t{1} << place % 64;
  if (word & bit) return false;
  word |= bit;
  ++size_;
  if (++chunk.count == kChunk) chunk.bits.reset();
  return true;
}

void SequenceBitmap::add(Sequence first, Sequence last) {
  if (last < first) return;
  std::uint64_t at = first.value();
  while (true) {
    auto end = std::min(last.value(), at | (kChunk - 1));
    if (at % kChunk == 0 && end - at == kChunk - 1) {
      Chunk& chunk = chunks_[at / kChunk];
      size_ += kChunk - chunk.count;
      chunk.count = kChunk;
      chunk.bits.reset();
    } else {
      for (auto value = at;; ++value) {
        add(Sequence(value));
        if (value == end) break;
      }
    }
    if (end == last.value()) return;
    at = end + 1;
  }
}

bool SequenceBitmap::contains(Sequence sequence) const {
  auto found = chunks_.find(sequence.value() / kChunk);
  if (found == chunks_.end()) return false;
  if (!found->second.bits) return true;
  auto place = sequence.value() % kChunk;
  return (*found->second.bits)[place / 64] >> place % 64 & 1;
}

bool SequenceBitmap::full(std::uint64_t chunk) const {
  auto found = chunks_.find(chunk);
  return found != chunks_.end() && !found->second.bits;
}

Sequence SequenceBitmap::first() const {
  if (chunks_.empty()) return {};
  const auto& [number, chunk] = *chunks_.begin();
  if (!chunk.bits) return Sequence(number * kChunk);
  std::uint64_t word = 0;
  while ((*chunk.bits)[word] == 0) ++word;
  return Sequence(number * kChunk + word * 64 + static_cast<unsigned>(std::countr_zero((*chunk.bits)[word])));
}

Sequence SequenceBitmap::last() const {
  if (chunks_.empty()) return {};
  const auto& [number, chunk] = *chunks_.rbegin();
  if (!chunk.bits) return Sequence(number * kChunk + (kChunk - 1));
  std::uint64_t word = kChunk / 64 - 1;
  while ((*chunk.bits)[word] == 0) --word;
  return Sequence(number * kChunk + word * 64 + 63 - static_cast<unsigned>(std::countl_zero((*chunk.bits)[word])));
}

std::uint64_t SequenceBitmap::missing(const SequenceBitmap& a, const SequenceBitmap& b, Sequence first, Sequence last,
                                      std::size_t most, std::vector<Range>& ranges) {
  std::uint64_t count = 0;
  bool open = false;  // the last range may be prolonged
  auto lacks = [&](std::uint64_t from, std::uint64_t to) {
    count += to - from + 1;
    if (open) {
      ranges.back().second = Sequence(to);
    } else if (ranges.size() < most) {
      ranges.emplace_back(Sequence(from), Sequence(to));
      open = true;
    }
  };
  if (last < first) return 0;
  std::uint64_t at = first.value();
  while (true) {
    auto chunk = at / kChunk;
    auto end = std::min(last.value(), at | (kChunk - 1));
    if (a.full(chunk) || b.full(chunk)) {
      open = false;
    } else if (!a.chunks_.count(chunk) && !b.chunks_.count(chunk)) {
      // Straight to the next chunk that either has: a checkpoint may speak of numbers far away.
      auto next_a = a.chunks_.upper_bound(chunk), next_b = b.chunks_.upper_bound(chunk);
      if (next_a == a.chunks_.end() && next_b == b.chunks_.end()) {
        end = last.value();
      } else {
        auto next = std::min(next_a == a.chunks_.end() ? ~std::uint64_t{0} : next_a->first,
                             next_b == b.chunks_.end() ? ~std::uint64_t{0} : next_b->first);
        end = std::min(last.value(), next * kChunk - 1);
      }
      lacks(at, end);
    } else {
      for (auto value = at;; ++value) {
        if (a.contains(Sequence(value)) || b.contains(Sequence(value))) {
          open = false;
        } else {
          lacks(value, value);
        }
        if (value == end) break;
      }
    }
    if (end == last.value()) return count;
    at = end + 1;
  }
}

std::uint64_t SequenceBitmap::common(const SequenceBitmap& a, const SequenceBitmap& b) {
  std::uint64_t count = 0;
  for (const auto& [number, chunk] : a.chunks_) {
    auto found = b.chunks_.find(number);
    if (found == b.chunks_.end()) continue;
    const Chunk& other = found->second;
    if (!chunk.bits) {
      count += other.count;
    } else if (!other.bits) {
      count += chunk.count;
    } else {
      for (std::size_t word = 0; word < chunk.bits->size(); ++word) {
        count += static_cast<unsigned>(std::popcount((*chunk.bits)[word] & (*other.bits)[word]));
      }
    }
  }
  return count;
}

}  // namespace penstock
