// What is remembered of topics, on librdkafka's mock cluster where brokers are asked.
#include "agent/kafka/data_topics.h"

#include <chrono>
#include <memory>

#include "agent/kafka/mock_cluster.h"
#include "agent/kafka/template.h"
#include "tests/catch.h"

namespace penstock {
namespace {
namespace data_topics_test {

using namespace std::chrono_literals;
using EventTime = DataTopics::EventTime;

class Asked {
 public:
  explicit Asked(OnTopicError on_topic_error = OnTopicError::wait, std::uint64_t max_topics = 200)
      : cluster_(std::move(*MockCluster::start())) {
    cluster_->create_topic("there", 2);
    settings_.agent = "gw-17";
    settings_.kafka.brokers = {cluster_->bootstrap()};
    settings_.kafka.on_topic_error = on_topic_error;
    settings_.kafka.max_topics = max_topics;
    topics = std::make_unique<DataTopics>(settings_.kafka);
    producer_ = std::move(*Producer::open(settings_));
  }

  /// What is wrong with the topic; null: nothing.
  const DataTopics::Trouble* trouble(const std::string& name, bool insist = false) {
    Producer::KnownTopic topic;
    auto found = topics->find(*producer_, name, topic, Patience(10s, {}), insist);
    INFO((found ? "" : found.error().what));
    REQUIRE(found);
    CHECK((*found == nullptr) == (topic.handle != nullptr));
    return *found;
  }

  std::unique_ptr<DataTopics> topics;

 private:
  std::unique_ptr<MockCluster> cluster_;
  KafkaSinkSettings settings_;
  std::shared_ptr<Producer> producer_;
};

TEST_CASE("a topic that refused what was written waits, until something is in it or somebody insists", "[kafka]") {
  Asked asked;
  CHECK(asked.trouble("there") == nullptr);
  asked.topics->refuse("there", "not authorised");
  auto* trouble = asked.trouble("there");
  REQUIRE(trouble != nullptr);
  CHECK(trouble->why == "topic there: not authorised");
  CHECK_FALSE(trouble->for_good);
  CHECK(asked.topics->unwritable() == std::map<std::string, std::string>{{"there", "topic there: not authorised"}});
  CHECK(asked.trouble("there", true) == nullptr);
  CHECK(asked.trouble("there") != nullptr);
  asked.topics->written({{"elsewhere", 0}});
  CHECK(asked.trouble("there") != nullptr);
  asked.topics->written({{"there", 1}});
  CHECK(asked.trouble("there") == nullptr);
  CHECK(asked.topics->unwritable().empty());
}

TEST_CASE("records are set aside for the topic only if so configured, and never for a clock", "[kafka]") {
  for (auto configured : {OnTopicError::wait, OnTopicError::dead_letter}) {
    Asked asked(configured);
    asked.topics->refuse("there", "not authorised");
    CHECK(asked.trouble("there")->for_good == (configured == OnTopicError::dead_letter));
    asked.topics->refuse("there", "a clock is wrong", false);
    CHECK_FALSE(asked.trouble("there")->for_good);
  }
}

TEST_CASE("more topics than max_topics are not written to", "[kafka]") {
  Asked asked(OnTopicError::wait, 1);
  CHECK(asked.trouble("there") == nullptr);
  CHECK(asked.trouble("there") == nullptr);
  auto* trouble = asked.trouble("one.more");
  REQUIRE(trouble != nullptr);
  CHECK(trouble->for_good);
  CHECK(trouble->why == "topic one.more: it would be one more than max_topics = 1");
}

TEST_CASE("a topic that refuses times takes less and less, and is not blamed for a wrong clock", "[kafka]") {
  DataTopics topics(KafkaSettings{});
  CHECK(topics.event_time("t") == EventTime::any);
  CHECK(topics.refuse_time("t"));
  CHECK(topics.event_time("t") == EventTime::recent);
  CHECK(topics.event_time("other") == EventTime::any);
  CHECK(topics.refuse_time("t"));
  CHECK(topics.event_time("t") == EventTime::none);
  CHECK_FALSE(topics.refuse_time("t"));
  CHECK(topics.event_time("t") == EventTime::any);
  CHECK_FALSE(topics.refuse_time(kCheckpointTopic));

  const WallTime now{std::chrono::hours(500'000)};
  CHECK(DataTopics::takes(EventTime::any, now - 10'000h, now));
  CHECK(DataTopics::takes(EventTime::recent, now - 9min, now));
  CHECK(DataTopics::takes(EventTime::recent, now + 9min, now));
  CHECK_FALSE(DataTopics::takes(EventTime::recent, now - 11min, now));
  CHECK_FALSE(DataTopics::takes(EventTime::recent, now + 11min, now));
  CHECK_FALSE(DataTopics::takes(EventTime::none, now, now));
}

}  // namespace data_topics_test
}  // namespace
}  // namespace penstock
