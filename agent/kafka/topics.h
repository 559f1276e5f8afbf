// Our own two topics: made when they are missing, and looked at before anything rests on them.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "agent/kafka/client.h"
#include "buffer/result.h"

namespace penstock {

inline constexpr std::int32_t kCheckpointPartitions = 16;

/// Creates penstock.checkpoints (compacted, 16 partitions) and penstock.gaps with the cluster's replication where they are
/// missing, and gives the number of partitions of the first. With `verify` also looks whether it is compacted: one that
/// is not would forget a gateway that was switched off for long, so nothing is sent then.
/// `transient` in every failure: it says what to do, and is tried again. `client` must not create topics by asking.
Result<std::int32_t> prepare_own_topics(rd_kafka_s* client, bool verify, const Patience& patience);

enum class TopicState { known, absent, refused, leaderless, unreachable };
struct TopicLook {
  TopicState state = TopicState::unreachable;
  std::int32_t partitions = 0;
  std::string why;                             // unless known
  std::map<std::int32_t, std::string> ailing;  // partitions without a leader, or with replicas out of sync, in words
};
/// Asks once, for at most a slice of patience. `known`: every partition has a leader. `unreachable`: no answer. Also warms the client's cache, which
/// saves the first record to a topic a second.
TopicLook look_at_topic(rd_kafka_s* client, rd_kafka_topic_s* topic, const Patience& patience);

}  // namespace penstock
