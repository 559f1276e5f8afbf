#include <algorithm>

#include "buffer/block_copy.h"
#include "buffer/store_inside.h"

namespace penstock {
namespace {

// Of blocks and frames, in one transaction.
constexpr std::size_t kMostExpired = 400;

}  // namespace

bool Store::Inside::expiry_is_due() const {
  const auto now = clock.boottime();
  std::lock_guard lock(mutex);
  return std::any_of(state.lanes.begin(), state.lanes.end(), [&](const LaneState& lane) {
    return lane.max_age.count() != 0 && lane.marks.delivered < lane.marks.last && now >= lane.look_again;
  });
}

/// Gives up, from the oldest on, the blocks and frames of which every record is too old. No more is read than those, and
/// one that is not.
void Store::Inside::expire(Transaction& transaction, Draft& draft) {
  std::size_t left = kMostExpired;
  for (std::size_t i = 0; i < draft.marks.size() && left > 0; ++i) {
    if (state.lanes[i].max_age.count() == 0) continue;
    Lane lane{static_cast<std::uint16_t>(i)};
    if (expire_blocks(transaction, draft, lane, left)) expire_frames(draft, lane, left);
  }
  draft.more_to_expire = left == 0;
}

/// False: a record was met that is not too old, or the limit is reached.
bool Store::Inside::expire_blocks(Transaction& transaction, Draft& draft, Lane lane, std::size_t& left) {
  const auto max_age = state.lanes[number(lane)].max_age;
  auto& marks = draft.marks[number(lane)];
  const Sequence end = draft.sealed[number(lane)];
  std::vector<BlockSpan> old;
  bool all = true;
  {
    BlockWalk walk(transaction, lane, marks.delivered.next());
    for (auto span = walk.next(); all && span; span = walk.next()) {
      if (span->until(end) <= marks.delivered) continue;
      auto pieces = pieces_of(transaction, lane, *span);
      auto header = pieces.empty() ? Result<BlockHeader>(broken("gone")) : check_block(pieces[0]);
      all = left > 0 && header.ok() && !none_too_old(header->stamp.boot, header->boot_base, max_age);
      if (!all) break;
      all = open_block(examiner, pieces).ok() && all_too_old(header->stamp.boot, max_age);
      if (!all) break;
      old.push_back(*span);
      --left;
    }
  }
  for (const auto& span : old) {
    const Sequence last = span.until(end);
    marks.dropped = std::max(marks.dropped, last);
    give_up(draft, lane, span.first, last, Cause::expired);
    erase(transaction, draft, lane, span);
  }
  return all;
}

/// What is in the journal stays there until its frame's turn comes; the ledger says that it is given up.
void Store::Inside::expire_frames(Draft& draft, Lane lane, std::size_t& left) {
  const auto max_age = state.lanes[number(lane)].max_age;
  std::string bytes;
  for (const auto& span : unsealed[number(lane)]) {
    Sequence from = std::max(span.first, draft.marks[number(lane)].delivered.next());
    if (from > span.last || draft.ledger.covers(lane, from, span.last)) continue;
    if (left == 0 || !journal->read(span.place, bytes)) return;
    auto header = frame_examiner->open(bytes);
    if (!header || header->number != span.place.number) return;
    for (std::size_t i = 0; i < header->spans.size(); ++i) {
      const auto& found = header->spans[i];
      if (found.lane != lane) continue;
      if (none_too_old(header->boot, found.boot_base, max_age)) return;
      examiner.open_raw(frame_examiner->records(i), found.count, found.wall_base, found.boot_base);
      if (!all_too_old(header->boot, max_age)) return;
    }
    give_up(draft, lane, from, span.last, Cause::expired);
    --left;
  }
}

/// Without a look at the records: they were taken in this boot, and not long enough ago.
bool Store::Inside::none_too_old(const Boot& boot, BootTime base, std::chrono::milliseconds max_age) const {
  return boot == clock.boot() && clock.boottime() - base <= max_age;
}

/// Of the records that the examiner is open at. What counts is only time that surely passed: in this boot by its own
/// clock; since an earlier boot this whole boot, or what two synchronised clocks say. A time that came from a device says
/// nothing about waiting. So a clock that is wrong or jumps expires nothing.
bool Store::Inside::all_too_old(const Boot& boot, std::chrono::milliseconds max_age) {
  const bool synchronised = clock.synchronised();
  const auto now = clock.wall();
  const auto uptime = clock.boottime();
  Record record;
  for (;;) {
    auto more = examiner.next(record);
    if (!more) return false;  // damaged: not our business
    if (!*more) return true;
    BootTime age = uptime;
    if (boot == clock.boot()) {
      age = uptime - record.boottime;
    } else if (synchronised && record.synchronised && record.time_source == TimeSource::ours) {
      age = std::max(age, std::chrono::duration_cast<BootTime>(now - record.time));
    }
    if (age <= max_age) return false;
  }
}

}  // namespace penstock
