// The checkpoints of one agent, as they lie in Kafka.
//
// The newest one is looked for as read_uncommitted: whatever became of its transaction, what it says of its window counts.
// Whether the transaction was committed is a question of its own. Both are the last word only if init_transactions has
// returned before (no transaction of ours can still land); standing.h has the whole order.
//
// One thread. Reads, and leaves nothing behind.
#pragma once

#include <cstdint>
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

class CheckpointReader {
 public:
  /// `uncommitted` is a client of that role.
  CheckpointReader(const KafkaSinkSettings& settings, std::shared_ptr<SharedClient> uncommitted);
  ~CheckpointReader();
  CheckpointReader(const CheckpointReader&) = delete;
  CheckpointReader& operator=(const CheckpointReader&) = delete;

  /// The newest record with the agent's key, aborted and open transactions included. `hint`: where it is believed to lie;
  /// without one (or with one that leads nowhere) growing parts of the end of `expected` are read, then every partition.
  /// Nothing: there is none. `transient`: not now.
  Result<std::optional<RawCheckpoint>> newest(std::int32_t partitions, std::int32_t expected,
                                              std::optional<CheckpointPlace> hint, const Patience& patience);

  /// Whether the transaction of the record at `place` was committed. It must be decided, or this waits for it.
  Result<bool> is_committed(const CheckpointPlace& place, const Patience& patience);

  /// The newest committed one before `place`, in its partition.
  Result<std::optional<RawCheckpoint>> newest_committed_before(const CheckpointPlace& place, const Patience& patience);

 private:
  class Scan;
  Result<Scan*> committed();

  const KafkaSinkSettings& settings_;
  const std::shared_ptr<SharedClient> uncommitted_;
  std::unique_ptr<Scan> all_, committed_;
};

}  // namespace penstock
