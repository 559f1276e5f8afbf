// The producer on librdkafka's mock cluster.
#include "agent/kafka/producer.h"

#include <chrono>
#include <memory>
#include <string>

#include "agent/kafka/mock_cluster.h"
#include "tests/catch.h"

namespace penstock {
namespace {
namespace producer_test {

using namespace std::chrono_literals;

TEST_CASE("a message that is refused while later ones are still produced is what they fail with", "[kafka]") {
  auto cluster = std::move(*MockCluster::start());
  cluster->create_topic("there", 1);
  KafkaSinkSettings settings;
  settings.agent = "gw-17";
  settings.kafka.brokers = {cluster->bootstrap()};
  auto producer = std::move(*Producer::open(settings));
  REQUIRE(producer->initialise(Patience(10s, {})));
  auto topic = producer->topic("there", Patience(10s, {}));
  REQUIRE(topic);
  cluster->fail_next(MockCluster::Request::produce, {10});
  REQUIRE(producer->begin());

  // The first request leaves after linger.ms, and its answer takes the transaction away from under those that follow.
  const std::string value(100, 'x');
  Producer::Message message;
  message.topic = topic->handle;
  message.partition = 0;
  message.value = value;
  Result<void> produced;
  const Patience patience(20s, {});
  while (produced && !patience.over()) {
    ++message.number;
    produced = producer->produce(message, patience);
  }
  REQUIRE(!produced);
  INFO(message.number << " messages: " << produced.error().what);
  CHECK(message.number > 1);
  CHECK(produced.error().fault == Fault::rejected);
  CHECK(produced.error().what.find("Message size too large") != std::string::npos);
  CHECK(producer->failed_number() == 1u);
  CHECK(producer->refused_size());
  producer->give_up();
}

}  // namespace producer_test
}  // namespace
}  // namespace penstock
