// What the tests of the sink on a real Kafka share: a cluster, an agent with a topic of its own, and what consumers see.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/kafka/kafka_sink.h"
#include "agent/kafka/messages.h"
#include "agent/kafka/producer.h"
#include "agent/kafka/template.h"
#include "agent/kafka/topic_scan.h"
#include "agent/kafka/verify_cluster.h"
#include "tests/catch.h"
#include "tests/e2e/kafka_rig.h"
#include "tests/fakes/batches.h"

namespace penstock::e2e {

using namespace std::chrono_literals;

/// One cluster for all cases of this binary: each case has an agent and a topic of its own.
inline KafkaRig& shared_rig() {
  static KafkaRig rig("4");
  return rig;
}

class Bench {
 public:
  Bench(const KafkaRig& rig, const std::string& name) {
    settings.agent = name;
    settings.kafka.brokers = {rig.bootstrap};
    settings.kafka.topic = "of." + name;
    settings.kafka.transaction_timeout = 20s;
    settings.kafka.properties = {{"reconnect.backoff.ms", "50"}, {"reconnect.backoff.max.ms", "500"}};
  }

  std::unique_ptr<KafkaSink> open() { return open(notes); }
  std::unique_ptr<KafkaSink> open(Notes& kept) {
    auto sink = KafkaSink::open(settings, BatchMaker::lane_name, kept, clock);
    REQUIRE(sink);
    return std::move(*sink);
  }
  std::optional<Checkpoint> resume(Sink& sink) {
    auto checkpoint = sink.resume({});
    INFO((checkpoint ? "" : checkpoint.error().what));
    REQUIRE(checkpoint);
    return *checkpoint;
  }
  void commit(Sink& sink, const Batch& batch) {
    auto committed = sink.commit(batch, {});
    INFO((committed ? "" : committed.error().what));
    REQUIRE(committed);
  }

  /// A life of this agent that gets as far as everything written and acknowledged, but not committed.
  std::shared_ptr<Producer> write_without_commit(const Batch& batch) {
    auto producer = begin();
    auto topic = producer->topic(settings.kafka.topic, patience());
    REQUIRE(topic);
    HeaderWriter headers(settings.agent, HeaderStyle::cloudevents);
    std::size_t number = 0;
    for (const auto& stored : batch.records) {
      Producer::Message message;
      message.topic = *topic;
      message.value = stored.record.payload;
      message.headers = &headers.write(stored, "telemetry");
      message.number = ++number;
      REQUIRE(producer->produce(message, patience()));
    }
    write_checkpoint(*producer, batch.after);
    return producer;
  }
  std::shared_ptr<Producer> begin() {
    auto producer = Producer::open(settings);
    REQUIRE(producer);
    REQUIRE((*producer)->initialise(patience()));
    REQUIRE((*producer)->begin());
    return *producer;
  }
  void write_checkpoint(Producer& producer, const Checkpoint& checkpoint) {
    auto topic = producer.topic(kCheckpointTopic, patience());
    REQUIRE(topic);
    auto value = encode_checkpoint(checkpoint, settings.agent, clock.wall());
    Producer::Message message;
    message.topic = *topic;
    message.partition = checkpoint_partition(settings.agent, 16);
    message.key = settings.agent;
    message.value = value;
    message.number = 1'000'000;
    REQUIRE(producer.produce(message, patience()));
    auto flushed = producer.flush(patience());
    INFO((flushed ? "" : flushed.error().what));
    REQUIRE(flushed);
  }

  /// How often each sequence is in Kafka.
  std::map<std::uint64_t, int> seen(bool committed) {
    std::map<std::uint64_t, int> times;
    auto scanned = scan_topics(
        {settings.kafka, {settings.kafka.topic}, {}, committed},
        [&](const SeenRecord& record) {
          REQUIRE(record.name);
          ++times[record.name->sequence.value()];
        },
        patience());
    INFO((scanned ? "" : scanned.error().what));
    REQUIRE(scanned);
    return times;
  }
  /// What `penstock verify` says of this agent.
  ClusterProof proof() {
    auto proof = verify_cluster({settings.kafka, {"^of\\." + settings.agent}, {settings.agent}, {}}, patience());
    INFO((proof ? "" : proof.error().what));
    REQUIRE(proof);
    return *proof;
  }
  bool exactly_once(std::uint64_t last) {
    auto times = seen(true);
    if (times.size() != last) return false;
    for (std::uint64_t sequence = 1; sequence <= last; ++sequence) {
      if (times[sequence] != 1) return false;
    }
    return true;
  }

  static Patience patience() { return Patience(30s, {}); }

  SystemClock clock;
  MemoryNotes notes;
  KafkaSinkSettings settings;
  BatchMaker maker{clock.wall()};
};

template <class Condition>
bool becomes_true(Condition condition) {
  Patience patience(60s, {});
  do {
    if (condition()) return true;
  } while (rest(patience));
  return false;
}

}  // namespace penstock::e2e
