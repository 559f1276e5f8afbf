#include "agent/kafka/offsets.h"

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>

#include <memory>

namespace penstock {
namespace {

// ListOffsets (Kafka protocol, key 2) takes these for times.
constexpr std::int64_t kLatest = -1, kEarliest = -2;

}  // namespace

Result<Offsets> list_offsets(rd_kafka_s* client, const std::vector<TopicPartition>& partitions, End which,
                             std::chrono::milliseconds most) {
  Offsets offsets;
  if (partitions.empty()) return offsets;
  std::unique_ptr<rd_kafka_topic_partition_list_t, decltype(&rd_kafka_topic_partition_list_destroy)> asked(
      rd_kafka_topic_partition_list_new(static_cast<int>(partitions.size())), &rd_kafka_topic_partition_list_destroy);
  for (const auto& [topic, partition] : partitions) {
    rd_kafka_topic_partition_list_add(asked.get(), topic.c_str(), partition)->offset =
        which == End::first ? kEarliest : kLatest;
  }
  // Unlike rd_kafka_query_watermark_offsets, which in librdkafka 2.0.2 knows no end while the broker is away, this one
  // keeps to the time it is given.
  auto error = rd_kafka_offsets_for_times(client, asked.get(), static_cast<int>(most.count()));
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) return transient(rd_kafka_err2str(error));
  for (int i = 0; i < asked->cnt; ++i) {
    const auto& answer = asked->elems[i];
    if (answer.err == RD_KAFKA_RESP_ERR_NO_ERROR && answer.offset >= 0) {
      offsets[{answer.topic, answer.partition}] = answer.offset;
    }
  }
  return offsets;
}

}  // namespace penstock
