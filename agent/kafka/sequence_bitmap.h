// SequenceBitmap: which sequences were seen. Costs at most one bit for each number in a neighbourhood of 4,096 that is not
// complete, and next to nothing where all are there; so it stays small however the partitions interleave.
//
// A plain value; one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "buffer/identity.h"

namespace penstock {

class SequenceBitmap {
 public:
  /// False if it was in already.
  bool add(Sequence sequence);
  /// Every number of first..last; a range of any length, but see the cost above.
  void add(Sequence first, Sequence last);
  bool contains(Sequence sequence) const;
  bool empty() const { return chunks_.empty(); }
  std::uint64_t size() const { return size_; }
  /// The lowest and highest; 0 when empty.
  Sequence first() const;
  Sequence last() const;

  using Range = std::pair<Sequence, Sequence>;
  /// What is in neither `a` nor `b` within first..last: how many, and the first `most` ranges of them.
  static std::uint64_t missing(const SequenceBitmap& a, const SequenceBitmap& b, Sequence first, Sequence last,
                               std::size_t most, std::vector<Range>& ranges);
  /// How many are in both.
  static std::uint64_t common(const SequenceBitmap& a, const SequenceBitmap& b);

 private:
  static constexpr std::uint64_t kChunk = 4096;
  using Bits = std::array<std::uint64_t, kChunk / 64>;
  struct Chunk {
    std::uint32_t count = 0;
    std::unique_ptr<Bits> bits;  // none: complete
  };
  bool full(std::uint64_t chunk) const;

  std::map<std::uint64_t, Chunk> chunks_;
  std::uint64_t size_ = 0;
};

}  // namespace penstock
