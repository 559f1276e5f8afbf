// The demo's receiver on librdkafka's mock cluster, fed by the real sink.
#include "agent/demo/receiver.h"

#include <chrono>

#include "agent/demo/tap.h"
#include "agent/kafka/kafka_sink.h"
#include "agent/kafka/mock_cluster.h"
#include "tests/agent/wait_until.h"
#include "tests/catch.h"
#include "tests/fakes/batches.h"
#include "tests/fakes/fake_clock.h"

namespace penstock {
namespace {
namespace demo_receiver_test {

using namespace std::chrono_literals;

/// A sink and a receiver on one mock cluster.
class Pipe {
 public:
  explicit Pipe(Receiver::OnTheWay on_the_way = {}) : cluster(std::move(*MockCluster::start())) {
    cluster->create_topic("penstock.telemetry", 3);
    KafkaSinkSettings settings;
    settings.agent = "gw";
    settings.look_after_topics = false;
    settings.kafka.brokers = {cluster->bootstrap()};
    settings.kafka.properties = {{"reconnect.backoff.ms", "20"}, {"reconnect.backoff.max.ms", "100"}};
    sink = std::move(*KafkaSink::open(settings, BatchMaker::lane_name, notes, clock));
    auto reader = TopicReader::open({settings.kafka, {{"penstock.telemetry", 3}}});
    REQUIRE(reader);
    receiver.emplace(std::move(*reader), account, std::move(on_the_way));
    REQUIRE(sink->resume({}));
  }

  /// Commits the next records as if the tap had entered them; every other one the agent's own.
  void send(std::size_t count) {
    auto batch = maker.next(count);
    for (auto& stored : batch.records) {
      auto& record = stored.record;
      if (stored.sequence.value() % 10 == 0) continue;
      auto number = account.enter(checksum_of(record.driver, record.stream, record.content_type, record.payload));
      record.headers.push_back({kNumberHeader, std::to_string(number)});
    }
    auto committed = penstock::send(*sink, batch);
    INFO((committed ? "" : committed.error().what));
    REQUIRE(committed);
  }
  /// Everything that lies in the topic is booked.
  Proof proof() {
    receiver->ask_for_end();
    REQUIRE(wait_until([&] { return receiver->at_end(); }));
    return account.proof("gw", maker.epoch(), {{"telemetry", maker.last()}});
  }

  FakeClock clock;
  std::unique_ptr<MockCluster> cluster;
  MemoryNotes notes;
  BatchMaker maker{clock.wall()};
  Account account;
  std::unique_ptr<KafkaSink> sink;
  std::optional<Receiver> receiver;
};

TEST_CASE("the receiver books what the sink committed, the agent's own records among it", "[kafka]") {
  Pipe pipe;
  pipe.send(100);
  pipe.send(1'000);
  auto proof = pipe.proof();
  CHECK(proof.sent == 990);
  CHECK(proof.own == 110);
  CHECK(proof.repeats == 0);
  INFO(proof.line());
  CHECK(proof.holds());
}

TEST_CASE("the receiver goes on where it was after its link was cut", "[kafka]") {
  Pipe pipe;
  pipe.send(100);
  REQUIRE(pipe.proof().holds());
  pipe.cluster->set_down(1);
  pipe.receiver->ask_for_end();
  CHECK_FALSE(pipe.receiver->at_end());
  pipe.cluster->set_up(1);
  pipe.send(100);
  auto proof = pipe.proof();
  CHECK(proof.received == 180);
  CHECK(proof.holds());
}

TEST_CASE("a record that the receiver does not get breaks its proof", "[kafka]") {
  Pipe pipe([n = 0](const SeenRecord& record, const TopicReader::Take& hand_on) mutable {
    if (++n != 50) hand_on(record);
  });
  pipe.send(100);
  auto proof = pipe.proof();
  CHECK(proof.lost == 1);
  CHECK_FALSE(proof.holds());
}

TEST_CASE("a record that the receiver gets again is skipped, in another partition it breaks its proof", "[kafka]") {
  std::int32_t more = 0;
  Pipe pipe([&, n = 0](const SeenRecord& record, const TopicReader::Take& hand_on) mutable {
    hand_on(record);
    if (++n != 50) return;
    auto again = record;
    again.partition += more;
    hand_on(again);
  });
  SECTION("the same partition") {
    pipe.send(100);
    auto proof = pipe.proof();
    CHECK(proof.repeats == 1);
    CHECK(proof.holds());
  }
  SECTION("another partition") {
    more = 3;
    pipe.send(100);
    auto proof = pipe.proof();
    CHECK(proof.twice == 1);
    CHECK_FALSE(proof.holds());
  }
}

TEST_CASE("an attempt that comes to nothing is seen on a mock cluster, skipped, and proves nothing wrong", "[kafka]") {
  Pipe pipe;
  pipe.send(50);
  // What a mock cluster shows of an aborted transaction: its records, and then those of the next attempt.
  auto attempt = pipe.maker.next(20);
  for (auto& stored : attempt.records) {
    const auto& record = stored.record;
    auto number = pipe.account.enter(checksum_of(record.driver, record.stream, record.content_type, record.payload));
    stored.record.headers.push_back({kNumberHeader, std::to_string(number)});
  }
  REQUIRE(penstock::send(*pipe.sink, attempt));
  REQUIRE(penstock::send(*pipe.sink, attempt));
  auto proof = pipe.proof();
  CHECK(proof.repeats == 20);
  CHECK(proof.holds());
}

TEST_CASE("a record that is none of ours breaks the receiver's proof") {
  Account account;
  book(SeenRecord{}, account);
  CHECK(account.so_far().unknown == 1);
}

}  // namespace demo_receiver_test
}  // namespace
}  // namespace penstock
