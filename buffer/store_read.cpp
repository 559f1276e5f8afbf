#include <algorithm>
#include <deque>

#include "buffer/bytes.h"
#include "buffer/store_inside.h"

namespace penstock {
namespace {

constexpr std::size_t kBlocksPerSnapshot = 64;
// From so many blocks on, what reading has mapped is given back at once: a backlog must not fill the RAM.
constexpr std::size_t kForgetBlocks = 32;
// What a lane is sure of in every batch, whatever waits in lanes of higher priority: one part in so many.
constexpr std::size_t kShare = 20;

struct CopiedBlock {
  Sequence first;
  std::vector<std::string> pieces;
};

/// Everything read() needs to know, as of one instant.
struct ReadView {
  State state;
  std::uint64_t durable_commit = 0;
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

/// The runs that numbered anything up to `delivered`: the newest of them, oldest first.
std::vector<RunEntry> runs_up_to(const History& history, const Positions& delivered) {
  std::vector<RunEntry> chosen;
  Positions end = history.last;  // of the run looked at, per lane
  for (std::size_t i = history.runs.size(); i-- > 0 && chosen.size() < kCheckpointRuns;) {
    const auto& run = history.runs[i];
    bool numbered = false;
    for (auto& [lane, last] : end) {
      auto first = run.first.find(lane);
      if (first == run.first.end()) {  // the lane was born later: all of it belongs to newer runs
        last = Sequence();
        continue;
      }
      numbered |= first->second <= last && first->second <= at(delivered, lane);
      last = std::min(last, first->second.previous());
    }
    if (numbered) chosen.push_back(run);
  }
  std::reverse(chosen.begin(), chosen.end());
  return chosen;
}

/// One call of read(): fills one batch.
class BatchReading {
 public:
  BatchReading(const Environment& environment, BlockReader& reader, const BatchLimits& limits, const ReadView& view)
      : environment_(environment), reader_(reader), limits_(limits), view_(view), history_(view.state.history()) {}

  /// Nothing: fine. Else the code that LMDB gave.
  DatabaseCode run(Batch& batch) {
    positions_ = history_.delivered;
    auto order = by_priority(view_.state.lanes);
    std::size_t backlogs = 0;
    for (auto i : order) backlogs += has_backlog(i) ? 1 : 0;
    for (auto i : order) {
      if (!has_backlog(i)) continue;
      --backlogs;  // now: how many come after this one
      LaneBudget budget{keep_back(limits_.records, batch.records.size(), backlogs),
                        keep_back(limits_.bytes, bytes_, backlogs)};
      read_lane(i, budget, batch);
    }
    add_counts(batch);
    complete(batch);
    return code_;
  }

  const std::set<Suspect>& suspects() const { return suspects_; }
  std::uint64_t close_wanted() const { return close_wanted_; }

 private:
  static std::size_t keep_back(std::size_t limit, std::size_t used, std::size_t backlogs) {
    std::size_t most = limit - std::min(limit, limit / kShare * backlogs);
    return most > used ? most - used : 0;
  }

  bool has_backlog(std::size_t i) const {
    const auto& lane = view_.state.lanes[i];
    return lane.marks.delivered < lane.durable;
  }

  bool gap_is_durable(const LedgerEntry& entry) const { return entry.commit <= view_.durable_commit; }

  Epoch epoch_at(const std::string& lane, Sequence sequence) const { return history_.epoch_of(lane, sequence); }

  void read_lane(std::size_t index, LaneBudget budget, Batch& batch) {
    const auto& lane = view_.state.lanes[index];
    Lane which{static_cast<std::uint16_t>(index)};
    Sequence position = lane.marks.delivered;
    std::deque<CopiedBlock> copied;
    bool exhausted = false;  // no block of the lane lies behind the copied ones
    while (position < lane.durable && code_ == 0) {
      std::uint64_t entry_number = 0;
      if (auto* entry = view_.state.ledger.covering(which, position.next(), &entry_number)) {
        if (!gap_is_durable(*entry) || batch.gaps.size() >= limits_.records) break;
        Sequence last = std::min(entry->last, lane.durable);
        add_gap(batch, entry_number, *entry, position.next(), last);
        position = last;
        continue;
      }
      bool spent = budget.records == 0 || budget.bytes == 0;
      if (spent && !batch.records.empty()) {
        batch.more = true;
        break;
      }
      while (!copied.empty() && copied.front().first <= position && copied.size() > 1 &&
             copied[1].first <= position.next()) {
        copied.pop_front();
      }
      if (copied.empty() && !exhausted) exhausted = !copy(which, position.next(), budget, copied);
      if (copied.empty() || copied.front().first > position.next()) {
        suspect(which, position.next());
        break;
      }
      CopiedBlock block = std::move(copied.front());
      copied.pop_front();
      auto before = position;
      if (!decode(which, lane, block, position, budget, batch)) {
        suspect(which, position.next());
        break;
      }
      if (position == before) {
        if (budget_ended_) break;
        // The block ends below what we need and nothing follows where it should.
        if (copied.empty() || copied.front().first > position.next()) {
          suspect(which, position.next());
          break;
        }
      }
      if (budget_ended_) {
        batch.more = true;
        break;
      }
    }
    if (position > Sequence()) positions_[lane.name] = position;
  }

  /// Copies blocks from the one that holds `from` on; false when the lane has no more than that.
  bool copy(Lane lane, Sequence from, const LaneBudget& budget, std::deque<CopiedBlock>& copied) {
    Transaction snapshot(environment_, Transaction::Access::read);
    snapshot_ = snapshot.snapshot();
    std::size_t raw = 0, records = 0, blocks = 0;
    std::string_view lowest, highest;
    {
      BlockWalk walk(snapshot, lane, from);
      while (blocks < kBlocksPerSnapshot && (blocks == 0 || (raw < budget.bytes && records < budget.records))) {
        auto span = walk.next();
        if (!span) {
          if (snapshot.code() != 0) code_ = snapshot.code();
          return false;
        }
        CopiedBlock block{span->first, {}};
        for (std::uint32_t i = 0; i < span->pieces; ++i) {
          auto value = snapshot.get(fragment_key(lane, span->first, static_cast<std::uint16_t>(i)));
          if (!value) break;
          block.pieces.emplace_back(*value);
          if (lowest.empty() || value->data() < lowest.data()) lowest = *value;
          if (highest.empty() || value->data() > highest.data()) highest = *value;
        }
        blocks += span->pieces;
        if (!block.pieces.empty() && block.pieces[0].size() >= kBlockHeaderBytes) {  // not yet checked: a hint only
          records += load_little<std::uint32_t>(block.pieces[0].data() + 72);
          raw += load_little<std::uint32_t>(block.pieces[0].data() + 76);
        }
        copied.push_back(std::move(block));
      }
    }
    if (snapshot.code() != 0) code_ = snapshot.code();
    if (blocks >= kForgetBlocks) environment_.forget_memory(lowest, highest);
    return true;
  }

  /// Adds what of the block is wanted; false when it is damaged, and then nothing of it was added.
  bool decode(Lane which, const LaneState& lane, const CopiedBlock& block, Sequence& position, LaneBudget& budget,
              Batch& batch) {
    std::vector<std::string_view> pieces(block.pieces.begin(), block.pieces.end());
    if (pieces.empty()) return false;
    auto header = pieces.size() == 1 ? reader_.open(pieces[0]) : reader_.open(pieces);
    if (!header || !belongs(*header, which, block.first, view_.state.epochs)) return false;

    const std::size_t records_before = batch.records.size(), bytes_before = bytes_;
    const Sequence position_before = position;
    const LaneBudget budget_before = budget;
    Epoch epoch = epoch_at(lane.name, header->first);
    bool one_epoch = epoch == epoch_at(lane.name, header->last);
    budget_ended_ = false;
    StoredRecord stored{which, {}, epoch, header->stamp.boot, {}};
    for (Sequence sequence = header->first;; sequence = sequence.next()) {
      auto more = reader_.next(stored.record);
      if (!more) {
        batch.records.resize(records_before);
        bytes_ = bytes_before;
        position = position_before;
        budget = budget_before;
        return false;
      }
      if (!*more || sequence > lane.durable) break;
      if (sequence <= position) continue;
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
    const auto& name = view_.state.lanes[number(entry.lane)].name;
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
    batch.after.ledger = view_.state.ledger_sent;
    bool open = true;
    for (const auto& [entry_number, entry] : view_.state.ledger.entries()) {
      if (entry.ranged() || view_.state.struck.count(entry_number) != 0) continue;
      close_wanted_ = std::max(close_wanted_, entry_number);
      open = open && entry_number <= view_.state.closed && gap_is_durable(entry);
      if (!open) continue;
      add_gap(batch, entry_number, entry, {}, {});
      batch.after.ledger = std::max(batch.after.ledger, entry_number);
    }
  }

  void complete(Batch& batch) {
    batch.after.delivered = positions_;
    batch.after.runs = runs_up_to(history_, positions_);
    if (batch.after.runs.empty() && view_.state.run_stored) batch.after.runs.push_back(history_.runs.back());
    batch.after.epoch = history_.epochs.back().epoch;
  }

  /// Only believed when the snapshot is the one that the view describes: else the writer was simply faster.
  void suspect(Lane lane, Sequence sequence) {
    if (code_ == 0 && snapshot_ == view_.state.snapshot) suspects_.insert({lane, sequence});
  }

  const Environment& environment_;
  BlockReader& reader_;
  const BatchLimits& limits_;
  const ReadView& view_;
  const History history_;
  Positions positions_;
  std::set<Suspect> suspects_;
  std::uint64_t close_wanted_ = 0;
  std::uint64_t snapshot_ = 0;
  std::size_t bytes_ = 0;
  bool budget_ended_ = false;
  DatabaseCode code_ = 0;
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

Result<Batch> Store::Inside::read(const BatchLimits& limits) {
  std::lock_guard one_reader(read_mutex);
  ReadView view;
  {
    std::lock_guard lock(mutex);
    view.state = state;
    view.durable_commit = durable.value();
  }
  Batch batch;
  BatchReading reading(*environment, reader, limits, view);
  if (auto code = reading.run(batch); code != 0) {
    return distrust(code, directory.path().string() + ": read");
  }
  if (!reading.suspects().empty() || reading.close_wanted() > view.state.closed) {
    std::lock_guard lock(mutex);
    state.suspects.insert(reading.suspects().begin(), reading.suspects().end());
    state.close_wanted = std::max(state.close_wanted, reading.close_wanted());
  }
  return batch;
}

void Store::Inside::delivered(const Batch& batch) {
  std::lock_guard lock(mutex);
  for (auto& lane : state.lanes) {
    auto upto = std::min(at(batch.after.delivered, lane.name), lane.durable);
    lane.marks.delivered = std::max(lane.marks.delivered, upto);
  }
  for (const auto& gap : batch.gaps) {
    if (gap.first == Sequence() && state.ledger.entries().count(gap.entry) != 0) state.struck.insert(gap.entry);
  }
  state.ledger_sent = std::max(state.ledger_sent, batch.after.ledger);
}

}  // namespace penstock
