#include <algorithm>

#include "buffer/block_copy.h"
#include "buffer/store_inside.h"

namespace penstock {
namespace {

/// The lane, as of one instant.
struct PeekView {
  std::string name;
  Sequence last;
  std::vector<Unsealed> unsealed;  // what of it is in the journal
  std::vector<EpochEntry> epochs;
  History history;
  std::vector<std::pair<Sequence, Sequence>> given_up;  // ranges of the ledger

  bool gave_up(Sequence sequence) const {
    return std::any_of(given_up.begin(), given_up.end(),
                       [&](const auto& range) { return range.first <= sequence && sequence <= range.second; });
  }
};

/// One call of peek().
class Peeking {
 public:
  Peeking(const PeekView& view, Lane lane, const BatchLimits& limits) : view_(view), lane_(lane), limits_(limits) {}

  /// Takes what is wanted of a block; nothing of a damaged one.
  void take(const CopiedBlock& block, Sequence from) {
    auto header = open_block(reader_, block);
    if (header && belongs(*header, lane_, block.span.first, view_.epochs)) {
      take_records(header->first, header->stamp.boot, from);
    }
  }

  /// The same of a frame.
  void take(const Unsealed& span, const FrameHeader& header, const FrameReader& frame, Sequence from) {
    for (std::size_t i = 0; i < header.spans.size(); ++i) {
      const auto& found = header.spans[i];
      if (found.lane != lane_ || found.first != span.first || header.number != span.place.number) continue;
      reader_.open_raw(frame.records(i), found.count, found.wall_base, found.boot_base);
      take_records(found.first, header.boot, from);
    }
  }

  std::vector<StoredRecord> records;
  bool full = false;  // the limits are reached

 private:
  void take_records(Sequence first, const Boot& boot, Sequence from) {
    const std::size_t records_before = records.size(), bytes_before = bytes_;
    for (Sequence sequence = first;; sequence = sequence.next()) {
      StoredRecord stored{lane_, sequence, {}, boot, {}};
      auto more = reader_.next(stored.record);
      if (!more) {  // damaged after all: nothing of it is believed
        records.resize(records_before);
        bytes_ = bytes_before;
        full = false;
        return;
      }
      // The rest is read too, though not wanted: only a block that is whole to its end is believed.
      if (!*more) return;
      // What moved from the journal into LMDB meanwhile is met twice.
      bool met = !records.empty() && sequence <= records.back().sequence;
      if (full || met || sequence < from || sequence > view_.last || view_.gave_up(sequence)) continue;
      std::size_t size = stored.record.bytes();
      full = !records.empty() && (records.size() >= limits_.records || bytes_ + size > limits_.bytes);
      if (full) continue;
      stored.epoch = view_.history.epoch_of(view_.name, sequence);
      bytes_ += size;
      records.push_back(std::move(stored));
    }
  }

  const PeekView& view_;
  const Lane lane_;
  const BatchLimits& limits_;
  BlockReader reader_;
  std::size_t bytes_ = 0;
};

}  // namespace

Result<std::vector<StoredRecord>> Store::peek(Lane lane, Sequence from, const BatchLimits& limits) const {
  PeekView view;
  {
    std::lock_guard lock(inside_->mutex);
    const auto& state = inside_->state;
    if (number(lane) >= state.lanes.size()) return rejected("lane " + std::to_string(number(lane)) + " is unknown");
    const auto& there = state.lanes[number(lane)];
    view.name = there.name;
    view.last = there.marks.last;
    view.epochs = state.epochs;
    view.history = state.history();
    for (const auto& [entry_number, entry] : state.ledger.entries()) {
      if (entry.ranged() && entry.lane == lane) view.given_up.emplace_back(entry.first, entry.last);
    }
    from = std::max(from, std::max(there.marks.delivered, there.marks.dropped).next());
    for (const auto& span : inside_->unsealed[number(lane)]) {
      if (span.last >= from) view.unsealed.push_back(span);
    }
  }
  Peeking peeking(view, lane, limits);
  while (!peeking.full && from <= view.last) {
    auto copied = copy_blocks(*inside_->environment, lane, from, limits);
    if (copied.code != 0) return inside_->distrust(copied.code, inside_->directory.path().string() + ": peek");
    if (copied.blocks.empty()) break;
    for (const auto& block : copied.blocks) {
      if (!peeking.full) peeking.take(block, from);
    }
    if (!copied.more) break;
    from = std::max(from, *copied.blocks.back().span.next);
  }
  FrameReader frames(inside_->journal_seed);
  std::string bytes;
  for (const auto& span : view.unsealed) {
    if (peeking.full) break;
    if (!inside_->journal->read(span.place, bytes)) continue;
    if (auto header = frames.open(bytes)) peeking.take(span, *header, frames, from);
  }
  return std::move(peeking.records);
}

std::vector<Gap> Store::gaps() const {
  std::lock_guard lock(inside_->mutex);
  const auto& state = inside_->state;
  const History history = state.history();
  std::vector<Gap> gaps;
  for (const auto& [entry_number, entry] : state.ledger.entries()) {
    const auto& name = state.lanes[number(entry.lane)].name;
    Gap gap{entry_number, entry.lane, {}, entry.first, entry.last, entry.count, entry.cause, entry.time};
    gap.epoch = entry.ranged() ? history.epoch_of(name, entry.first) : history.epochs.back().epoch;
    gaps.push_back(gap);
  }
  return gaps;
}

}  // namespace penstock
