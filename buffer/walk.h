// BlockWalk: the blocks of one lane in order, as their keys tell them; the fragments of a large record are one block.
// It reads keys only, so that a damaged block cannot mislead it. Lives as long as its transaction.
#pragma once

#include <optional>

#include "buffer/database.h"
#include "buffer/meta.h"

namespace penstock {

struct BlockSpan {
  Sequence first;
  std::uint32_t pieces = 1;      // values: 1, or the fragments
  std::optional<Sequence> next;  // where the next block of the lane begins; none: this is the last one

  /// The last sequence it can hold, in a lane that ends at `lane_last`.
  Sequence until(Sequence lane_last) const { return next ? next->previous() : lane_last; }
};

class BlockWalk {
 public:
  /// From the block that begins at or before `sequence`, if it can hold it, else from the first one after it.
  BlockWalk(Transaction& transaction, Lane lane, Sequence sequence = Sequence(1));

  std::optional<BlockSpan> next();

 private:
  std::optional<BlockKey> here() const;

  Lane lane_;
  Cursor cursor_;
  bool more_;
};

/// Removes a block with all its pieces.
void erase_block(Transaction& transaction, Lane lane, const BlockSpan& block);

}  // namespace penstock
