#include <fmt/format.h>

#include <algorithm>

#include "buffer/bytes.h"
#include "buffer/store_inside.h"

namespace penstock {
namespace {

// One list of freed pages then fits in one page (lab: 509 entries).
constexpr std::uint64_t kMostDeletedPages = 500;
// Records may be older than max_age by one part in so many, and by this: each look may cost a transaction.
constexpr int kLooksPerAge = 128;
constexpr BootTime kLeastLook = std::chrono::seconds(1);

}  // namespace

bool belongs(const BlockHeader& header, Lane lane, Sequence first, const std::vector<EpochEntry>& epochs) {
  if (header.stamp.lane != lane || header.first != first || header.stamp.dead_letter) return false;
  return std::any_of(epochs.begin(), epochs.end(),
                     [&](const EpochEntry& entry) { return entry.epoch == header.stamp.epoch; });
}

/// What the journal keeps of a draft.
FrameContent Store::Inside::frame_of(const Draft& draft) const {
  FrameContent content;
  content.number = journal->last() + 1;
  content.epoch = draft.stamp.epoch;
  content.run = draft.stamp.run;
  content.boot = draft.stamp.boot;
  for (std::size_t i = 0; i < draft.records.size(); ++i) {
    if (draft.records[i].records.empty()) continue;
    auto& part = content.parts.emplace_back();
    part.lane = Lane{static_cast<std::uint16_t>(i)};
    part.first = draft.records[i].first;
    for (const auto* record : draft.records[i].records) part.records.append(*record);
  }
  content.rows = rows_of(draft);
  return content;
}

Outcome Store::Inside::append(Draft& draft, const FrameContent& content) {
  auto frame = frame_coder->encode(content);
  if (!journal->fits(frame.size())) return Outcome::no_room;
  auto place = journal->append(frame);
  if (!place && place.error().fault == Fault::full) {
    refusal = place.error().what;
    return Outcome::no_room;
  }
  if (!place) {
    failure = place.error().what;
    return Outcome::broken;
  }
  draft.changes = content.rows;  // all of them are newer than LMDB's from now on
  publish(draft, &*place, state.snapshot);
  return Outcome::done;
}

/// Makes blocks of the draft's records.
void Store::Inside::pack(Draft& draft) {
  draft.blocks.clear();
  for (std::size_t i = 0; i < draft.records.size(); ++i) {
    const auto& fresh = draft.records[i];
    if (fresh.records.empty()) continue;
    auto& packer = packers[i];
    // What follows is not next to it, or all of it is in Kafka: rather a small new block than the old one again.
    if (packer.open() && (packer.open_last().next() != fresh.first || packer.open_last() <= draft.marks[i].delivered)) {
      packer.close();
    }
    BlockStamp stamp = draft.stamp;
    stamp.lane = Lane{static_cast<std::uint16_t>(i)};
    packer.pack(fresh.records, fresh.first, stamp, *coder, draft.blocks);
    draft.packed.push_back(stamp.lane);
  }
}

Outcome Store::Inside::write(Draft& draft) {
  Transaction transaction(*environment, Transaction::Access::write);
  examine(transaction, draft);
  if (draft.expires) expire(transaction, draft);
  for (const auto& row : draft.blocks) {
    auto key = parse_block_key(row.key);
    if (key && !transaction.get(row.key)) ++draft.pages[number(key->lane)];
    transaction.put(row.key, row.value);
  }
  delete_delivered(transaction, draft);
  return finish(transaction, draft);
}

/// The small rows, the commit, and its publication.
Outcome Store::Inside::finish(Transaction& transaction, Draft& draft) {
  prune_runs(draft);
  for (const auto& [key, value] : draft.letters) {
    if (value) {
      transaction.put(key, *value);
    } else {
      transaction.erase(key);
    }
  }
  for (const auto& [key, value] : overlay) {
    if (value) {
      transaction.put(key, *value);
    } else {
      transaction.erase(key);
    }
  }
  for (const auto& [key, value] : rows_of(draft)) {
    if (value) {
      transaction.put(key, *value);
    } else {
      transaction.erase(key);
    }
  }
  transaction.put(meta_key("sealed"), encode_sealed({draft.sealed_frame, journal->last()}));
  for (std::size_t i = 0; i < draft.first_block.size(); ++i) {
    auto block = BlockWalk(transaction, Lane{static_cast<std::uint16_t>(i)}).next();
    draft.first_block[i] = block ? block->first : Sequence();
  }
  std::uint64_t snapshot = transaction.snapshot();
  auto code = transaction.commit();
  if (code == 0) {
    publish(draft, nullptr, snapshot);
    return Outcome::done;
  }
  if (map_is_full(code) || disk_is_full(code)) {
    refusal = text_of(code);
    return Outcome::no_room;
  }
  failure = distrust(code, fmt::format("{}: commit {}", directory.path().string(), state.committed + 1)).what;
  if (!refusal.empty()) failure += "; before that: " + refusal;  // LMDB only says once why it goes on no more
  return Outcome::broken;
}

/// Every small row that the draft changes.
Rows Store::Inside::rows_of(const Draft& draft) const {
  Rows rows = draft.changes;
  for (std::size_t i = 0; i < draft.marks.size(); ++i) {
    const auto& lane = state.lanes[i];
    Marks on_disk{lane.marks.last, lane.stored_delivered, lane.marks.dropped};
    if (draft.marks[i] != on_disk)
      rows.emplace_back(marks_key(Lane{static_cast<std::uint16_t>(i)}), encode_marks(draft.marks[i]));
  }
  for (auto entry : draft.ledger.changed()) {
    auto found = draft.ledger.entries().find(entry);
    std::optional<std::string> value;
    if (found != draft.ledger.entries().end()) value = encode_ledger_entry(found->second);
    rows.emplace_back(ledger_key(entry), std::move(value));
  }
  if (draft.ledger.last_number() != state.ledger.last_number()) {
    std::string last;
    append_big(last, draft.ledger.last_number());
    rows.emplace_back(meta_key("ledger_last"), std::move(last));
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
    rows.emplace_back(run_key(index), encode_run({run.run, run.epoch, by_number(run.first)}));
  }
  if (draft.fork) {
    auto index = static_cast<std::uint32_t>(state.epochs.size());
    rows.emplace_back(epoch_key(index),
                      encode_epoch({draft.fork->epoch, draft.fork->forked_from, by_number(draft.fork->first)}));
  }
  return rows;
}

/// Whole blocks only, oldest first. A block ends where the next one begins, so no page of a block is read.
void Store::Inside::delete_delivered(Transaction& transaction, Draft& draft) {
  std::uint64_t left = std::min(kMostDeletedPages, environment->pages().capacity / 16);
  draft.deleted = true;
  draft.more_to_delete = false;
  for (std::size_t i = 0; i < draft.marks.size(); ++i) {
    auto& marks = draft.marks[i];
    if (draft.first_block[i] == Sequence() || draft.first_block[i] > marks.delivered) continue;
    Lane lane{static_cast<std::uint16_t>(i)};
    std::vector<BlockSpan> spans;
    {
      BlockWalk walk(transaction, lane);
      while (auto span = walk.next()) {
        if (span->until(draft.sealed[i]) > marks.delivered) break;
        if (left == 0) {
          draft.more_to_delete = true;
          break;
        }
        spans.push_back(*span);
        left -= std::min<std::uint64_t>(left, span->pieces);
      }
    }
    for (const auto& span : spans) {
      erase(transaction, draft, lane, span);
      marks.dropped = std::max(marks.dropped, span.until(draft.sealed[i]));
    }
  }
}

void Store::Inside::erase(Transaction& transaction, Draft& draft, Lane lane, const BlockSpan& span) {
  const auto& packer = packers[number(lane)];
  erase_block(transaction, lane, span);
  draft.pages[number(lane)] -= span.pieces;
  if (packer.open() && packer.open_first() == span.first) draft.closing.insert(lane);
}

/// Keeps every run from the one holding the oldest undelivered record on, and the ones a checkpoint names before it.
void Store::Inside::prune_runs(Draft& draft) const {
  std::size_t needed = state.runs.size() - 1;
  for (std::size_t i = 0; i < draft.marks.size(); ++i) {
    const auto& marks = draft.marks[i];
    if (marks.delivered >= marks.last) continue;
    while (needed > 0 && at(state.runs[needed].first, state.lanes[i].name) > marks.delivered.next()) --needed;
  }
  if (needed <= kCheckpointRuns) return;
  draft.forget_runs = static_cast<std::uint32_t>(needed - kCheckpointRuns);
  for (std::uint32_t i = 0; i < draft.forget_runs; ++i) {
    draft.changes.emplace_back(run_key(state.first_run + i), std::nullopt);
  }
}

/// The disk has the draft: as `frame`, or in LMDB.
void Store::Inside::publish(Draft& draft, const FramePlace* frame, std::uint64_t snapshot) {
  const BootTime now = clock.boottime();
  std::uint64_t committed = 0;
  {
    std::lock_guard lock(mutex);
    for (std::size_t i = 0; i < draft.marks.size(); ++i) {
      auto& lane = state.lanes[i];
      const auto& marks = draft.marks[i];
      const auto& fresh = draft.records[i];
      if (frame != nullptr && !fresh.records.empty()) {
        if (unsealed[i].empty()) lane.sealed = fresh.first.previous();
        unsealed[i].push_back({fresh.first, marks.last, *frame});
      }
      if (frame == nullptr) {
        lane.sealed = draft.sealed[i];
        while (!unsealed[i].empty() && unsealed[i].front().last <= lane.sealed) unsealed[i].pop_front();
        lane.first_block = draft.first_block[i];
        lane.pages = draft.pages[i];
        if (draft.deleted) lane.tried = marks.delivered;
        if (draft.expires && !draft.more_to_expire) {
          lane.look_again = now + std::max<BootTime>(kLeastLook, lane.max_age / kLooksPerAge);
        }
      }
      lane.marks.last = marks.last;
      lane.marks.dropped = marks.dropped;
      lane.marks.delivered = std::max(lane.marks.delivered, marks.delivered);
      lane.stored_delivered = marks.delivered;
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
    state.dead_letters = draft.dead_letters;
    state.snapshot = snapshot;
    if (frame != nullptr) {
      for (auto& [key, value] : draft.changes) overlay[key] = std::move(value);
    } else {
      overlay.clear();
      sealed_frame = draft.sealed_frame;
      journal->release(sealed_frame);
      ++state.seals;
    }
    state.journal_used = journal->used_bytes();
    committed = ++state.committed;
  }
  for (auto lane : draft.packed) packers[number(lane)].accept();
  for (auto lane : draft.closing) packers[number(lane)].close();
  durable.raise(committed);
}

}  // namespace penstock
