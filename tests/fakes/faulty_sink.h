// A destination that behaves as badly as a network and a Kafka allow and never worse: it loses requests, loses replies,
// lets a request land late, and refuses. A batch goes to several partitions; what it acknowledges it may leave undecided on
// some of them (agent/kafka/kafka_sink.h): then the next commit that writes there makes it visible, and the next one that
// fails takes it back. resume() settles all that, and says what is there.
//
// `settles = false` makes it the sink that must not exist: a commit in doubt may land after resume() has answered.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/forward/sink.h"

namespace penstock {

class FaultyDestination {
 public:
  explicit FaultyDestination(std::uint64_t seed) : random_(seed) {}

  struct Faults {
    double lose_request = 0, lose_reply = 0, land_late = 0, refuse = 0, fail_resume = 0, leave_undecided = 0;
    double no_topic = 0, fail_prepare = 0;           // for a record: its lane waits, as long as it pleases
    bool topic_is_missing = false;                   // of records with the key "topic"
    double decide_by_itself = 0.5;                   // what was left undecided, whenever somebody looks
    std::optional<std::size_t> undecided_partition;  // where nothing is decided at all
    bool settles = true;
  };
  Faults faults;
  std::uint64_t lanes_held_up = 0;  // told so often
  /// The faults end; what it is stays.
  void calm() {
    bool settles = faults.settles;
    faults = {};
    faults.settles = settles;
  }

  Result<Standing> resume() {
    if (happens(faults.fail_resume)) return transient("resume: no reply");
    if (faults.settles) settle_doubt();
    for (auto& items : undecided_) {
      taken_back_ = taken_back_ || !items.empty();
      items.clear();
    }
    committed_since_.reset();
    if (!newest_) return Standing{};
    if (!taken_back_) {
      since_.clear();
      return Standing{checkpoint_, {}};
    }
    Standing standing{newest_, {}};
    standing.checkpoint->delivered = base_.delivered;
    standing.checkpoint->ledger = base_.ledger;
    for (const auto& item : since_) {
      if (item.record) {
        standing.landed.add(item.record->epoch, name_of(item.record->lane), item.record->sequence,
                            item.record->sequence);
      } else if (item.gap && item.gap->last != Sequence()) {
        standing.landed.add(item.gap->epoch, name_of(item.gap->lane), item.gap->first, item.gap->last);
      } else if (item.gap) {
        standing.landed.add_count(item.gap->epoch, item.gap->entry);
      }
    }
    return standing;
  }

  Result<std::vector<Obstacle>> prepare(const Batch& batch) {
    if (happens(faults.fail_prepare)) return transient("prepare: no reply");
    std::vector<Obstacle> obstacles;
    std::set<Lane> wait;
    for (const auto& stored : batch.records) {
      if (wait.count(stored.lane) != 0) continue;
      if (is_homeless(stored)) {
        obstacles.push_back({stored.lane, stored.sequence, "its topic is not there, for good", true});
      } else if (happens(faults.no_topic) || (faults.topic_is_missing && stored.record.key == "topic")) {
        obstacles.push_back({stored.lane, stored.sequence, "its topic is not there", false});
        ++lanes_held_up;
        wait.insert(stored.lane);
      }
    }
    return obstacles;
  }

  Result<void> commit(const Batch& batch) {
    if (!faults.settles && doubt_ && happens(0.5)) settle_doubt();
    if (happens(faults.refuse)) return transient("commit: refused");
    for (const auto& stored : batch.records) {
      if (!is_poison(stored)) continue;
      take_back(batch);
      return rejected("a record is refused for good");
    }
    if (happens(faults.lose_request)) {
      if (happens(0.5)) take_back(batch);
      return transient("commit: the request was lost");
    }
    if (happens(faults.land_late)) {
      doubt_ = batch;
      return transient("commit: timed out, may still land");
    }
    take(batch);
    if (happens(faults.lose_reply)) return transient("commit: the reply was lost");
    committed_since_ = batch.after;
    islands_ = batch.islands;
    return {};
  }

  std::optional<Checkpoint> proven() {
    for (auto& items : undecided_) {
      if (!items.empty() && happens(faults.decide_by_itself)) show(items);
      if (!items.empty()) return std::nullopt;
    }
    if (!committed_since_) return std::nullopt;
    if (!islands_) {
      since_.clear();
      taken_back_ = false;
    }
    return std::exchange(committed_since_, std::nullopt);
  }

  /// As a cluster that was set up anew.
  void forget_checkpoint() { *this = forgetful(); }

  /// Such a record is refused for good: when it has been sent, or before.
  static bool is_poison(const StoredRecord& stored) { return stored.record.key == "poison"; }
  static bool is_homeless(const StoredRecord& stored) { return stored.record.key == "homeless"; }

  static std::size_t partition_of(const StoredRecord& stored) {
    return (stored.sequence.value() / 3 + number(stored.lane)) % kPartitions;
  }

  /// What a consumer sees, in the order it became visible.
  const std::vector<StoredRecord>& records() const { return records_; }
  const std::vector<Gap>& gaps() const { return gaps_; }
  const std::optional<Checkpoint>& checkpoint() const { return checkpoint_; }

  std::function<std::string(Lane)> lane_name;  // empty: every lane is telemetry

 private:
  struct Item {
    std::optional<StoredRecord> record;
    std::optional<Gap> gap;
    std::optional<Checkpoint> checkpoint;
  };
  static constexpr std::size_t kPartitions = 3;  // of records; then that of gaps, and that of checkpoints
  using Partitions = std::array<std::vector<Item>, kPartitions + 2>;

  std::string name_of(Lane lane) const { return lane_name ? lane_name(lane) : "telemetry"; }

  bool happens(double probability) { return std::uniform_real_distribution<>(0, 1)(random_) < probability; }

  FaultyDestination forgetful() {
    auto same = *this;
    same.checkpoint_.reset();
    same.newest_.reset();
    same.committed_since_.reset();
    same.since_.clear();
    same.taken_back_ = false;
    return same;
  }

  static Partitions parts_of(const Batch& batch) {
    Partitions parts;
    for (const auto& stored : batch.records) parts[partition_of(stored)].push_back({stored, {}, {}});
    for (const auto& gap : batch.gaps) parts[kPartitions].push_back({{}, gap, {}});
    parts[kPartitions + 1].push_back({{}, {}, batch.after});
    return parts;
  }

  void settle_doubt() {
    if (!doubt_) return;
    happens(0.5) ? take(*doubt_) : take_back(*doubt_);
    doubt_.reset();
  }

  /// A transaction is aborted, and with it what an earlier one has left undecided where it wrote.
  void take_back(const Batch& batch) {
    newest_ = batch.after;
    base_ = batch.base;
    auto parts = parts_of(batch);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (parts[i].empty() || undecided_[i].empty()) continue;
      undecided_[i].clear();
      taken_back_ = true;
    }
  }

  void take(const Batch& batch) {
    newest_ = batch.after;
    base_ = batch.base;
    auto parts = parts_of(batch);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (parts[i].empty()) continue;
      auto& items = undecided_[i];
      items.insert(items.end(), parts[i].begin(), parts[i].end());
      if (i != faults.undecided_partition && !happens(faults.leave_undecided)) show(items);
    }
  }

  void show(std::vector<Item>& items) {
    for (const auto& item : items) {
      if (item.record) records_.push_back(*item.record);
      if (item.gap) gaps_.push_back(*item.gap);
      if (item.checkpoint) checkpoint_ = item.checkpoint;
      since_.push_back(item);
    }
    items.clear();
  }

  std::mt19937_64 random_;
  std::vector<StoredRecord> records_;
  std::vector<Gap> gaps_;
  std::optional<Checkpoint> checkpoint_, newest_;  // that is visible; that was tried last
  std::optional<Batch> doubt_;
  Partitions undecided_;                       // acknowledged, and there for nobody
  Checkpoint base_;                            // of what was tried last
  std::optional<Checkpoint> committed_since_;  // and islands_ lie beyond
  bool islands_ = false;
  std::vector<Item> since_;  // what has become visible behind what is proven...
  bool taken_back_ = false;  // ...and something there has not
};

/// One client of the destination. `asks = false`: the client that must not exist; it tries a failed commit again
/// without asking where the destination is. `looks = false`: nor that one; it takes every word of success for proof.
class FaultySink final : public Sink {
 public:
  explicit FaultySink(FaultyDestination& destination, bool asks = true, bool looks = true)
      : destination_(destination), asks_(asks), looks_(looks) {}

  Result<Standing> resume(std::stop_token) override { return destination_.resume(); }

  Result<std::vector<Obstacle>> prepare(const Batch& batch, std::stop_token) override {
    return destination_.prepare(batch);
  }

  Result<void> commit(const Batch& batch, std::stop_token) override {
    auto committed = destination_.commit(batch);
    if (!committed && !asks_) committed = destination_.commit(batch);
    if (committed) last_ = batch.after;
    return committed;
  }

  std::optional<Checkpoint> proven(std::stop_token) override { return looks_ ? destination_.proven() : last_; }

 private:
  FaultyDestination& destination_;
  std::optional<Checkpoint> last_;
  bool asks_, looks_;
};

}  // namespace penstock
