// The sink on a real Kafka: what the promise "exactly once" rests on, and what the mock cluster cannot show.
#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "agent/forward/forwarder.h"
#include "agent/kafka/checkpoint_reader.h"
#include "agent/kafka/kafka_sink.h"
#include "agent/kafka/messages.h"
#include "agent/kafka/producer.h"
#include "agent/kafka/template.h"
#include "agent/kafka/topic_scan.h"
#include "agent/kafka/topics.h"
#include "agent/kafka/verify_cluster.h"
#include "tests/catch.h"
#include "tests/e2e/kafka_rig.h"
#include "tests/fakes/batches.h"
#include "tests/fakes/temp_dir.h"
#include "tests/skip.h"

namespace penstock {
namespace {
namespace sink_test {

using namespace std::chrono_literals;

/// One cluster for all cases of this binary: each case has an agent and a topic of its own.
KafkaRig& shared_rig() {
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

/// Another agent's id whose checkpoints go to the same partition.
std::string neighbour_of(const std::string& agent) {
  for (int i = 0;; ++i) {
    std::string other = "neighbour-" + std::to_string(i);
    if (checkpoint_partition(other, 16) == checkpoint_partition(agent, 16)) return other;
  }
}

TEST_CASE("a batch is visible to read_committed after its commit, and its checkpoint comes back", "[e2e]") {
  auto& rig = shared_rig();
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "visible");
  auto sink = bench.open();
  CHECK(!bench.resume(*sink));
  auto batch = bench.maker.next(1000);
  bench.commit(*sink, batch);
  CHECK(bench.exactly_once(1000));
  auto next_life = bench.open();
  CHECK(bench.resume(*next_life) == batch.after);
  bench.notes.kept.clear();
  auto life_without_notes = bench.open();
  CHECK(bench.resume(*life_without_notes) == batch.after);
}

TEST_CASE("what a life wrote and did not commit is never seen, and is sent again exactly once", "[e2e]") {
  auto& rig = shared_rig();
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "died");
  auto first = bench.open();
  bench.resume(*first);
  auto safe = bench.maker.next(10);
  bench.commit(*first, safe);
  first.reset();
  auto doubtful = bench.maker.next(10);
  bench.write_without_commit(doubtful).reset();  // died here
  CHECK(bench.seen(false).size() == 20);

  auto next = bench.open();
  CHECK(bench.resume(*next) == safe.after);
  bench.commit(*next, doubtful);
  CHECK(bench.exactly_once(20));
  CHECK(bench.seen(false)[11] == 2);
}

TEST_CASE("a sink that was overtaken by another of its id is fenced, and learns where Kafka stands by asking",
          "[e2e]") {
  auto& rig = shared_rig();
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "zombie");
  MemoryNotes other_notes;
  auto zombie = bench.open();
  auto heir = bench.open(other_notes);
  bench.resume(*zombie);
  auto batch = bench.maker.next(10);
  bench.commit(*zombie, batch);
  CHECK(bench.resume(*heir) == batch.after);

  auto next = bench.maker.next(10);
  bench.commit(*heir, next);
  auto refused = zombie->commit(next, {});  // it has not heard
  REQUIRE(!refused);
  INFO(refused.error().what);
  CHECK(refused.error().what.find("fenced") != std::string::npos);
  CHECK(bench.resume(*zombie) == next.after);
  CHECK(bench.exactly_once(20));
}

TEST_CASE("a commit that was under way when its successor began cannot land any more", "[e2e]") {
  auto& rig = shared_rig();
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "late");
  auto sink = bench.open();
  bench.resume(*sink);
  auto safe = bench.maker.next(10);
  bench.commit(*sink, safe);
  auto doubtful = bench.maker.next(10);
  auto zombie = bench.write_without_commit(doubtful);

  auto heir = bench.open();
  CHECK(bench.resume(*heir) == safe.after);
  CHECK(!Producer::commit(zombie, bench.patience()));
  bench.commit(*heir, doubtful);
  CHECK(bench.exactly_once(20));
}

TEST_CASE("what is read before init_transactions is not the last word", "[e2e]") {
  auto& rig = shared_rig();
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "order");
  auto sink = bench.open();
  bench.resume(*sink);
  auto safe = bench.maker.next(10);
  bench.commit(*sink, safe);
  auto late = bench.maker.next(10);

  // The wrong order: read, and only then fence. Between the two the earlier life commits.
  auto reader = std::make_shared<SharedClient>();
  auto client = open_client(Role::uncommitted_reader, bench.settings, reader->events);
  REQUIRE(client);
  reader->client = std::move(*client);
  auto expected = checkpoint_partition("order", 16);
  auto nothing_to_end = [](std::int32_t) { return Result<void>(); };
  auto too_early =
      read_checkpoint(bench.settings, reader, 16, expected, std::nullopt, nothing_to_end, bench.patience());
  REQUIRE(too_early);
  bench.commit(*sink, late);
  REQUIRE(*too_early);
  CHECK((*too_early)->checkpoint == safe.after);  // going on from here would double ten records

  auto right = bench.open();
  CHECK(bench.resume(*right) == late.after);
}

TEST_CASE("another agent's open transaction does not hide our newest checkpoint", "[e2e]") {
  auto& rig = shared_rig();
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "hidden");
  Bench neighbour(rig, neighbour_of("hidden"));
  auto sink = bench.open();
  bench.resume(*sink);
  bench.commit(*sink, bench.maker.next(10));

  auto open = neighbour.begin();
  neighbour.write_checkpoint(*open, neighbour.maker.after());
  auto batch = bench.maker.next(10);
  bench.commit(*sink, batch);  // lies behind the open transaction

  bench.settings.kafka.transaction_timeout = 3s;
  auto impatient = bench.open();
  auto waiting = impatient->resume({});
  REQUIRE(!waiting);
  INFO(waiting.error().what);
  CHECK(waiting.error().what.find("open") != std::string::npos);

  REQUIRE(Producer::commit(open, neighbour.patience()));
  CHECK(bench.resume(*impatient) == batch.after);
}

/// Sets `name` of a topic to `value`.
void configure_topic(Bench& bench, const char* topic, const char* name, const char* value) {
  ClientEvents events;
  auto client = open_client(Role::uncommitted_reader, bench.settings, events);
  REQUIRE(client);
  std::unique_ptr<rd_kafka_ConfigResource_t, decltype(&rd_kafka_ConfigResource_destroy)> wanted(
      rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic), &rd_kafka_ConfigResource_destroy);
  REQUIRE(rd_kafka_ConfigResource_set_config(wanted.get(), name, value) == RD_KAFKA_RESP_ERR_NO_ERROR);
  std::unique_ptr<rd_kafka_queue_t, decltype(&rd_kafka_queue_destroy)> queue(rd_kafka_queue_new(client->get()),
                                                                             &rd_kafka_queue_destroy);
  auto* one = wanted.get();
  rd_kafka_AlterConfigs(client->get(), &one, 1, nullptr, queue.get());
  std::unique_ptr<rd_kafka_event_t, decltype(&rd_kafka_event_destroy)> event(rd_kafka_queue_poll(queue.get(), 30'000),
                                                                             &rd_kafka_event_destroy);
  REQUIRE(event);
  std::size_t count = 0;
  const auto* result = rd_kafka_event_AlterConfigs_result(event.get());
  auto** resources = rd_kafka_AlterConfigs_result_resources(result, &count);
  REQUIRE(count == 1);
  REQUIRE(rd_kafka_ConfigResource_error(resources[0]) == RD_KAFKA_RESP_ERR_NO_ERROR);
}

/// A topic with all its partitions on one broker only, and no copy.
void create_on(Bench& bench, int broker, const char* topic, int partitions, const char* cleanup) {
  ClientEvents events;
  auto client = open_client(Role::uncommitted_reader, bench.settings, events);
  REQUIRE(client);
  std::unique_ptr<rd_kafka_NewTopic_t, decltype(&rd_kafka_NewTopic_destroy)> wanted(
      rd_kafka_NewTopic_new(topic, partitions, -1, nullptr, 0), &rd_kafka_NewTopic_destroy);
  for (int partition = 0; partition < partitions; ++partition) {
    rd_kafka_NewTopic_set_replica_assignment(wanted.get(), partition, &broker, 1, nullptr, 0);
  }
  rd_kafka_NewTopic_set_config(wanted.get(), "cleanup.policy", cleanup);
  rd_kafka_NewTopic_set_config(wanted.get(), "min.insync.replicas", "1");
  std::unique_ptr<rd_kafka_queue_t, decltype(&rd_kafka_queue_destroy)> queue(rd_kafka_queue_new(client->get()),
                                                                             &rd_kafka_queue_destroy);
  auto* one = wanted.get();
  rd_kafka_CreateTopics(client->get(), &one, 1, nullptr, queue.get());
  std::unique_ptr<rd_kafka_event_t, decltype(&rd_kafka_event_destroy)> event(rd_kafka_queue_poll(queue.get(), 30'000),
                                                                             &rd_kafka_event_destroy);
  REQUIRE(event);
  std::size_t count = 0;
  auto** results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event.get()), &count);
  REQUIRE(count == 1);
  INFO(rd_kafka_err2str(rd_kafka_topic_result_error(results[0])));
  REQUIRE(rd_kafka_topic_result_error(results[0]) == RD_KAFKA_RESP_ERR_NO_ERROR);
}

bool has_leaders(Bench& bench, const char* name) {
  ClientEvents events;
  auto client = open_client(Role::uncommitted_reader, bench.settings, events);
  REQUIRE(client);
  auto topic = open_topic(client->get(), name);
  REQUIRE(topic);
  return look_at_topic(client->get(), topic->get(), Patience(5s, {})).state == TopicState::known;
}

template <class Condition>
bool becomes_true(Condition condition) {
  Patience patience(60s, {});
  do {
    if (condition()) return true;
  } while (rest(patience));
  return false;
}

/// A cluster whose coordinator outlives the only broker that holds the data.
struct Undecided {
  Undecided() : rig("4", 3) {
    if (rig.why_not) return;
    bench.emplace(rig, "undecided");
    create_on(*bench, 3, kCheckpointTopic, 16, "compact");
    create_on(*bench, 3, "of.undecided", 1, "delete");
  }

  /// Committed by the coordinator's word, while nobody was there to write the markers.
  std::shared_ptr<Producer> commit_without_markers(const Batch& batch) {
    auto producer = bench->write_without_commit(batch);
    rig.kill(3);
    REQUIRE(becomes_true([&] { return !has_leaders(*bench, "of.undecided"); }));
    auto committed = Producer::commit(producer, bench->patience());
    INFO((committed ? "" : committed.error().what));
    REQUIRE(committed);
    rig.restart(3);
    REQUIRE(becomes_true([&] { return has_leaders(*bench, "of.undecided") && has_leaders(*bench, kCheckpointTopic); }));
    return producer;
  }

  KafkaRig rig;
  std::optional<Bench> bench;
};

TEST_CASE("a commit that Kafka acknowledged and left undecided is ended as committed by the next life", "[e2e]") {
  Undecided test;
  if (test.rig.why_not) return skip(*test.rig.why_not);
  auto& bench = *test.bench;
  auto sink = bench.open();
  CHECK(!bench.resume(*sink));
  bench.commit(*sink, bench.maker.next(10));
  CHECK(becomes_true([&] { return sink->proven({}); }));
  sink.reset();

  auto left = bench.maker.next(10);
  auto life = test.commit_without_markers(left);
  CHECK(!life->decided(1s));  // no proof, though the commit succeeded
  CHECK(bench.seen(false).size() == 20);

  auto next_life = bench.open();
  CHECK(bench.resume(*next_life) == left.after);
  bench.commit(*next_life, bench.maker.next(10));
  CHECK(becomes_true([&] { return next_life->proven({}); }));
  CHECK(bench.exactly_once(30));
}

TEST_CASE("a commit that Kafka acknowledged and took back is known by asking, and sent again", "[e2e]") {
  Undecided test;
  if (test.rig.why_not) return skip(*test.rig.why_not);
  auto& bench = *test.bench;
  auto sink = bench.open();
  CHECK(!bench.resume(*sink));
  auto safe = bench.maker.next(10);
  bench.commit(*sink, safe);
  sink.reset();

  auto left = bench.maker.next(10);
  test.commit_without_markers(left).reset();
  bench.write_without_commit(bench.maker.next(10)).reset();  // the next life begins a transaction, and dies

  auto next_life = bench.open();
  CHECK(bench.resume(*next_life) == safe.after);
  bench.commit(*next_life, left);
  CHECK(bench.exactly_once(20));
}

TEST_CASE("a broker that is killed and comes back costs no record and doubles none", "[e2e]") {
  KafkaRig rig("4");
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "killed");
  bench.settings.kafka.transaction_timeout = 3s;
  auto sink = bench.open();
  bench.resume(*sink);
  bench.commit(*sink, bench.maker.next(100));
  rig.kill(1);
  auto batch = bench.maker.next(100);
  auto failed = sink->commit(batch, {});
  CHECK(!failed);
  CHECK(!sink->status().connected);
  rig.restart(1);

  // As the forwarder does it.
  auto deadline = std::chrono::steady_clock::now() + 60s;
  bool sent = false;
  while (!sent && std::chrono::steady_clock::now() < deadline) {
    auto checkpoint = sink->resume({});
    if (!checkpoint) continue;
    REQUIRE(*checkpoint);
    sent = **checkpoint == batch.after || sink->commit(batch, {});
  }
  REQUIRE(sent);
  CHECK(bench.exactly_once(200));
}

TEST_CASE("a checkpoint topic that is not compacted is refused, and says what to do", "[e2e]") {
  KafkaRig rig("4");
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "policy");
  auto producer = bench.begin();
  REQUIRE(producer->topic(kCheckpointTopic, bench.patience()));  // the broker makes it, with its own defaults
  producer.reset();
  auto sink = bench.open();
  auto refused = sink->resume({});
  REQUIRE(!refused);
  CHECK(refused.error().fault == Fault::transient);
  INFO(refused.error().what);
  CHECK(refused.error().what.find("cleanup.policy=delete") != std::string::npos);
}

TEST_CASE("a record that its topic never takes is set aside, the others arrive, and a retry finds a wider topic",
          "[e2e]") {
  auto& rig = shared_rig();
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "aside");
  bench.settings.kafka.properties["compression.codec"] = "none";
  TempDir folder;
  StoreSettings with;
  with.directory = folder.path() / "queue";
  with.agent = "aside";
  with.max_record_bytes = 4 << 20;
  auto store = Store::open(with, bench.clock);
  REQUIRE(store);
  auto put = [&](int records, std::size_t bytes) {
    Group group;
    group.driver = "test";
    for (int i = 0; i < records; ++i) {
      auto& record = group.records.emplace_back();
      record.stream = "s";
      record.payload = std::string(bytes, 'x');
      record.time = bench.clock.wall();
    }
    REQUIRE((*store)->commit({&group, 1}));
  };
  put(300, 100);
  put(1, 2'000'000);
  put(200, 100);

  auto sink = KafkaSink::open(
      bench.settings, [&](Lane lane) { return (*store)->name_of(lane); }, bench.notes, bench.clock);
  REQUIRE(sink);
  Forwarder::Settings forwarding;
  forwarding.batch_interval = 0ms;
  forwarding.idle = 0ms;
  Forwarder forwarder(**store, **sink, Forwarder::own_writes(**store), bench.clock, forwarding);
  auto drain = [&] {
    return becomes_true([&] {
      REQUIRE(forwarder.step({}));
      auto left = (*store)->read({.records = 1});
      return left && left->empty();
    });
  };
  REQUIRE(drain());
  auto letters = (*store)->dead_letters({}, {});
  REQUIRE(letters);
  REQUIRE(letters->size() == 1);
  INFO(letters->front().reason);
  CHECK(letters->front().stored.sequence == Sequence(301));
  CHECK(letters->front().reason.find("lane telemetry, sequence 301 (2000000 bytes)") != std::string::npos);
  auto times = bench.seen(true);
  CHECK(times.size() == 500);
  CHECK(times.count(301) == 0);
  CHECK(std::all_of(times.begin(), times.end(), [](const auto& one) { return one.second == 1; }));
  auto proof = bench.proof();
  CHECK(proof.holds());
  REQUIRE(proof.lanes.size() == 1);
  CHECK(proof.lanes[0].given_up == 1);

  configure_topic(bench, "of.aside", "max.message.bytes", "4000000");
  auto id = letters->front().id();
  auto retried = (*store)->retry({&id, 1});
  REQUIRE(retried);
  CHECK(retried->done == 1);
  REQUIRE(drain());
  CHECK(bench.seen(true).count(502) == 1);
  CHECK(forwarder.status().set_aside == 1);
  letters = (*store)->dead_letters({}, {});
  REQUIRE(letters);
  CHECK(letters->empty());
}

TEST_CASE("a record larger than its topic takes is named, and nothing is lost", "[e2e]") {
  auto& rig = shared_rig();
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "large");
  bench.settings.kafka.properties["compression.codec"] = "none";
  auto sink = bench.open();
  bench.resume(*sink);
  auto small = bench.maker.next(1);
  bench.commit(*sink, small);
  auto refused = sink->commit(bench.maker.next(1, 2'000'000), {});
  REQUIRE(!refused);
  INFO(refused.error().what);
  CHECK(refused.error().what.find("lane telemetry, sequence 2 (2000000 bytes)") != std::string::npos);
  CHECK(bench.resume(*sink) == small.after);
}

TEST_CASE("Kafka 3.9 takes the same batches", "[e2e]") {
  KafkaRig rig("3.9");
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "older");
  auto sink = bench.open();
  CHECK(!bench.resume(*sink));
  auto safe = bench.maker.next(100);
  bench.commit(*sink, safe);
  auto doubtful = bench.maker.next(10);
  bench.write_without_commit(doubtful).reset();
  CHECK(bench.resume(*sink) == safe.after);
  bench.commit(*sink, doubtful);
  bench.commit(*sink, bench.maker.gap(5));
  CHECK(bench.exactly_once(110));
}

TEST_CASE("verify finds a missing and a doubled record, and takes a gap record for an account", "[e2e]") {
  auto& rig = shared_rig();
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "proof");
  auto sink = bench.open();
  bench.resume(*sink);
  bench.commit(*sink, bench.maker.next(100));
  bench.commit(*sink, bench.maker.gap(7));
  bench.commit(*sink, bench.maker.next(100));
  auto good = bench.proof();
  CHECK(good.holds());
  REQUIRE(good.lanes.size() == 1);
  CHECK(good.lanes[0].records == 200);
  CHECK(good.lanes[0].given_up == 7);
  CHECK(good.lanes[0].checkpoint == Sequence(207));

  auto holed = bench.maker.next(10);
  holed.records.erase(holed.records.begin() + 4);
  holed.records.push_back(holed.records.front());
  bench.commit(*sink, holed);
  auto bad = bench.proof();
  CHECK(!bad.holds());
  CHECK(bad.lanes[0].missing_ranges == std::vector<SequenceBitmap::Range>{{Sequence(212), Sequence(212)}});
  CHECK(bad.lanes[0].doubled == 1);
}

}  // namespace sink_test
}  // namespace
}  // namespace penstock
