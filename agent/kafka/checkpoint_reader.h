// Where does Kafka say this agent stands? Reads the newest checkpoint of the agent back.
//
// The order is what makes it true: init_transactions has returned before (no transaction of ours can still land), the end
// of the partition is asked as read_uncommitted (a read_committed end would lie before the oldest open transaction of any
// agent), and then all up to that end is read as read_committed, which waits until those transactions are decided.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "agent/kafka/client.h"
#include "buffer/history.h"
#include "buffer/result.h"

namespace penstock {

struct CheckpointPlace {
  std::int32_t partition = 0;
  std::int64_t offset = 0;
};

struct FoundCheckpoint {
  Checkpoint checkpoint;
  CheckpointPlace place;
};

/// Ends what this agent has left undecided in a partition of penstock.checkpoints.
using EndUndecided = std::function<Result<void>(std::int32_t partition)>;

/// `uncommitted` is a client of that role; see query_ends for why it is shared. `hint`: where our last checkpoint is
/// believed to lie; without one (or with one that leads nowhere) growing parts of the end of `expected` are read, then
/// every partition. `end_undecided` is called when an open transaction has hidden the end of one for seconds; it may be
/// another agent's. Nothing: there is none. `transient`: not now; also when the newest one cannot be understood, for
/// going on from anything else would be a guess.
Result<std::optional<FoundCheckpoint>> read_checkpoint(const KafkaSinkSettings& settings,
                                                       const std::shared_ptr<SharedClient>& uncommitted,
                                                       std::int32_t partitions, std::int32_t expected,
                                                       std::optional<CheckpointPlace> hint,
                                                       const EndUndecided& end_undecided, const Patience& patience);

}  // namespace penstock
