// KafkaAdmin: topics as a test wants them, by librdkafka's admin requests.
#pragma once

#include <librdkafka/rdkafka.h>

#include <memory>
#include <string>
#include <vector>

#include "agent/kafka/client.h"
#include "agent/kafka/topics.h"
#include "tests/catch.h"

namespace penstock::e2e {

class KafkaAdmin {
 public:
  explicit KafkaAdmin(const KafkaSinkSettings& settings) {
    auto client = open_client(Role::uncommitted_reader, settings, events_);
    REQUIRE(client);
    client_ = std::move(*client);
    queue_.reset(rd_kafka_queue_new(client_.get()));
  }

  /// A topic with each of its partitions on one broker only, and no copy.
  void create_on(std::vector<int> brokers, const char* topic, const char* cleanup) {
    Owned<rd_kafka_NewTopic_t> wanted(rd_kafka_NewTopic_new(topic, static_cast<int>(brokers.size()), -1, nullptr, 0),
                                      &rd_kafka_NewTopic_destroy);
    for (std::size_t partition = 0; partition < brokers.size(); ++partition) {
      rd_kafka_NewTopic_set_replica_assignment(wanted.get(), static_cast<int>(partition), &brokers[partition], 1,
                                               nullptr, 0);
    }
    rd_kafka_NewTopic_set_config(wanted.get(), "cleanup.policy", cleanup);
    rd_kafka_NewTopic_set_config(wanted.get(), "min.insync.replicas", "1");
    auto* one = wanted.get();
    rd_kafka_CreateTopics(client_.get(), &one, 1, nullptr, queue_.get());
    auto event = answer();
    std::size_t count = 0;
    auto** results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event.get()), &count);
    REQUIRE(count == 1);
    check(rd_kafka_topic_result_error(results[0]));
  }

  /// Sets `name` of a topic to `value`.
  void configure(const char* topic, const char* name, const char* value) {
    Owned<rd_kafka_ConfigResource_t> wanted(rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic),
                                            &rd_kafka_ConfigResource_destroy);
    check(rd_kafka_ConfigResource_set_config(wanted.get(), name, value));
    auto* one = wanted.get();
    rd_kafka_AlterConfigs(client_.get(), &one, 1, nullptr, queue_.get());
    auto event = answer();
    std::size_t count = 0;
    auto** resources = rd_kafka_AlterConfigs_result_resources(rd_kafka_event_AlterConfigs_result(event.get()), &count);
    REQUIRE(count == 1);
    check(rd_kafka_ConfigResource_error(resources[0]));
  }

  /// From now on nobody but super users does anything with a topic that was not allowed to them.
  void allow(const char* principal, rd_kafka_AclOperation_t what, const char* topic) {
    char wrong[256] = "";
    Owned<rd_kafka_AclBinding_t> wanted(
        rd_kafka_AclBinding_new(RD_KAFKA_RESOURCE_TOPIC, topic, RD_KAFKA_RESOURCE_PATTERN_LITERAL, principal, "*", what,
                                RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW, wrong, sizeof wrong),
        &rd_kafka_AclBinding_destroy);
    INFO(wrong);
    REQUIRE(wanted);
    auto* one = wanted.get();
    rd_kafka_CreateAcls(client_.get(), &one, 1, nullptr, queue_.get());
    auto event = answer();
    std::size_t count = 0;
    auto** results = rd_kafka_CreateAcls_result_acls(rd_kafka_event_CreateAcls_result(event.get()), &count);
    REQUIRE(count == 1);
    const auto* error = rd_kafka_acl_result_error(results[0]);
    check(error != nullptr ? rd_kafka_error_code(error) : RD_KAFKA_RESP_ERR_NO_ERROR);
  }

  bool has_leaders(const std::string& name) {
    auto topic = open_topic(client_.get(), name);
    REQUIRE(topic);
    return look_at_topic(client_.get(), topic->get(), Patience(std::chrono::seconds(5), {})).state == TopicState::known;
  }

 private:
  template <class T>
  using Owned = std::unique_ptr<T, void (*)(T*)>;

  static void check(rd_kafka_resp_err_t error) {
    INFO(rd_kafka_err2str(error));
    REQUIRE(error == RD_KAFKA_RESP_ERR_NO_ERROR);
  }
  Owned<rd_kafka_event_t> answer() {
    Owned<rd_kafka_event_t> event(rd_kafka_queue_poll(queue_.get(), 30'000), &rd_kafka_event_destroy);
    REQUIRE(event);
    check(rd_kafka_event_error(event.get()));
    return event;
  }

  ClientEvents events_;
  Client client_;
  Owned<rd_kafka_queue_t> queue_{nullptr, &rd_kafka_queue_destroy};
};

}  // namespace penstock::e2e
