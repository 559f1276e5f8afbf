#include "agent/kafka/topics.h"

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <optional>
#include <utility>

#include "agent/kafka/template.h"

namespace penstock {
namespace {

template <auto destroy>
struct Destroy {
  template <class T>
  void operator()(T* object) const {
    destroy(object);
  }
};
using Queue = std::unique_ptr<rd_kafka_queue_t, Destroy<rd_kafka_queue_destroy>>;
using Event = std::unique_ptr<rd_kafka_event_t, Destroy<rd_kafka_event_destroy>>;
using NewTopic = std::unique_ptr<rd_kafka_NewTopic_t, Destroy<rd_kafka_NewTopic_destroy>>;
using Resource = std::unique_ptr<rd_kafka_ConfigResource_t, Destroy<rd_kafka_ConfigResource_destroy>>;
using Options = std::unique_ptr<rd_kafka_AdminOptions_t, Destroy<rd_kafka_AdminOptions_destroy>>;

/// Nothing when patience ended first.
Event wait_for_event(rd_kafka_queue_t* queue, const Patience& patience) {
  while (!patience.over()) {
    if (Event event(rd_kafka_queue_poll(queue, patience.slice_ms())); event) return event;
  }
  return nullptr;
}

Options admin_options(rd_kafka_t* client, rd_kafka_admin_op_t operation) {
  Options options(rd_kafka_AdminOptions_new(client, operation));
  char wrong[128];
  rd_kafka_AdminOptions_set_request_timeout(options.get(), 10'000, wrong, sizeof wrong);
  return options;
}

struct Outcome {
  rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR__TIMED_OUT;
  std::string text = "no answer";
};

Outcome create(rd_kafka_t* client, const char* name, int partitions, bool compact, const Patience& patience) {
  char wrong[512];
  NewTopic topic(rd_kafka_NewTopic_new(name, partitions, -1, wrong, sizeof wrong));
  if (!topic) return {RD_KAFKA_RESP_ERR__INVALID_ARG, wrong};
  // Compaction leaves the newest segment alone, and a new agent reads all of a partition: so segments are small.
  static constexpr std::pair<const char*, const char*> for_compaction[] = {{"cleanup.policy", "compact"},
                                                                           {"segment.bytes", "16777216"},
                                                                           {"segment.ms", "3600000"},
                                                                           {"min.cleanable.dirty.ratio", "0.1"}};
  if (compact) {
    for (const auto& [setting, value] : for_compaction) rd_kafka_NewTopic_set_config(topic.get(), setting, value);
  }
  Queue queue(rd_kafka_queue_new(client));
  rd_kafka_NewTopic_t* topics[] = {topic.get()};
  auto options = admin_options(client, RD_KAFKA_ADMIN_OP_CREATETOPICS);
  rd_kafka_CreateTopics(client, topics, 1, options.get(), queue.get());
  auto event = wait_for_event(queue.get(), patience);
  if (!event) return {};
  if (auto error = rd_kafka_event_error(event.get())) return {error, rd_kafka_event_error_string(event.get())};
  size_t count = 0;
  auto* results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event.get()), &count);
  if (count != 1) return {};
  const char* text = rd_kafka_topic_result_error_string(results[0]);
  return {rd_kafka_topic_result_error(results[0]), text != nullptr ? text : ""};
}

/// The value of cleanup.policy, or why it cannot be had.
Outcome cleanup_policy(rd_kafka_t* client, const char* name, const Patience& patience) {
  Resource resource(rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name));
  Queue queue(rd_kafka_queue_new(client));
  rd_kafka_ConfigResource_t* resources[] = {resource.get()};
  auto options = admin_options(client, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
  rd_kafka_DescribeConfigs(client, resources, 1, options.get(), queue.get());
  auto event = wait_for_event(queue.get(), patience);
  if (!event) return {};
  if (auto error = rd_kafka_event_error(event.get())) return {error, rd_kafka_event_error_string(event.get())};
  size_t count = 0;
  auto* described =
      rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event.get()), &count);
  if (count != 1) return {};
  if (auto error = rd_kafka_ConfigResource_error(described[0])) return {error, rd_kafka_err2str(error)};
  size_t entries = 0;
  auto* configs = rd_kafka_ConfigResource_configs(described[0], &entries);
  for (size_t i = 0; i < entries; ++i) {
    if (std::string_view(rd_kafka_ConfigEntry_name(configs[i])) != "cleanup.policy") continue;
    const char* value = rd_kafka_ConfigEntry_value(configs[i]);
    return {RD_KAFKA_RESP_ERR_NO_ERROR, value != nullptr ? value : ""};
  }
  return {RD_KAFKA_RESP_ERR__NOENT, "cleanup.policy is not among the topic's settings"};
}

/// Waits until the topic is there with all its leaders, making it when it is not.
Result<std::int32_t> prepare(rd_kafka_t* client, const char* name, int partitions, bool compact,
                             const Patience& patience) {
  auto topic = open_topic(client, name);
  if (!topic) return topic.error();
  TopicLook look;
  Outcome made{RD_KAFKA_RESP_ERR_NO_ERROR, ""};
  bool tried = false;
  do {
    look = look_at_topic(client, topic->get(), patience);
    if (look.state == TopicState::known) return look.partitions;
    if (look.state == TopicState::refused) break;
    if (look.state == TopicState::absent && !tried) {
      made = create(client, name, partitions, compact, patience);
      tried = made.error != RD_KAFKA_RESP_ERR__TIMED_OUT;
      if (made.error == RD_KAFKA_RESP_ERR_NO_ERROR) spdlog::info("kafka: topic {} created", name);
      if (made.error == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) made.error = RD_KAFKA_RESP_ERR_NO_ERROR;
      if (made.error == RD_KAFKA_RESP_ERR_NO_ERROR) continue;
      if (tried) break;
    }
  } while (rest(patience));
  if (made.error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return transient(fmt::format("topic {} is missing and cannot be created: {}{}", name, made.text,
                                 compact ? "; create it with cleanup.policy=compact" : ""));
  }
  return transient(fmt::format("topic {}: {}", name, look.why));
}

}  // namespace

TopicLook look_at_topic(rd_kafka_s* client, rd_kafka_topic_s* topic, const Patience& patience) {
  const rd_kafka_metadata_t* metadata = nullptr;
  auto error = rd_kafka_metadata(client, 0, topic, &metadata, patience.slice_ms() * 5);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) return {TopicState::unreachable, 0, rd_kafka_err2str(error), {}};
  TopicLook look{TopicState::absent, 0, "the brokers do not know it", {}};
  if (metadata->topic_cnt == 1) {
    const auto& found = metadata->topics[0];
    if (found.err == RD_KAFKA_RESP_ERR_NO_ERROR && found.partition_cnt > 0) {
      look = {TopicState::known, found.partition_cnt, "", {}};
      for (int i = 0; i < found.partition_cnt; ++i) {
        const auto& partition = found.partitions[i];
        if (partition.isr_cnt < partition.replica_cnt) {
          look.ailing[partition.id] =
              fmt::format("{} of {} replicas in sync, the topic may demand more (min.insync.replicas)",
                          partition.isr_cnt, partition.replica_cnt);
        }
        if (partition.leader >= 0) continue;
        look.ailing[partition.id] = "has no leader";
        look.state = TopicState::leaderless;
        look.why = fmt::format("partition {} has no leader", partition.id);
      }
    } else if (found.err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
               found.err == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION) {
      look = {TopicState::refused, 0, rd_kafka_err2str(found.err), {}};
    } else if (found.err != RD_KAFKA_RESP_ERR_NO_ERROR) {
      bool absent = found.err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
      look = {absent ? TopicState::absent : TopicState::unreachable, 0, rd_kafka_err2str(found.err), {}};
    }
  }
  rd_kafka_metadata_destroy(metadata);
  return look;
}

Result<std::int32_t> prepare_own_topics(rd_kafka_s* client, bool verify, const Patience& patience) {
  auto partitions = prepare(client, kCheckpointTopic, kCheckpointPartitions, true, patience);
  if (!partitions || !verify) return partitions;

  auto policy = cleanup_policy(client, kCheckpointTopic, patience);
  if (policy.error == RD_KAFKA_RESP_ERR__TIMED_OUT) {
    return transient(fmt::format("topic {}: its cleanup.policy could not be read: {}", kCheckpointTopic, policy.text));
  }
  if (policy.error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    spdlog::warn("kafka: topic {} must have cleanup.policy=compact, and we cannot see it: {}", kCheckpointTopic,
                 policy.text);
  } else if (policy.text != "compact") {
    return transient(
        fmt::format("topic {} has cleanup.policy={}: it would forget where a gateway stands. Set it to compact; "
                    "nothing is sent until then",
                    kCheckpointTopic, policy.text));
  }
  // Only a loss writes to it; then it is asked for again.
  if (auto gaps = prepare(client, kGapTopic, -1, false, patience); !gaps) spdlog::warn("kafka: {}", gaps.error().what);
  return partitions;
}

}  // namespace penstock
