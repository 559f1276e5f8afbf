#include "buffer/block_copy.h"

#include "buffer/bytes.h"

namespace penstock {
namespace {

constexpr std::size_t kPiecesPerSnapshot = 64;
// From so many pieces on, what reading has mapped is given back at once: a backlog must not fill the RAM.
constexpr std::size_t kForgetPieces = 32;

}  // namespace

std::vector<std::string_view> pieces_of(Transaction& transaction, Lane lane, const BlockSpan& span) {
  std::vector<std::string_view> pieces;
  for (std::uint32_t i = 0; i < span.pieces; ++i) {
    auto value = transaction.get(fragment_key(lane, span.first, static_cast<std::uint16_t>(i)));
    if (!value) break;
    pieces.push_back(*value);
  }
  return pieces;
}

CopiedBlocks copy_blocks(const Environment& environment, Lane lane, Sequence from, const BatchLimits& limits) {
  CopiedBlocks copied;
  Transaction snapshot(environment, Transaction::Access::read);
  copied.snapshot = snapshot.snapshot();
  std::size_t pieces = 0, records = 0, raw = 0;
  std::string_view lowest, highest;
  {
    BlockWalk walk(snapshot, lane, from);
    while (pieces < kPiecesPerSnapshot && (pieces == 0 || (raw < limits.bytes && records < limits.records))) {
      auto span = walk.next();
      if (!span) break;
      auto& block = copied.blocks.emplace_back(CopiedBlock{*span, {}});
      for (auto piece : pieces_of(snapshot, lane, *span)) {
        block.pieces.emplace_back(piece);
        if (lowest.empty() || piece.data() < lowest.data()) lowest = piece;
        if (highest.empty() || piece.data() > highest.data()) highest = piece;
      }
      pieces += span->pieces;
      if (!block.pieces.empty() && block.pieces[0].size() >= kBlockHeaderBytes) {  // not yet checked: a hint only
        records += load_little<std::uint32_t>(block.pieces[0].data() + 72);
        raw += load_little<std::uint32_t>(block.pieces[0].data() + 76);
      }
      copied.more = span->next.has_value();
    }
  }
  copied.code = snapshot.code();
  if (pieces >= kForgetPieces) environment.forget_memory(lowest, highest);
  return copied;
}

Result<BlockHeader> open_block(BlockReader& reader, const std::vector<std::string_view>& pieces) {
  return pieces.size() == 1 ? reader.open(pieces[0]) : reader.open(pieces);
}

Result<BlockHeader> open_block(BlockReader& reader, const CopiedBlock& block) {
  return open_block(reader, std::vector<std::string_view>(block.pieces.begin(), block.pieces.end()));
}

}  // namespace penstock
