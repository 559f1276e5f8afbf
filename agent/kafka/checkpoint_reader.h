// The checkpoints of one agent, as they lie in Kafka.
//
// The newest one is looked for as read_uncommitted: whatever became of its transaction, what it says of its window counts.
// Whether the transaction was committed is a question of its own. Both are the last word only if init_transactions has
// returned before (no transaction of ours can still land); standing.h has the whole order.
//
// One thread. Reads, and leaves nothing behind in Kafka. What it has read it keeps in a CheckpointSearch: an agent without a hint
// may have to pass the checkpoints of many others, on a link on which that takes longer than any patience.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/kafka/client.h"
#include "buffer/result.h"

namespace penstock {

struct CheckpointPlace {
  std::int32_t partition = 0;
  std::int64_t offset = 0;
  bool operator==(const CheckpointPlace&) const = default;
};

struct RawCheckpoint {
  std::optional<std::string> value;  // none: deleted on purpose
  CheckpointPlace place;
  std::int64_t time = 0;  // Kafka's, in milliseconds
};

/// What is known of the partitions, from one call of newest() to the next. A plain value.
class CheckpointSearch {
 private:
  friend class CheckpointReader;
  struct Region {
    std::int64_t low = 0, high = 0;  // from low on, all before high has been read
    std::int64_t block = 0;          // so many records more are read next; 0: nothing was read yet
    std::optional<RawCheckpoint> newest;
  };
  std::map<std::int32_t, Region> regions_;
};

class CheckpointReader {
 public:
  /// `uncommitted` is a client of that role; `search` outlives this.
  CheckpointReader(const KafkaSinkSettings& settings, std::shared_ptr<SharedClient> uncommitted,
                   CheckpointSearch& search);
  ~CheckpointReader();
  CheckpointReader(const CheckpointReader&) = delete;
  CheckpointReader& operator=(const CheckpointReader&) = delete;

  /// The newest record with the agent's key, aborted and open transactions included. `hint`: where it is believed to lie;
  /// without one (or with one that leads nowhere) `expected` is read from its end, part by part; then the one where it
  /// belongs, or if the topic has another number of partitions than we make, so that it may have grown, every other one.
  /// Nothing: there is none. `transient`: not now; the next call goes on where this one ended.
  Result<std::optional<RawCheckpoint>> newest(std::int32_t partitions, std::int32_t expected,
                                              std::optional<CheckpointPlace> hint, const Patience& patience);

  /// Whether the transaction of the record at `place` was committed. It must be decided, or this waits for it.
  Result<bool> is_committed(const CheckpointPlace& place, const Patience& patience);

  /// The newest committed one before `place`, in its partition.
  Result<std::optional<RawCheckpoint>> newest_committed_before(const CheckpointPlace& place, const Patience& patience);

 private:
  class Scan;
  Result<Scan*> committed();
  static Result<std::optional<RawCheckpoint>> newest_in(Scan& scan, CheckpointSearch::Region& region,
                                                        std::int32_t partition, const PartitionEnds& whole,
                                                        std::optional<std::int64_t> hint, const Patience& patience);

  const KafkaSinkSettings& settings_;
  const std::shared_ptr<SharedClient> uncommitted_;
  CheckpointSearch& search_;
  std::unique_ptr<Scan> all_, committed_;
};

}  // namespace penstock
