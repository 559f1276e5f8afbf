#include <algorithm>

#include "buffer/block_copy.h"
#include "buffer/store_inside.h"

namespace penstock {

/// Readers found something wrong: look again, in the one snapshot that cannot change under us, and give up what is
/// really lost.
void Store::Inside::examine(Transaction& transaction, Draft& draft) {
  for (const auto& suspect : draft.suspects) {
    const auto& lane = state.lanes[number(suspect.lane)];
    if (suspect.sequence <= draft.marks[number(suspect.lane)].delivered || suspect.sequence > lane.marks.last) continue;
    if (draft.ledger.covering(suspect.lane, suspect.sequence) != nullptr) continue;
    if (suspect.sequence > draft.sealed[number(suspect.lane)]) {
      examine_journal(draft, suspect);
      continue;
    }
    const Sequence lane_end = draft.sealed[number(suspect.lane)];
    Sequence end = lane_end;
    if (auto* next = draft.ledger.following(suspect.lane, suspect.sequence))
      end = std::min(end, next->first.previous());

    std::optional<BlockSpan> span;
    {
      BlockWalk walk(transaction, suspect.lane, suspect.sequence);
      span = walk.next();
    }
    if (span && span->first <= suspect.sequence) {
      examine_block(transaction, draft, suspect, *span, std::min(end, span->until(lane_end)));
    } else {  // nothing is there: a hole up to the next block
      if (span) end = std::min(end, span->first.previous());
      give_up(draft, suspect.lane, suspect.sequence, end, Cause::damaged);
    }
  }
}

void Store::Inside::examine_block(Transaction& transaction, Draft& draft, const Suspect& suspect, const BlockSpan& span,
                                  Sequence end) {
  auto header = open_block(examiner, pieces_of(transaction, suspect.lane, span));
  bool whole = header.ok() && belongs(*header, suspect.lane, span.first, state.epochs);
  Record record;
  while (whole) {
    auto more = examiner.next(record);
    if (!more) whole = false;
    if (!more || !*more) break;
  }
  if (whole) {
    if (header->last < suspect.sequence) give_up(draft, suspect.lane, header->last.next(), end, Cause::damaged);
    return;
  }

  auto& packer = packers[number(suspect.lane)];
  if (packer.open() && packer.open_first() == span.first) {  // we have it in RAM
    bool packed = std::find(draft.packed.begin(), draft.packed.end(), suspect.lane) != draft.packed.end();
    if (!packed) packer.rewrite(*coder, draft.blocks);
    return;
  }
  erase(transaction, draft, suspect.lane, span);
  give_up(draft, suspect.lane, span.first, end, Cause::damaged);
}

/// A record that should be in the journal: is its frame bad, or is it in none?
void Store::Inside::examine_journal(Draft& draft, const Suspect& suspect) {
  const auto index = number(suspect.lane);
  Sequence end = draft.marks[index].last;
  for (const auto& span : unsealed[index]) {
    if (span.last < suspect.sequence) continue;
    if (span.first > suspect.sequence) {  // a frame was lost that an earlier life wrote
      end = span.first.previous();
      break;
    }
    std::string bytes;
    bool whole = journal->read(span.place, bytes).ok();
    if (whole) {
      auto header = frame_examiner->open(bytes);
      std::vector<Record> records;
      whole = header.ok() && header->number == span.place.number && unpack(*header, suspect.lane, span.first, records);
    }
    if (!whole) give_up(draft, suspect.lane, span.first, span.last, Cause::damaged);
    return;
  }
  give_up(draft, suspect.lane, suspect.sequence, end, Cause::damaged);
}

}  // namespace penstock
