#include <fmt/format.h>

#include <algorithm>

#include "buffer/bytes.h"
#include "buffer/store_inside.h"

namespace penstock {
namespace {

// One list of freed pages then fits in one page (lab: 509 entries).
constexpr std::uint64_t kMostDeletedPages = 500;

}  // namespace

bool belongs(const BlockHeader& header, Lane lane, Sequence first, const std::vector<EpochEntry>& epochs) {
  if (header.stamp.lane != lane || header.first != first) return false;
  return std::any_of(epochs.begin(), epochs.end(),
                     [&](const EpochEntry& entry) { return entry.epoch == header.stamp.epoch; });
}

Outcome Store::Inside::write(Draft& draft) {
  Transaction transaction(*environment, Transaction::Access::write);
  examine(transaction, draft);
  for (const auto& row : draft.rows) transaction.put(row.key, row.value);
  delete_delivered(transaction, draft);
  return finish(transaction, draft);
}

/// The small rows, the commit, and its publication.
Outcome Store::Inside::finish(Transaction& transaction, Draft& draft) {
  put_rows(transaction, draft);
  prune_runs(transaction, draft);
  bool written = transaction.touched();
  std::uint64_t snapshot = transaction.snapshot();
  auto code = written ? transaction.commit() : transaction.code();
  if (code == 0) {
    publish(draft, written, written ? snapshot : state.snapshot);
    return Outcome::done;
  }
  if (map_is_full(code) || disk_is_full(code)) return Outcome::no_room;
  failure = distrust(code, fmt::format("{}: commit {}", directory.path().string(), draft.commit)).what;
  return Outcome::broken;
}

void Store::Inside::put_rows(Transaction& transaction, const Draft& draft) {
  for (const auto& [key, value] : draft.changes) {
    if (value) {
      transaction.put(key, *value);
    } else {
      transaction.erase(key);
    }
  }
  for (std::size_t i = 0; i < draft.marks.size(); ++i) {
    const auto& lane = state.lanes[i];
    Marks on_disk{lane.marks.last, lane.stored_delivered, lane.marks.dropped};
    if (draft.marks[i] != on_disk)
      transaction.put(marks_key(Lane{static_cast<std::uint16_t>(i)}), encode_marks(draft.marks[i]));
  }
  for (auto entry : draft.ledger.changed()) {
    auto found = draft.ledger.entries().find(entry);
    if (found == draft.ledger.entries().end()) {
      transaction.erase(ledger_key(entry));
    } else {
      transaction.put(ledger_key(entry), encode_ledger_entry(found->second));
    }
  }
  if (draft.ledger.last_number() != state.ledger.last_number()) {
    std::string last;
    append_big(last, draft.ledger.last_number());
    transaction.put(meta_key("ledger_last"), last);
  }
  auto by_number = [&](const Positions& firsts) {
    LaneFirsts result;
    for (std::size_t i = 0; i < state.lanes.size(); ++i) {
      result[Lane{static_cast<std::uint16_t>(i)}] = at(firsts, state.lanes[i].name);
    }
    return result;
  };
  if (draft.store_run) {
    const auto& run = state.runs.back();
    auto index = static_cast<std::uint32_t>(state.first_run + state.runs.size() - 1);
    transaction.put(run_key(index), encode_run({run.run, run.epoch, by_number(run.first)}));
  }
  if (draft.fork) {
    auto index = static_cast<std::uint32_t>(state.epochs.size());
    transaction.put(epoch_key(index),
                    encode_epoch({draft.fork->epoch, draft.fork->forked_from, by_number(draft.fork->first)}));
  }
}

/// Whole blocks only, oldest first. A block ends where the next one begins, so no page of a block is read.
void Store::Inside::delete_delivered(Transaction& transaction, Draft& draft) {
  std::uint64_t left = std::min(kMostDeletedPages, environment->pages().capacity / 16);
  for (std::size_t i = 0; i < draft.marks.size(); ++i) {
    auto& marks = draft.marks[i];
    if (marks.dropped >= marks.delivered) continue;
    if (state.lanes[i].stored_delivered == marks.delivered && !state.more_to_delete) continue;
    Lane lane{static_cast<std::uint16_t>(i)};
    std::vector<BlockSpan> spans;
    {
      BlockWalk walk(transaction, lane);
      while (auto span = walk.next()) {
        if (span->until(marks.last) > marks.delivered) break;
        if (left == 0) {
          draft.more_to_delete = true;
          break;
        }
        spans.push_back(*span);
        left -= std::min<std::uint64_t>(left, span->pieces);
      }
    }
    for (const auto& span : spans) {
      erase_block(transaction, lane, span);
      marks.dropped = std::max(marks.dropped, span.until(marks.last));
      if (packers[i].open() && packers[i].open_first() == span.first) draft.closing.insert(lane);
    }
  }
}

/// Readers found something wrong: look again, in the one snapshot that cannot change under us, and give up what is
/// really lost.
void Store::Inside::examine(Transaction& transaction, Draft& draft) {
  for (const auto& suspect : draft.suspects) {
    const auto& lane = state.lanes[number(suspect.lane)];
    if (suspect.sequence <= draft.marks[number(suspect.lane)].delivered || suspect.sequence > lane.marks.last) continue;
    if (draft.ledger.covering(suspect.lane, suspect.sequence) != nullptr) continue;
    Sequence end = lane.marks.last;
    if (auto* next = draft.ledger.following(suspect.lane, suspect.sequence))
      end = std::min(end, next->first.previous());

    std::optional<BlockSpan> span;
    {
      BlockWalk walk(transaction, suspect.lane, suspect.sequence);
      span = walk.next();
    }
    if (span && span->first <= suspect.sequence) {
      examine_block(transaction, draft, suspect, *span, std::min(end, span->until(lane.marks.last)));
    } else {  // nothing is there: a hole up to the next block
      if (span) end = std::min(end, span->first.previous());
      give_up(draft, suspect.lane, suspect.sequence, end, Cause::damaged);
    }
  }
}

/// True if the block was damaged.
bool Store::Inside::examine_block(Transaction& transaction, Draft& draft, const Suspect& suspect, const BlockSpan& span,
                                  Sequence end) {
  std::vector<std::string_view> pieces;
  for (std::uint32_t i = 0; i < span.pieces; ++i) {
    auto value = transaction.get(fragment_key(suspect.lane, span.first, static_cast<std::uint16_t>(i)));
    if (!value) return false;
    pieces.push_back(*value);
  }
  auto header = pieces.size() == 1 ? examiner.open(pieces[0]) : examiner.open(pieces);
  bool whole = header.ok() && belongs(*header, suspect.lane, span.first, state.epochs);
  Record record;
  while (whole) {
    auto more = examiner.next(record);
    if (!more) whole = false;
    if (!more || !*more) break;
  }
  if (whole) {
    if (header->last < suspect.sequence) give_up(draft, suspect.lane, header->last.next(), end, Cause::damaged);
    return false;
  }

  auto& packer = packers[number(suspect.lane)];
  if (packer.open() && packer.open_first() == span.first) {  // we have it in RAM
    bool packed = std::find(draft.packed.begin(), draft.packed.end(), suspect.lane) != draft.packed.end();
    if (!packed) packer.rewrite(*coder, draft.rows);
    return true;
  }
  erase_block(transaction, suspect.lane, span);
  give_up(draft, suspect.lane, span.first, end, Cause::damaged);
  return true;
}

/// Keeps every run from the one holding the oldest undelivered record on, and the ones a checkpoint names before it.
void Store::Inside::prune_runs(Transaction& transaction, Draft& draft) {
  std::size_t needed = state.runs.size() - 1;
  for (std::size_t i = 0; i < draft.marks.size(); ++i) {
    const auto& marks = draft.marks[i];
    if (marks.delivered >= marks.last) continue;
    while (needed > 0 && at(state.runs[needed].first, state.lanes[i].name) > marks.delivered.next()) --needed;
  }
  if (needed <= kCheckpointRuns) return;
  draft.forget_runs = static_cast<std::uint32_t>(needed - kCheckpointRuns);
  if (!transaction.touched()) draft.forget_runs = 0;  // not worth a commit of its own
  for (std::uint32_t i = 0; i < draft.forget_runs; ++i) transaction.erase(run_key(state.first_run + i));
}

void Store::Inside::publish(Draft& draft, bool written, std::uint64_t snapshot) {
  {
    std::lock_guard lock(mutex);
    for (std::size_t i = 0; i < draft.marks.size(); ++i) {
      auto& lane = state.lanes[i];
      const auto& marks = draft.marks[i];
      if (written) lane.durable = lane.marks.last;  // what the commit before this one left is on disk now
      lane.marks.last = marks.last;
      lane.marks.dropped = marks.dropped;
      lane.marks.delivered = std::max(lane.marks.delivered, marks.delivered);
      if (written) lane.stored_delivered = marks.delivered;
    }
    draft.ledger.forget_changes();
    state.ledger = std::move(draft.ledger);
    for (auto entry : draft.struck) state.struck.erase(entry);
    for (const auto& suspect : draft.suspects) state.suspects.erase(suspect);
    for (std::size_t i = 0; i < draft.given_up.size(); ++i) state.given_up[i] += draft.given_up[i];
    if (draft.fork) state.epochs.push_back(*draft.fork);
    if (draft.forget_runs != 0) {
      state.runs.erase(state.runs.begin(), state.runs.begin() + draft.forget_runs);
      state.first_run += draft.forget_runs;
    }
    state.run_stored |= draft.store_run;
    state.more_to_delete = draft.more_to_delete;
    state.snapshot = snapshot;
    if (written) state.committed = draft.commit;
  }
  for (auto lane : draft.packed) packers[number(lane)].accept();
  for (auto lane : draft.closing) packers[number(lane)].close();
  if (written) durable.raise(draft.commit - 1);
}

}  // namespace penstock
