// A destination that behaves as badly as a network allows and never worse: it loses requests, loses replies, lets a
// request land late, and refuses; but a batch is in it whole or not at all, and resume() settles what was in doubt. What
// it acknowledges it may leave undecided, as Kafka does (agent/kafka/kafka_sink.h): then the next commit decides, one
// way or the other.
//
// `settles = false` makes it the sink that must not exist: a commit in doubt may land after resume() has answered.
#pragma once

#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "agent/forward/sink.h"

namespace penstock {

class FaultyDestination {
 public:
  explicit FaultyDestination(std::uint64_t seed) : random_(seed) {}

  struct Faults {
    double lose_request = 0, lose_reply = 0, land_late = 0, refuse = 0, fail_resume = 0, leave_undecided = 0;
    double decide_by_itself = 0.5;  // what was left undecided, whenever somebody looks
    bool settles = true;
  };
  Faults faults;

  Result<std::optional<Checkpoint>> resume() {
    if (happens(faults.fail_resume)) return transient("resume: no reply");
    if (faults.settles) settle_doubt();
    decide(true);
    return checkpoint_;
  }

  Result<void> commit(const Batch& batch) {
    if (!faults.settles && doubt_ && happens(0.5)) settle_doubt();
    if (happens(faults.refuse)) return transient("commit: refused");
    for (const auto& stored : batch.records) {
      if (!is_poison(stored)) continue;
      decide(false);
      return rejected("a record is refused for good");
    }
    if (happens(faults.lose_request)) {
      if (happens(0.5)) decide(false);
      return transient("commit: the request was lost");
    }
    if (happens(faults.land_late)) {
      doubt_ = batch;
      return transient("commit: timed out, may still land");
    }
    decide(true);
    if (happens(faults.leave_undecided)) {
      undecided_ = batch;
      return {};
    }
    take(batch);
    if (happens(faults.lose_reply)) return transient("commit: the reply was lost");
    return {};
  }

  bool proven() {
    if (undecided_ && happens(faults.decide_by_itself)) decide(true);
    return !undecided_;
  }

  /// As a cluster that was set up anew.
  void forget_checkpoint() { checkpoint_.reset(); }

  /// Such a record is refused for good.
  static bool is_poison(const StoredRecord& stored) { return stored.record.key == "poison"; }

  /// What a consumer sees, in the order it was committed.
  const std::vector<StoredRecord>& records() const { return records_; }
  const std::vector<Gap>& gaps() const { return gaps_; }
  const std::optional<Checkpoint>& checkpoint() const { return checkpoint_; }

 private:
  bool happens(double probability) { return std::uniform_real_distribution<>(0, 1)(random_) < probability; }

  void settle_doubt() {
    if (!doubt_) return;
    bool lands = happens(0.5);
    decide(lands);
    if (lands) take(*doubt_);
    doubt_.reset();
  }

  void decide(bool committed) {
    if (undecided_ && committed) take(*undecided_);
    undecided_.reset();
  }

  void take(const Batch& batch) {
    records_.insert(records_.end(), batch.records.begin(), batch.records.end());
    gaps_.insert(gaps_.end(), batch.gaps.begin(), batch.gaps.end());
    checkpoint_ = batch.after;
  }

  std::mt19937_64 random_;
  std::vector<StoredRecord> records_;
  std::vector<Gap> gaps_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<Batch> doubt_;
  std::optional<Batch> undecided_;  // acknowledged, and there for nobody
};

/// One client of the destination. `asks = false`: the client that must not exist; it tries a failed commit again
/// without asking where the destination is. `looks = false`: nor that one; it takes every word of success for proof.
class FaultySink final : public Sink {
 public:
  explicit FaultySink(FaultyDestination& destination, bool asks = true, bool looks = true)
      : destination_(destination), asks_(asks), looks_(looks) {}

  Result<std::optional<Checkpoint>> resume(std::stop_token) override { return destination_.resume(); }

  Result<void> commit(const Batch& batch, std::stop_token) override {
    auto first = destination_.commit(batch);
    if (first || asks_) return first;
    return destination_.commit(batch);
  }

  bool proven(std::stop_token) override { return !looks_ || destination_.proven(); }

 private:
  FaultyDestination& destination_;
  bool asks_, looks_;
};

}  // namespace penstock
