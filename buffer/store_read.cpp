#include <algorithm>
#include <deque>

#include "buffer/block_copy.h"
#include "buffer/store_inside.h"

namespace penstock {
namespace {

// What a lane is sure of in every batch at least, whatever waits in lanes of higher priority.
constexpr double kLeastShare = 0.05;

/// Where records are read from.
struct Sources {
  const Environment& environment;
  const Journal& journal;
  BlockReader& reader;
  FrameReader& frames;
  std::mutex& mutex;  // of the two that follow, as they are now
  const State& now;
  const std::vector<std::deque<Unsealed>>& unsealed;
};

struct LaneBudget {
  std::size_t records, bytes;
};

std::vector<std::size_t> by_priority(const std::vector<LaneState>& lanes) {
  std::vector<std::size_t> order(lanes.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return lanes[a].priority < lanes[b].priority; });
  return order;
}

/// One call of read(): fills one batch.
class BatchReading {
 public:
  /// `view`: the state as of one instant.
  BatchReading(const Sources& sources, const BatchLimits& limits, const State& view)
      : sources_(sources), limits_(limits), view_(view), history_(view.history()) {}

  /// Nothing: fine. Else the code that LMDB gave.
  DatabaseCode run(Batch& batch) {
    positions_ = history_.delivered;
    auto order = by_priority(view_.lanes);
    double shares = 0;  // of those that come later
    for (auto i : order) shares += has_backlog(i) ? share(i) : 0;
    for (auto i : order) {
      if (!has_backlog(i)) continue;
      shares -= share(i);
      LaneBudget budget{keep_back(limits_.records, batch.records.size(), shares),
                        keep_back(limits_.bytes, bytes_, shares)};
      read_lane(i, budget, batch);
    }
    add_counts(batch);
    complete(batch);
    return code_;
  }

  const std::set<Suspect>& suspects() const { return suspects_; }
  std::uint64_t close_wanted() const { return close_wanted_; }
  /// The writer moved what was looked for: it is worth reading again.
  bool stale() const { return stale_; }

 private:
  double share(std::size_t lane) const { return std::max(kLeastShare, view_.lanes[lane].share); }

  /// What a lane may use of a limit, so that the shares of those after it are left.
  static std::size_t keep_back(std::size_t limit, std::size_t used, double shares) {
    auto most = static_cast<std::size_t>(static_cast<double>(limit) * std::clamp(1 - shares, 0.0, 1.0));
    return most > used ? most - used : 0;
  }

  bool has_backlog(std::size_t i) const {
    const auto& lane = view_.lanes[i];
    return lane.marks.delivered < lane.marks.last && limits_.without.count(Lane{static_cast<std::uint16_t>(i)}) == 0;
  }

  Epoch epoch_at(const std::string& lane, Sequence sequence) const { return history_.epoch_of(lane, sequence); }

  void read_lane(std::size_t index, LaneBudget budget, Batch& batch) {
    const auto& lane = view_.lanes[index];
    Lane which{static_cast<std::uint16_t>(index)};
    Sequence position = lane.marks.delivered;
    copied_.clear();
    more_ = true;
    budget_ended_ = false;
    while (position < lane.marks.last && code_ == 0) {
      std::uint64_t entry_number = 0;
      if (auto* entry = view_.ledger.covering(which, position.next(), &entry_number)) {
        if (batch.gaps.size() >= limits_.records) break;
        Sequence last = std::min(entry->last, lane.marks.last);
        add_gap(batch, entry_number, *entry, position.next(), last);
        position = last;
        continue;
      }
      bool spent = budget.records == 0 || budget.bytes == 0;
      if (spent && !batch.records.empty()) {
        batch.more = true;
        break;
      }
      auto before = position;
      bool going_on = position < lane.sealed ? read_block(which, lane, position, budget, batch)
                                             : read_frame(which, lane, position, budget, batch);
      if (budget_ended_) {
        batch.more = true;
        break;
      }
      if (!going_on) break;
      // It ended below what we need, and what follows would have been taken.
      if (position == before) {
        suspect(which, position.next());
        break;
      }
    }
    if (position > Sequence()) positions_[lane.name] = position;
  }

  /// What follows `position`, from LMDB; false when the lane ends here for now.
  bool read_block(Lane which, const LaneState& lane, Sequence& position, LaneBudget& budget, Batch& batch) {
    auto lies_behind = [&](const BlockSpan& span) { return span.next && *span.next <= position.next(); };
    while (!copied_.empty() && lies_behind(copied_.front().span)) copied_.pop_front();
    if (copied_.empty() && more_) copy(which, position.next(), budget);
    if (copied_.empty() || copied_.front().span.first > position.next()) {
      suspect(which, position.next());
      return false;
    }
    CopiedBlock block = std::move(copied_.front());
    copied_.pop_front();
    if (!decode(which, lane, block, position, budget, batch)) {
      suspect(which, position.next());
      return false;
    }
    return true;
  }

  /// The same, from the journal.
  bool read_frame(Lane which, const LaneState& lane, Sequence& position, LaneBudget& budget, Batch& batch) {
    Unsealed span;
    auto find = [&] {  // nothing: it is not there
      std::lock_guard lock(sources_.mutex);
      const auto& spans = sources_.unsealed[number(which)];
      auto found = std::lower_bound(spans.begin(), spans.end(), position.next(),
                                    [](const Unsealed& one, Sequence wanted) { return one.last < wanted; });
      bool sealed = position < sources_.now.lanes[number(which)].sealed;
      if (sealed || found == spans.end() || found->first > position.next()) {
        stale_ = stale_ || sealed;
        return false;
      }
      span = *found;
      return true;
    };
    if (!find()) {
      if (!stale_) suspects_.insert({which, position.next()});
      return false;
    }
    const std::uint64_t frame = span.place.number;
    if (frame != frame_) {
      frame_ = 0;
      auto read = sources_.journal.read(span.place, frame_bytes_);
      auto opened = read ? sources_.frames.open(frame_bytes_) : Result<FrameHeader>(read.error());
      if (opened && opened->number == frame) {
        header_ = std::move(*opened);
        frame_ = frame;
      }
    }
    bool ours = frame_ == frame && std::any_of(view_.epochs.begin(), view_.epochs.end(),
                                               [&](const EpochEntry& entry) { return entry.epoch == header_.epoch; });
    for (std::size_t i = 0; ours && i < header_.spans.size(); ++i) {
      const auto& found = header_.spans[i];
      if (found.lane != which || found.first != span.first) continue;
      sources_.reader.open_raw(sources_.frames.records(i), found.count, found.wall_base, found.boot_base);
      if (take(which, lane, found.first, found.last(), header_.boot, position, budget, batch)) return true;
      break;
    }
    // Damaged; unless the writer has meanwhile sealed it and written another frame there.
    if (find() && span.place.number == frame) suspects_.insert({which, position.next()});
    return false;
  }

  void copy(Lane lane, Sequence from, const LaneBudget& budget) {
    auto copied = copy_blocks(sources_.environment, lane, from, {budget.records, budget.bytes});
    copied_ = std::move(copied.blocks);
    more_ = copied.more;
    snapshot_ = copied.snapshot;
    code_ = copied.code;
  }

  /// Adds what of the block is wanted; false when it is damaged, and then nothing of it was added.
  bool decode(Lane which, const LaneState& lane, const CopiedBlock& block, Sequence& position, LaneBudget& budget,
              Batch& batch) {
    auto header = open_block(sources_.reader, block);
    if (!header || !belongs(*header, which, block.span.first, view_.epochs)) return false;
    return take(which, lane, header->first, header->last, header->stamp.boot, position, budget, batch);
  }

  /// The same, of the records first..last that the reader is open at.
  bool take(Lane which, const LaneState& lane, Sequence first, Sequence last, const Boot& boot, Sequence& position,
            LaneBudget& budget, Batch& batch) {
    const std::size_t records_before = batch.records.size(), gaps_before = batch.gaps.size(), bytes_before = bytes_;
    const Sequence position_before = position;
    const LaneBudget budget_before = budget;
    Epoch epoch = epoch_at(lane.name, first);
    bool one_epoch = epoch == epoch_at(lane.name, last);
    budget_ended_ = false;
    StoredRecord stored{which, {}, epoch, boot, {}};
    std::uint64_t entry_number = 0;
    auto* entry = view_.ledger.following(which, position.next(), &entry_number);
    for (Sequence sequence = first;; sequence = sequence.next()) {
      auto more = sources_.reader.next(stored.record);
      if (!more) {
        batch.records.resize(records_before);
        batch.gaps.resize(gaps_before);
        bytes_ = bytes_before;
        position = position_before;
        budget = budget_before;
        return false;
      }
      if (!*more || sequence > lane.marks.last) break;
      if (sequence <= position) continue;
      if (entry != nullptr && entry->first == sequence) {  // in the midst of a block: a dead letter
        budget_ended_ = batch.gaps.size() >= limits_.records;
        if (budget_ended_) break;
        position = std::min(entry->last, lane.marks.last);
        add_gap(batch, entry_number, *entry, sequence, position);
        entry = view_.ledger.following(which, position.next(), &entry_number);
        continue;
      }
      std::size_t size = stored.record.bytes();
      if (!batch.records.empty() && (budget.records == 0 || budget.bytes < size)) {
        budget_ended_ = true;
        break;
      }
      stored.sequence = sequence;
      if (!one_epoch) stored.epoch = epoch_at(lane.name, sequence);
      bytes_ += size;
      budget.records -= std::min<std::size_t>(budget.records, 1);
      budget.bytes -= std::min(budget.bytes, size);
      position = sequence;
      batch.records.push_back(std::move(stored));
      stored.lane = which;
    }
    return true;
  }

  void add_gap(Batch& batch, std::uint64_t entry_number, const LedgerEntry& entry, Sequence first, Sequence last) {
    const auto& name = view_.lanes[number(entry.lane)].name;
    Gap gap{entry_number, entry.lane, {}, first, last, count_between(first, last), entry.cause, entry.time};
    gap.epoch = entry.ranged() ? epoch_at(name, first) : history_.epochs.back().epoch;
    if (!entry.ranged()) {
      gap.first = gap.last = Sequence();
      gap.count = entry.count;
    }
    batch.gaps.push_back(gap);
  }

  /// What never had a number, in the order of the ledger; the checkpoint's number ends all up to it.
  void add_counts(Batch& batch) {
    batch.after.ledger = view_.ledger_sent;
    bool open = true;
    for (const auto& [entry_number, entry] : view_.ledger.entries()) {
      if (entry.ranged() || view_.struck.count(entry_number) != 0) continue;
      close_wanted_ = std::max(close_wanted_, entry_number);
      open = open && entry_number <= view_.closed;
      if (!open) continue;
      add_gap(batch, entry_number, entry, {}, {});
      batch.after.ledger = std::max(batch.after.ledger, entry_number);
    }
  }

  void complete(Batch& batch) {
    batch.after.delivered = positions_;
    batch.after.runs = runs_up_to(history_, positions_);
    if (batch.after.runs.empty() && view_.run_stored) batch.after.runs.push_back(history_.runs.back());
    batch.after.epoch = history_.epochs.back().epoch;
    // Not a run that a crash would make us forget: the checkpoint would look like another's.
    std::size_t stored = history_.runs.size() - (view_.run_stored ? 0 : 1);
    if (stored > 0) batch.after.writer = history_.runs[stored - 1].run;
  }

  /// Only believed when the snapshot is the one that the view describes: else the writer was simply faster.
  void suspect(Lane lane, Sequence sequence) {
    if (code_ == 0 && snapshot_ == view_.snapshot) suspects_.insert({lane, sequence});
  }

  const Sources& sources_;
  const BatchLimits& limits_;
  const State& view_;
  const History history_;
  Positions positions_;
  std::set<Suspect> suspects_;
  std::uint64_t close_wanted_ = 0;
  std::uint64_t snapshot_ = 0;
  std::size_t bytes_ = 0;
  bool budget_ended_ = false;
  bool stale_ = false;
  DatabaseCode code_ = 0;
  // of the lane that is read
  std::deque<CopiedBlock> copied_;
  bool more_ = true;  // blocks of it lie behind the copied ones
  // of the frame that is open
  std::uint64_t frame_ = 0;
  FrameHeader header_;
  std::string frame_bytes_;
};

}  // namespace

History State::history() const {
  History result;
  result.epochs = epochs;
  result.runs = runs;
  for (const auto& lane : lanes) {
    result.last[lane.name] = lane.marks.last;
    result.delivered[lane.name] = lane.marks.delivered;
  }
  return result;
}

void State::raise_delivered(const Checkpoint& after) {
  for (auto& lane : lanes) {
    auto upto = std::min(at(after.delivered, lane.name), lane.marks.last);
    lane.marks.delivered = std::max(lane.marks.delivered, upto);
  }
  for (const auto& [entry_number, entry] : ledger.entries()) {
    if (!entry.ranged() && entry_number <= after.ledger) struck.insert(entry_number);
  }
  ledger_sent = std::max(ledger_sent, after.ledger);
}

Result<Batch> Store::Inside::read(const BatchLimits& limits, const Checkpoint* sent) {
  std::lock_guard one_reader(read_mutex);
  const Sources sources{*environment, *journal, reader, *frame_reader, mutex, state, unsealed};
  for (;;) {
    State view;
    {
      std::lock_guard lock(mutex);
      view = state;
    }
    Batch batch;
    batch.base.delivered = view.history().delivered;
    batch.base.ledger = view.ledger_sent;
    if (sent != nullptr) view.raise_delivered(*sent);
    BatchReading reading(sources, limits, view);
    if (auto code = reading.run(batch); code != 0) {
      return distrust(code, directory.path().string() + ": read");
    }
    if (!reading.suspects().empty() || reading.close_wanted() > view.closed) {
      std::lock_guard lock(mutex);
      state.suspects.insert(reading.suspects().begin(), reading.suspects().end());
      state.close_wanted = std::max(state.close_wanted, reading.close_wanted());
    }
    // Each time the writer has moved something, so this ends when it rests.
    if (batch.empty() && reading.stale()) continue;
    return batch;
  }
}

void Store::Inside::delivered(const Checkpoint& after) {
  std::lock_guard lock(mutex);
  state.raise_delivered(after);
}

}  // namespace penstock
