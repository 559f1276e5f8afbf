#include <algorithm>

#include "buffer/store_inside.h"

namespace penstock {
namespace {

// Of raw bytes, in one transaction: at a fifth to a third of it about a hundred pages, so that the tree's own pages and
// the flushes are a few percent of the work.
constexpr std::size_t kChunkRawBytes = std::size_t{2} << 20;
// Each attempt deletes, evicts or takes less than the one before.
constexpr int kMostSealAttempts = 400;
// Deleting is worth a transaction of its own when so many records are delivered.
constexpr std::uint64_t kWorthDeleting = 20'000;

}  // namespace

bool Store::Inside::deletes_are_due() const {
  std::lock_guard lock(mutex);
  if (state.more_to_delete) return true;
  std::uint64_t records = 0;
  for (const auto& lane : state.lanes) {
    if (lane.first_block == Sequence() || lane.marks.delivered <= lane.tried) continue;
    records += count_between(lane.first_block, std::min(lane.marks.delivered, lane.sealed));
  }
  return records >= kWorthDeleting;
}

Outcome Store::Inside::seal_step(MayEvict may_evict) {
  std::set<Lane> sacrificed;
  std::size_t most = kChunkRawBytes;
  bool ripened = false;
  for (int attempt = 0; attempt < kMostSealAttempts; ++attempt) {
    Draft draft = begin_draft();
    draft.suspects.clear();
    Chunk chunk = gather(draft, most, sacrificed);
    if (chunk.upto == sealed_frame) return Outcome::done;
    for (std::size_t i = 0; i < chunk.records.size(); ++i) {
      for (const auto& record : chunk.records[i]) draft.records[i].records.push_back(&record);
    }
    pack(draft);
    if (has_room_for(draft)) {
      auto outcome = write(draft);
      if (outcome == Outcome::done) seal_again_at = 0;
      if (outcome != Outcome::no_room) return outcome;
    }

    if (can_delete()) {  // what Kafka has goes before anything is given up
      Draft deleting = begin_draft();
      deleting.suspects.clear();
      auto outcome = write(deleting);
      if (outcome == Outcome::broken) return outcome;
      if (outcome == Outcome::done) continue;
    }
    if (may_evict == MayEvict::yes && settings.when_full == WhenFull::evict_oldest) {
      std::optional<Lane> victim;
      {
        Transaction snapshot(*environment, Transaction::Access::read);
        victim = next_victim(snapshot, draft);
      }
      auto mine = lowest(chunk);
      bool mine_goes_first = mine && !(victim && is_guarded(draft, *mine)) &&
                             (!victim || state.lanes[number(*mine)].priority > state.lanes[number(*victim)].priority);
      if (mine_goes_first) {
        sacrificed.insert(*mine);
        continue;
      }
      if (victim && evict()) continue;
      if (!failure.empty()) return Outcome::broken;
      if (mine) {
        sacrificed.insert(*mine);
        continue;
      }
    }
    if (chunk.frames > 1) {
      most = std::min(most, chunk.raw_bytes) / 2;
    } else if (!ripened && let_pages_ripen()) {
      ripened = true;
    } else {
      break;
    }
  }
  if (!failure.empty()) return Outcome::broken;
  seal_again_at = journal->used_bytes() + journal->bytes() / 16;
  return Outcome::no_room;
}

Outcome Store::Inside::seal_everything(MayEvict may_evict) {
  while (sealed_frame < journal->last()) {
    auto before = sealed_frame;
    auto outcome = seal_step(may_evict);
    if (outcome != Outcome::done) return outcome;
    if (sealed_frame == before) break;
  }
  return Outcome::done;
}

/// Reads the oldest frames, as long as what they hold can be packed together: one boot and run, no hole. What is
/// delivered is left out, what is damaged or sacrificed is given up in the draft.
Chunk Store::Inside::gather(Draft& draft, std::size_t most_raw_bytes, const std::set<Lane>& sacrificed) {
  Chunk chunk;
  chunk.records.resize(draft.marks.size());
  chunk.upto = sealed_frame;
  std::vector<std::size_t> next(unsealed.size());
  while (chunk.raw_bytes < most_raw_bytes) {
    std::uint64_t oldest = 0;
    for (std::size_t i = 0; i < unsealed.size(); ++i) {
      if (next[i] == unsealed[i].size()) continue;
      auto frame = unsealed[i][next[i]].place.number;
      if (oldest == 0 || frame < oldest) oldest = frame;
    }
    if (oldest == 0) {  // what follows holds small rows only, and they come along
      chunk.upto = journal->last();
      for (std::size_t i = 0; i < draft.sealed.size(); ++i) draft.sealed[i] = draft.marks[i].last;
      break;
    }
    if (!take_frame(draft, oldest, sacrificed, chunk, next)) break;
    chunk.upto = oldest;
  }
  draft.sealed_frame = chunk.upto;
  return chunk;
}

/// False: it cannot be packed together with what is in the chunk, which ends before it.
bool Store::Inside::take_frame(Draft& draft, std::uint64_t frame, const std::set<Lane>& sacrificed, Chunk& chunk,
                               std::vector<std::size_t>& next) {
  struct Part {
    std::size_t lane;
    Sequence from, last;
    bool wanted;
  };
  std::vector<Part> parts;
  const FramePlace* place = nullptr;
  bool wanted = false;
  for (std::size_t i = 0; i < unsealed.size(); ++i) {
    if (next[i] == unsealed[i].size() || unsealed[i][next[i]].place.number != frame) continue;
    const auto& span = unsealed[i][next[i]];
    const Lane lane{static_cast<std::uint16_t>(i)};
    Part part{i, std::max(span.first, draft.marks[i].delivered.next()), span.last, false};
    part.wanted = part.from <= part.last && !draft.ledger.covers(lane, part.from, part.last);
    wanted = wanted || (part.wanted && sacrificed.count(lane) == 0);
    parts.push_back(part);
    place = &span.place;
  }

  std::string bytes;
  std::optional<FrameHeader> header;
  if (wanted) {
    if (journal->read(*place, bytes)) {
      auto opened = frame_examiner->open(bytes);
      if (opened && opened->number == frame) header = std::move(*opened);
    }
    if (header) {
      BlockStamp stamp{header->epoch, header->run, header->boot, Lane{}};
      if (chunk.frames != 0 && stamp != draft.stamp) return false;
      for (const auto& part : parts) {
        const auto& before = chunk.records[part.lane];
        if (before.empty() || !part.wanted || sacrificed.count(Lane{static_cast<std::uint16_t>(part.lane)}) != 0)
          continue;
        if (draft.records[part.lane].first.value() + before.size() != part.from.value()) return false;
      }
      draft.stamp = stamp;
      ++chunk.frames;
      chunk.raw_bytes += header->raw_length;
    }
  }

  for (const auto& part : parts) {
    const Lane lane{static_cast<std::uint16_t>(part.lane)};
    auto& marks = draft.marks[part.lane];
    bool kept = false;
    if (part.wanted && sacrificed.count(lane) != 0) {
      give_up(draft, lane, part.from, part.last, Cause::evicted);
    } else if (part.wanted) {
      auto& records = chunk.records[part.lane];
      if (records.empty()) draft.records[part.lane].first = part.from;
      kept = header && unpack(*header, lane, part.from, records);
      if (!kept) give_up(draft, lane, part.from, part.last, Cause::damaged);
    }
    if (!kept && draft.first_block[part.lane] == Sequence()) marks.dropped = std::max(marks.dropped, part.last);
    draft.sealed[part.lane] = part.last;
    ++next[part.lane];
  }
  return true;
}

/// Adds the lane's records from `from` on, of the frame that was opened last; all of them or, when one is damaged, none.
bool Store::Inside::unpack(const FrameHeader& header, Lane lane, Sequence from, std::vector<Record>& records) {
  const std::size_t before = records.size();
  for (std::size_t i = 0; i < header.spans.size(); ++i) {
    const auto& span = header.spans[i];
    if (span.lane != lane) continue;
    examiner.open_raw(frame_examiner->records(i), span.count, span.wall_base, span.boot_base);
    Record record;
    for (Sequence sequence = span.first;; sequence = sequence.next()) {
      auto more = examiner.next(record);
      if (!more) {
        records.resize(before);
        return false;
      }
      if (!*more) return true;
      if (sequence >= from) records.push_back(std::move(record));
    }
  }
  return false;
}

/// The lane of lowest priority that has records in the chunk.
std::optional<Lane> Store::Inside::lowest(const Chunk& chunk) const {
  std::optional<Lane> found;
  for (std::size_t i = 0; i < chunk.records.size(); ++i) {
    if (chunk.records[i].empty()) continue;
    if (!found || state.lanes[i].priority > state.lanes[number(*found)].priority) {
      found = Lane{static_cast<std::uint16_t>(i)};
    }
  }
  return found;
}

}  // namespace penstock
