// What the tests of the sink on a real Kafka share: a cluster, an agent with a topic of its own, and what consumers see.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/kafka/batch_writer.h"
#include "agent/kafka/kafka_sink.h"
#include "agent/kafka/messages.h"
#include "agent/kafka/offsets.h"
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

template <class Condition>
bool becomes_true(Condition condition) {
  Patience patience(60s, {});
  do {
    if (condition()) return true;
  } while (rest(patience));
  return false;
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
    auto standing = sink.resume({});
    INFO((standing ? "" : standing.error().what));
    REQUIRE(standing);
    return standing->checkpoint;
  }
  void commit(Sink& sink, const Batch& batch) {
    auto committed = send(sink, batch);
    INFO((committed ? "" : committed.error().what));
    REQUIRE(committed);
    window.begin({});
    base = batch.after;
  }
  /// As the forwarder does it: asks, and sends what of these batches is not there.
  void complete(Sink& sink, std::vector<Batch> batches) {
    auto standing = sink.resume({});
    INFO((standing ? "" : standing.error().what));
    REQUIRE(standing);
    for (auto& batch : batches) {
      std::erase_if(batch.records, [&](const StoredRecord& stored) {
        return standing->checkpoint && stored.sequence <= at(standing->checkpoint->delivered, "telemetry");
      });
      standing->landed.strike(batch, BatchMaker::lane_name);
      batch.islands = standing->landed.beyond(batch.after);
      commit(sink, batch);
    }
  }

  /// A life of this agent that gets as far as everything written and acknowledged, but not committed.
  std::shared_ptr<Producer> write_without_commit(const Batch& batch) {
    auto producer = start();
    write(*producer, batch);
    return producer;
  }
  std::shared_ptr<Producer> start() {
    auto producer = Producer::open(settings);
    REQUIRE(producer);
    REQUIRE((*producer)->initialise(patience()));
    return *producer;
  }
  /// A transaction as the sink writes it, behind those that `window` knows to be without proof. Gives its partitions.
  std::vector<TopicPartition> write(Producer& producer, const Batch& batch, bool with_checkpoint = true) {
    auto writer = BatchWriter::make(settings, BatchMaker::lane_name);
    REQUIRE(writer);
    REQUIRE(writer->plan(producer, batch, {}));
    for (const auto& partition : writer->partitions()) {
      if (window.is_clean(partition)) continue;
      window.clean(partition, ends({partition}).at(partition));
    }
    REQUIRE(producer.begin());
    if (with_checkpoint) write_checkpoint(producer, batch.after, window.note(base, writer->partitions()));
    REQUIRE(writer->write(producer, batch, clock.wall(), patience()));
    auto flushed = producer.flush(patience());
    INFO((flushed ? "" : flushed.error().what));
    REQUIRE(flushed);
    return writer->partitions();
  }
  Offsets ends(const std::vector<TopicPartition>& partitions) {
    ClientEvents events;
    auto client = open_client(Role::uncommitted_reader, settings, events);
    REQUIRE(client);
    Offsets found;
    REQUIRE(becomes_true([&] {
      auto listed = list_offsets(client->get(), partitions, End::last, 1s);
      if (listed) found = *listed;
      return found.size() == partitions.size();
    }));
    return found;
  }
  std::shared_ptr<Producer> begin() {
    auto producer = start();
    REQUIRE(producer->begin());
    return producer;
  }
  void write_checkpoint(Producer& producer, const Checkpoint& checkpoint, const WindowNote& note = {}) {
    auto topic = producer.topic(kCheckpointTopic, patience());
    REQUIRE(topic);
    auto value = encode_checkpoint(checkpoint, note, settings.agent, clock.wall());
    Producer::Message message;
    message.topic = topic->handle;
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
          if (!record.name) return;  // what was written only to be aborted
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
  Window window;    // of what write() has written
  Checkpoint base;  // before it
};

}  // namespace penstock::e2e
