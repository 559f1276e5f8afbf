// A destination that behaves as badly as a network allows and never worse: it loses requests, loses replies, lets a
// request land late, and refuses; but a batch is in it whole or not at all, and resume() settles what was in doubt.
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
    double lose_request = 0, lose_reply = 0, land_late = 0, refuse = 0, fail_resume = 0;
    bool settles = true;
  };
  Faults faults;

  Result<std::optional<Checkpoint>> resume() {
    if (happens(faults.fail_resume)) return transient("resume: no reply");
    if (faults.settles) settle_doubt();
    return checkpoint_;
  }

  Result<void> commit(const Batch& batch) {
    if (!faults.settles && doubt_ && happens(0.5)) settle_doubt();
    if (happens(faults.refuse)) return transient("commit: refused");
    if (happens(faults.lose_request)) return transient("commit: the request was lost");
    if (happens(faults.land_late)) {
      doubt_ = batch;
      return transient("commit: timed out, may still land");
    }
    take(batch);
    if (happens(faults.lose_reply)) return transient("commit: the reply was lost");
    return {};
  }

  /// What a consumer sees, in the order it was committed.
  const std::vector<StoredRecord>& records() const { return records_; }
  const std::vector<Gap>& gaps() const { return gaps_; }
  const std::optional<Checkpoint>& checkpoint() const { return checkpoint_; }

 private:
  bool happens(double probability) { return std::uniform_real_distribution<>(0, 1)(random_) < probability; }

  void settle_doubt() {
    if (doubt_ && happens(0.5)) take(*doubt_);
    doubt_.reset();
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
};

/// One client of the destination. `asks = false`: the client that must not exist; it tries a failed commit again
/// without asking where the destination is.
class FaultySink final : public Sink {
 public:
  explicit FaultySink(FaultyDestination& destination, bool asks = true) : destination_(destination), asks_(asks) {}

  Result<std::optional<Checkpoint>> resume(std::stop_token) override { return destination_.resume(); }

  Result<void> commit(const Batch& batch, std::stop_token) override {
    auto first = destination_.commit(batch);
    if (first || asks_) return first;
    return destination_.commit(batch);
  }

 private:
  FaultyDestination& destination_;
  bool asks_;
};

}  // namespace penstock
