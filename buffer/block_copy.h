// BlockCopy: blocks of one lane out of a short read transaction, so that no snapshot is held while they are decoded or sent.
//
// Any thread. A copy is not yet checked: open_block() does that.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/block.h"
#include "buffer/store.h"
#include "buffer/walk.h"

namespace penstock {

/// The values of a block as they lie in the transaction: one, or its fragments; fewer than `span.pieces` when one is missing.
std::vector<std::string_view> pieces_of(Transaction& transaction, Lane lane, const BlockSpan& span);

struct CopiedBlock {
  BlockSpan span;
  std::vector<std::string> pieces;
};

struct CopiedBlocks {
  std::deque<CopiedBlock> blocks;
  bool more = false;           // others follow
  std::uint64_t snapshot = 0;  // of which they are
  DatabaseCode code = 0;
};
/// From the block that can hold `from` on, about as many as `limits` asks for and no more than a read transaction should
/// copy; the first one whole, however many pieces it has.
CopiedBlocks copy_blocks(const Environment& environment, Lane lane, Sequence from, const BatchLimits& limits);

/// Checks the block; the reader is then at its first record. `block` must outlive the reading.
Result<BlockHeader> open_block(BlockReader& reader, const std::vector<std::string_view>& pieces);
Result<BlockHeader> open_block(BlockReader& reader, const CopiedBlock& block);

}  // namespace penstock
