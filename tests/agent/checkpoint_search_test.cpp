// How a checkpoint is found among those of many other agents, on librdkafka's mock cluster.
#include <chrono>
#include <memory>

#include "agent/kafka/checkpoint_reader.h"
#include "agent/kafka/mock_cluster.h"
#include "agent/kafka/producer.h"
#include "agent/kafka/template.h"
#include "tests/catch.h"

namespace penstock {
namespace {
namespace checkpoint_search_test {

using namespace std::chrono_literals;

constexpr std::int32_t kPartition = 3, kPartitions = 16;

class Checkpoints {
 public:
  Checkpoints() : cluster_(std::move(*MockCluster::start())) {
    settings_.agent = "gw-17";
    settings_.kafka.brokers = {cluster_->bootstrap()};
    settings_.kafka.delivery = Delivery::at_least_once;  // no transactions are needed to write them here
    producer_ = std::move(*Producer::open(settings_));
    reader_ = std::make_shared<SharedClient>();
    reader_->client = std::move(*open_client(Role::uncommitted_reader, settings_, reader_->events));
  }

  void write(const std::string& agent, int count, const std::string& value) {
    auto topic = producer_->topic(kCheckpointTopic, Patience(10s, {}));
    REQUIRE(topic);
    REQUIRE(producer_->begin());
    Producer::Message message;
    message.topic = topic->handle;
    message.partition = kPartition;
    message.key = agent;
    message.value = value;
    for (int n = 0; n < count; ++n) REQUIRE(producer_->produce(message, Patience(10s, {})));
    REQUIRE(producer_->flush(Patience(10s, {})));
  }

  /// The value of the newest one, "none", or "not now".
  std::string look(CheckpointSearch& search, std::chrono::milliseconds most, std::optional<CheckpointPlace> hint = {}) {
    CheckpointReader reader(settings_, reader_, search);
    auto found = reader.newest(kPartitions, kPartition, hint, Patience(most, {}));
    if (!found) return "not now";
    return *found ? (*found)->value.value_or("deleted") : "none";
  }
  void set_round_trip(int milliseconds) { cluster_->set_round_trip(1, milliseconds); }

 private:
  std::unique_ptr<MockCluster> cluster_;
  KafkaSinkSettings settings_;
  std::shared_ptr<Producer> producer_;
  std::shared_ptr<SharedClient> reader_;
};

TEST_CASE("the newest checkpoint is found, whatever lies behind it and whatever is added", "[kafka]") {
  Checkpoints test;
  CheckpointSearch search;
  CHECK(test.look(search, 10s) == "none");
  test.write("other", 700, "x");
  CHECK(test.look(search, 10s) == "none");
  test.write("gw-17", 1, "first");
  test.write("other", 3000, "x");
  CHECK(test.look(search, 10s) == "first");
  test.write("gw-17", 1, "second");
  CHECK(test.look(search, 10s) == "second");

  CheckpointSearch with_hint, with_a_wrong_one, without;
  CHECK(test.look(with_hint, 10s, CheckpointPlace{kPartition, 700}) == "second");
  CHECK(test.look(with_a_wrong_one, 10s, CheckpointPlace{kPartition, 100'000}) == "second");
  CHECK(test.look(without, 10s) == "second");
}

TEST_CASE("a search that takes longer than any patience comes to its end all the same", "[kafka]") {
  Checkpoints test;
  test.write("gw-17", 1, "ours");
  test.write("other", 6000, std::string(300, 'x'));
  test.set_round_trip(100);
  CheckpointSearch search;
  int looks = 1;
  while (test.look(search, 700ms) == "not now") REQUIRE(++looks < 100);
  CHECK(test.look(search, 10s) == "ours");
  CHECK(looks > 1);  // one look was not enough
}

TEST_CASE("a hint that lies ahead of what was read saves reading what others have added since", "[kafka]") {
  Checkpoints test;
  CheckpointSearch search;
  CHECK(test.look(search, 10s) == "none");
  test.write("other", 6000, std::string(300, 'x'));
  test.write("gw-17", 1, "ours");
  test.set_round_trip(100);
  CHECK(test.look(search, 1s, CheckpointPlace{kPartition, 6000}) == "ours");
  CheckpointSearch without;
  without = search;
  CHECK(test.look(without, 1s) == "ours");  // it has been read
}

TEST_CASE("a search that goes on for long stays one", "[kafka]") {
  Checkpoints test;
  CheckpointSearch search;
  for (int look = 1; look <= 70; ++look) {  // more than a number has bits
    test.write(look % 2 == 0 ? "gw-17" : "other", 1, std::to_string(look));
    CHECK(test.look(search, 10s) == (look == 1 ? "none" : std::to_string(look - look % 2)));
  }
}

}  // namespace checkpoint_search_test
}  // namespace
}  // namespace penstock
