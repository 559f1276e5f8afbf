// A destination without transactions, as Kafka is at_least_once: of a batch that fails, any first part may have landed in each
// partition, and what has not may still do so later. It keeps all that landed, and what a reader takes of it by the rule of
// docs/consumers.md: none that is not above the last one of its epoch and lane in its partition.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/forward/sink.h"
#include "tests/fakes/faulty_sink.h"

namespace penstock {

class AcknowledgingDestination {
 public:
  explicit AcknowledgingDestination(std::uint64_t seed) : random_(seed) {}

  struct Faults {
    double fail_resume = 0, fail = 0, lose_reply = 0, land_late = 0;
    double lose_checkpoint = 0;      // of a batch that fails
    bool says_what_was_sent = true;  // false: a checkpoint that must not exist, which speaks of proven records only
  };
  Faults faults;
  /// The faults end; what it is stays.
  void calm() {
    bool says = faults.says_what_was_sent;
    faults = {};
    faults.says_what_was_sent = says;
  }

  Result<Standing> resume() {
    land_some();
    if (happens(faults.fail_resume)) return transient("resume: no reply");
    return Standing{checkpoint_, {}};
  }

  Result<void> commit(const Batch& batch) {
    land_some();
    bool fails = happens(faults.fail);
    if (!fails || !happens(faults.lose_checkpoint)) note(batch);
    std::array<std::vector<StoredRecord>, kPartitions> parts;
    bool poisoned = false;
    for (const auto& stored : batch.records) {
      if (FaultyDestination::is_poison(stored)) {
        poisoned = true;
      } else if (!poisoned) {
        parts[FaultyDestination::partition_of(stored)].push_back(stored);
      }
    }
    fails = fails || poisoned;
    for (std::size_t i = 0; i < kPartitions; ++i) {
      auto landing = fails ? pick(parts[i].size()) : parts[i].size();
      for (std::size_t n = 0; n < parts[i].size(); ++n) {
        if (n < landing) {
          land(i, parts[i][n]);
        } else if (happens(faults.land_late)) {
          late_[i].push_back(parts[i][n]);
        } else {
          break;
        }
      }
    }
    if (poisoned) return rejected("a record is refused for good");
    if (fails) return transient("commit: not all is acknowledged");
    for (const auto& gap : batch.gaps) {
      for (auto n = gap.first; n <= gap.last && n > Sequence(); n = n.next()) given_up_.emplace(gap.epoch, gap.lane, n);
    }
    if (happens(faults.lose_reply)) return transient("commit: the reply was lost");
    proven_ = batch.after;
    return {};
  }

  std::optional<Checkpoint> proven() { return std::exchange(proven_, std::nullopt); }
  /// The client is gone, and with it what it would have told.
  void forget_client() { proven_.reset(); }
  /// From now on nothing is under way any more.
  void settle() {
    for (std::size_t i = 0; i < kPartitions; ++i) {
      for (const auto& stored : late_[i]) land(i, stored);
      late_[i].clear();
    }
  }

  using Name = std::tuple<Epoch, Lane, Sequence>;
  const std::map<Name, std::string>& taken() const { return taken_; }
  const std::set<Name>& given_up() const { return given_up_; }
  std::uint64_t repeats() const { return repeats_; }
  /// Two records that differ have landed under one name: one of them is hidden from readers.
  bool is_ambiguous() const { return ambiguous_; }

 private:
  static constexpr std::size_t kPartitions = 3;

  bool happens(double probability) { return std::uniform_real_distribution<>(0, 1)(random_) < probability; }
  std::size_t pick(std::size_t most) { return std::uniform_int_distribution<std::size_t>(0, most)(random_); }

  void note(const Batch& batch) {
    checkpoint_ = batch.after;
    if (faults.says_what_was_sent) checkpoint_->sent = batch.after.delivered;
    checkpoint_->delivered = batch.base.delivered;
    checkpoint_->ledger = batch.base.ledger;
  }

  void land_some() {
    for (std::size_t i = 0; i < kPartitions; ++i) {
      while (!late_[i].empty() && happens(0.5)) {
        land(i, late_[i].front());
        late_[i].pop_front();
      }
    }
  }

  void land(std::size_t partition, const StoredRecord& stored) {
    auto [known, is_new] = landed_.emplace(Name(stored.epoch, stored.lane, stored.sequence), stored.record.payload);
    ambiguous_ = ambiguous_ || known->second != stored.record.payload;
    auto& last = last_[{partition, stored.epoch, stored.lane}];
    if (stored.sequence <= last) {
      ++repeats_;
      return;
    }
    last = stored.sequence;
    taken_.insert(*known);
  }

  std::mt19937_64 random_;
  std::optional<Checkpoint> checkpoint_, proven_;
  std::array<std::deque<StoredRecord>, kPartitions> late_;
  std::map<Name, std::string> landed_, taken_;
  std::set<Name> given_up_;
  std::map<std::tuple<std::size_t, Epoch, Lane>, Sequence> last_;
  std::uint64_t repeats_ = 0;
  bool ambiguous_ = false;
};

class AcknowledgingSink final : public Sink {
 public:
  explicit AcknowledgingSink(AcknowledgingDestination& destination) : destination_(destination) {
    destination.forget_client();
  }
  Result<Standing> resume(std::stop_token) override { return destination_.resume(); }
  Result<std::vector<Obstacle>> prepare(const Batch&, std::stop_token) override { return std::vector<Obstacle>(); }
  Result<void> commit(const Batch& batch, std::stop_token) override { return destination_.commit(batch); }
  std::optional<Checkpoint> proven(std::stop_token) override { return destination_.proven(); }

 private:
  AcknowledgingDestination& destination_;
};

}  // namespace penstock
