// Asks the brokers for the ends of partitions: one request to each leader, bounded in time.
//
// Any thread; nothing is kept.
#pragma once

#include <chrono>
#include <vector>

#include "agent/kafka/client.h"
#include "agent/kafka/window.h"
#include "buffer/result.h"

namespace penstock {

/// Which offset of a partition.
enum class End {
  first,  // of the first record that is still there
  last,   // one behind the last. To a client that reads uncommitted: the high watermark, behind all that is written. To
          // any other, producers too: the last stable offset (KIP-98), before which every transaction is decided.
};

/// Those of which the brokers said it within `most`; a partition that is missing has no leader now, or is not there.
/// `transient`: none did.
Result<Offsets> list_offsets(rd_kafka_s* client, const std::vector<TopicPartition>& partitions, End which,
                             std::chrono::milliseconds most);

}  // namespace penstock
