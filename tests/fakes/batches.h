// Batches as a store would give them, without a store: for tests of sinks.
#pragma once

#include <map>
#include <string>

#include "agent/forward/sink.h"
#include "agent/kafka/notes.h"
#include "buffer/store.h"

namespace penstock {

class MemoryNotes final : public Notes {
 public:
  std::optional<std::string> get(std::string_view name) const override {
    auto found = kept.find(std::string(name));
    return found == kept.end() ? std::nullopt : std::optional(found->second);
  }
  void set(std::string_view name, std::string value) override { kept[std::string(name)] = std::move(value); }

  std::map<std::string, std::string> kept;
};

/// Prepares the batch and commits it, as the forwarder does when there is no obstacle.
inline Result<void> send(Sink& sink, const Batch& batch, std::stop_token stop = {}) {
  auto obstacles = sink.prepare(batch, stop);
  if (!obstacles) return obstacles.error();
  if (!obstacles->empty()) return transient(obstacles->front().why);
  return sink.commit(batch, stop);
}

/// Numbers records in one lane as one agent's store would.
class BatchMaker {
 public:
  explicit BatchMaker(WallTime now) : now_(now) { run_ = {draw<Run>(), epoch_, {{"telemetry", Sequence(1)}}}; }

  static std::string lane_name(Lane) { return "telemetry"; }

  /// The next `count` records, with payloads "record N" filled up to `bytes`.
  Batch next(std::size_t count, std::size_t bytes = 0) {
    Batch batch;
    for (std::size_t i = 0; i < count; ++i) {
      last_ = last_.next();
      StoredRecord stored;
      stored.lane = Lane{0};
      stored.sequence = last_;
      stored.epoch = epoch_;
      stored.record.driver = "maker";
      stored.record.stream = "line/" + std::to_string(last_.value() % 3);
      stored.record.synchronised = true;
      stored.record.time = now_;
      stored.record.payload = "record " + std::to_string(last_.value());
      if (stored.record.payload.size() < bytes) stored.record.payload.resize(bytes, 'x');
      batch.records.push_back(std::move(stored));
    }
    batch.after = after();
    return batch;
  }

  /// Gives up the next `count` sequences.
  Batch gap(std::uint64_t count, Cause cause = Cause::evicted) {
    Gap gap;
    gap.entry = ++ledger_;
    gap.epoch = epoch_;
    gap.first = last_.next();
    gap.last = Sequence(last_.value() + count);
    gap.count = count;
    gap.cause = cause;
    gap.time = now_;
    last_ = gap.last;
    Batch batch;
    batch.gaps.push_back(gap);
    batch.after = after();
    return batch;
  }

  /// Goes back to after `sequence`, as a forwarder does after a doubt.
  void rewind(Sequence sequence) { last_ = sequence; }
  Sequence last() const { return last_; }
  const Epoch& epoch() const { return epoch_; }
  Checkpoint after() const {
    Checkpoint checkpoint;
    checkpoint.epoch = epoch_;
    checkpoint.runs = {run_};
    checkpoint.delivered = {{"telemetry", last_}};
    checkpoint.ledger = ledger_;
    return checkpoint;
  }

 private:
  WallTime now_;
  Epoch epoch_ = draw<Epoch>();
  RunEntry run_;
  Sequence last_;
  std::uint64_t ledger_ = 0;
};

}  // namespace penstock
