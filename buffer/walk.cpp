#include "buffer/walk.h"

namespace penstock {

BlockWalk::BlockWalk(Transaction& transaction, Lane lane, Sequence sequence)
    : lane_(lane), cursor_(transaction), more_(cursor_.seek(block_key(lane, sequence))) {
  if (more_ && here() && here()->first == sequence) return;
  bool before = more_ ? cursor_.previous() : cursor_.last();
  if (!before || !here()) {
    more_ = cursor_.seek(block_key(lane, sequence));
    return;
  }
  // Perhaps at the last fragment of a record: back to its fragment 0.
  more_ = cursor_.seek(block_key(lane, here()->first));
}

std::optional<BlockKey> BlockWalk::here() const {
  auto key = parse_block_key(cursor_.key());
  if (key && key->lane != lane_) key.reset();
  return key;
}

std::optional<BlockSpan> BlockWalk::next() {
  if (!more_) return std::nullopt;
  auto key = here();
  if (!key) return std::nullopt;
  BlockSpan span{key->first, 0, std::nullopt};
  do {
    ++span.pieces;
    more_ = cursor_.next();
    key = more_ ? here() : std::nullopt;
  } while (key && key->first == span.first);
  if (key) span.next = key->first;
  return span;
}

void erase_block(Transaction& transaction, Lane lane, const BlockSpan& block) {
  for (std::uint32_t piece = 0; piece < block.pieces; ++piece) {
    transaction.erase(fragment_key(lane, block.first, static_cast<std::uint16_t>(piece)));
  }
}

}  // namespace penstock
