// Verifier: the consumer's proof. Told every record, gap record and checkpoint of a cluster, it says per agent, epoch and
// lane what is missing, doubled or out of order up to the checkpoint. Knows no Kafka: `penstock verify` feeds it.
//
// The order of telling matters once: the checkpoints must have been read before the records, so that nothing they speak
// of can be newer than what was read. Memory: about one bit a record in the worst case (SequenceBitmap).
//
// What was sent at_least_once is judged as its readers see it, who skip in each partition every sequence not above the last
// they took of (agent, epoch, lane): what the rule skips is counted, and what it takes must be everything, each once. A gap
// record may then speak of records that are there: whoever gave them up did not know that Kafka had them.
//
// One thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "agent/kafka/headers.h"
#include "agent/kafka/messages.h"
#include "agent/kafka/sequence_bitmap.h"
#include "buffer/history.h"
#include "config/settings.h"

namespace penstock {

/// One lane of one epoch of one agent.
struct LaneProof {
  std::string agent, lane;
  Epoch epoch;
  Delivery delivery = Delivery::exactly_once;  // as which it was judged
  std::optional<Sequence> checkpoint;  // up to which everything must be there; none: no checkpoint speaks of this epoch
  Sequence from;                       // from which on everything must be there
  Sequence first_seen, last_seen;      // 0: none
  std::uint64_t records = 0;           // different ones
  std::uint64_t doubled = 0, out_of_order = 0;
  std::uint64_t repeated = 0;        // at_least_once: skipped by the rule
  std::uint64_t given_up = 0;        // numbered, and accounted for by gap records
  std::uint64_t never_numbered = 0;  // given up before they had a number
  std::uint64_t contradicted = 0;    // in Kafka, and in a gap record too
  std::uint64_t above = 0;           // newer than the checkpoint that was read: not judged
  std::uint64_t missing = 0;
  std::vector<SequenceBitmap::Range> missing_ranges;  // the first 100

  bool holds() const {
    return missing == 0 && doubled == 0 && out_of_order == 0 &&
           (contradicted == 0 || delivery == Delivery::at_least_once);
  }
};

struct ClusterProof {
  std::vector<LaneProof> lanes;
  std::uint64_t foreign = 0;                    // records that are not ours: not judged
  std::vector<std::string> without_checkpoint;  // agents: for them nothing can be proved
  /// Something was judged, and all of it holds.
  bool holds() const;
};

class Verifier {
 public:
  struct Settings {
    std::vector<std::string> agents, lanes;  // only these; empty: all
    /// The topics no longer hold their first records: judge from the first that is seen.
    bool trimmed = false;
    Delivery delivery = Delivery::exactly_once;
  };
  explicit Verifier(Settings settings) : settings_(std::move(settings)) {}
  void set_trimmed() { settings_.trimmed = true; }

  /// The newest one told of an agent counts.
  void checkpoint(const std::string& agent, Checkpoint checkpoint);
  /// In the order of each partition.
  void record(std::string_view topic, std::int32_t partition, const RecordName& name);
  void foreign_record() { ++foreign_; }
  void gap(const GapMessage& gap);

  ClusterProof prove() const;

 private:
  using Key = std::tuple<std::string, Epoch, std::string>;  // agent, epoch, lane
  struct Lane {
    SequenceBitmap seen, given_up;
    std::uint64_t doubled = 0, out_of_order = 0, repeated = 0, never_numbered = 0;
    std::set<std::uint64_t> counted;         // at_least_once: entries of the ledger that never_numbered has
    std::map<std::string, Sequence> newest;  // per topic and partition
  };
  bool wanted(const std::string& agent, const std::string& lane) const;
  LaneProof prove_lane(const Key& key, const Lane& lane) const;

  Settings settings_;
  std::map<std::string, Checkpoint> checkpoints_;
  std::map<Key, Lane> lanes_;
  std::uint64_t foreign_ = 0;
};

}  // namespace penstock
