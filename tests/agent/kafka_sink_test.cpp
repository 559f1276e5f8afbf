// The sink on librdkafka's mock cluster: the paths it can show. What it cannot (abort, read_committed, fencing) is shown
// on a real Kafka, in tests/e2e.
#include "agent/kafka/kafka_sink.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "agent/kafka/messages.h"
#include "agent/kafka/mock_cluster.h"
#include "agent/kafka/topic_scan.h"
#include "tests/agent/wait_until.h"
#include "tests/catch.h"
#include "tests/fakes/batches.h"
#include "tests/fakes/fake_clock.h"

namespace penstock {
namespace {
namespace kafka_sink_test {

using namespace std::chrono_literals;

class SinkOnMock {
 public:
  explicit SinkOnMock(int brokers = 1) : cluster(std::move(*MockCluster::start(brokers))) {
    cluster->create_topic("penstock.telemetry", 2);
    settings.agent = "gw-17";
    settings.look_after_topics = false;
    settings.kafka.brokers = {cluster->bootstrap()};
    settings.kafka.transaction_timeout = 5s;
    settings.kafka.properties = {{"reconnect.backoff.ms", "20"}, {"reconnect.backoff.max.ms", "100"}};
  }

  std::unique_ptr<KafkaSink> open() {
    auto sink = KafkaSink::open(settings, BatchMaker::lane_name, notes, clock);
    INFO((sink ? "" : sink.error().what));
    REQUIRE(sink);
    return std::move(*sink);
  }

  std::optional<Checkpoint> resume(Sink& sink) {
    auto standing = sink.resume(stop.get_token());
    INFO((standing ? "" : standing.error().what));
    REQUIRE(standing);
    return standing->checkpoint;
  }

  void commit(Sink& sink, const Batch& batch) {
    auto committed = send(sink, batch, stop.get_token());
    INFO((committed ? "" : committed.error().what));
    REQUIRE(committed);
  }

  std::vector<std::string> values(const std::string& topic) {
    std::vector<std::string> all;
    auto scanned = scan_topics(
        {settings.kafka, {topic}, {}, true}, [&](const SeenRecord& record) { all.emplace_back(record.value); },
        Patience(10s, {}));
    INFO((scanned ? "" : scanned.error().what));
    REQUIRE(scanned);
    return all;
  }

  FakeClock clock;
  std::unique_ptr<MockCluster> cluster;
  MemoryNotes notes;
  KafkaSinkSettings settings;
  std::stop_source stop;
  BatchMaker maker{clock.wall()};
};

std::string what_of(const Result<void>& result) { return result ? "no error" : result.error().what; }

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_CASE("a new agent has no checkpoint, and after a commit has that of its batch", "[kafka]") {
  SinkOnMock test;
  auto sink = test.open();
  CHECK(!sink->status().connected);
  CHECK(!test.resume(*sink));
  auto batch = test.maker.next(100);
  test.commit(*sink, batch);
  CHECK(sink->status().connected);
  CHECK(sink->status().records == 100);
  CHECK(sink->proven({}) == batch.after);
  CHECK(!sink->proven({}));  // said already

  auto next_life = test.open();
  auto checkpoint = test.resume(*next_life);
  REQUIRE(checkpoint);
  CHECK(*checkpoint == batch.after);
}

TEST_CASE("records arrive with value, key, headers and event time", "[kafka]") {
  SinkOnMock test;
  auto sink = test.open();
  test.resume(*sink);
  test.commit(*sink, test.maker.next(1));
  std::size_t count = 0;
  auto scanned = scan_topics(
      {test.settings.kafka, {"^penstock\\.tele.*"}, {}, true},
      [&](const SeenRecord& record) {
        ++count;
        CHECK(record.value == "record 1");
        CHECK(record.key == "gw-17/line/1");
        CHECK(record.timestamp == 1'780'000'000'000);
        REQUIRE(record.name);
        CHECK(*record.name == RecordName{"gw-17", "telemetry", test.maker.epoch(), Sequence(1)});
      },
      Patience(10s, {}));
  REQUIRE(scanned);
  CHECK(count == 1);
}

TEST_CASE("a gap record goes with the checkpoint that passes it", "[kafka]") {
  SinkOnMock test;
  auto sink = test.open();
  test.resume(*sink);
  auto batch = test.maker.gap(50);
  test.commit(*sink, batch);
  auto gaps = test.values("penstock.gaps");
  REQUIRE(gaps.size() == 1);
  auto gap = decode_gap(gaps[0]);
  REQUIRE(gap);
  CHECK(gap->count == 50);
  CHECK(gap->last == Sequence(50));
  CHECK(test.resume(*sink) == batch.after);
}

TEST_CASE("the newest checkpoint is found by the hint, without it, and by a hint that leads nowhere", "[kafka]") {
  SinkOnMock test;
  auto sink = test.open();
  test.resume(*sink);
  Batch batch;
  for (int i = 0; i < 300; ++i) {  // more than the first part that is read from the end
    batch = test.maker.next(1);
    test.commit(*sink, batch);
  }
  REQUIRE(test.notes.kept.count("kafka/checkpoint") == 1);
  auto hint = test.notes.kept["kafka/checkpoint"];
  CHECK(hint == std::to_string(checkpoint_partition("gw-17", 16)) + ":299");
  for (std::string note : {hint, std::string(), std::string("nonsense"), std::string("3:7"), std::string("99:1"),
                           hint + "0000", std::string("-1:0")}) {
    test.notes.kept.clear();
    if (!note.empty()) test.notes.kept["kafka/checkpoint"] = note;
    auto again = test.open();
    INFO("hint " << note);
    CHECK(test.resume(*again) == batch.after);
  }
}

TEST_CASE("other agents' checkpoints in the same partition are not taken for ours", "[kafka]") {
  SinkOnMock test;
  auto sink = test.open();
  test.resume(*sink);
  auto batch = test.maker.next(1);
  test.commit(*sink, batch);
  // Sixteen partitions: of these agents some share ours.
  for (int i = 0; i < 40; ++i) {
    auto other = test.settings;
    other.agent = "other-" + std::to_string(i);
    if (checkpoint_partition(other.agent, 16) != checkpoint_partition("gw-17", 16)) continue;
    MemoryNotes notes;
    auto theirs = KafkaSink::open(other, BatchMaker::lane_name, notes, test.clock);
    REQUIRE(theirs);
    CHECK(!test.resume(**theirs));
    BatchMaker maker(test.clock.wall());
    test.commit(**theirs, maker.next(3));
  }
  CHECK(test.resume(*sink) == batch.after);
}

TEST_CASE("commit without resume is refused, and after a failed commit resume is due", "[kafka]") {
  SinkOnMock test;
  auto sink = test.open();
  CHECK(has(what_of(sink->commit(test.maker.next(1), {})), "commit without resume"));
}

TEST_CASE("whatever error a request meets, the batch is in once after as many resumes as it takes", "[kafka]") {
  struct Case {
    const char* name;
    MockCluster::Request request;
    std::vector<int> errors;
  };
  // Numbers of Kafka's protocol: 47 INVALID_PRODUCER_EPOCH, 90 PRODUCER_FENCED, 48 INVALID_TXN_STATE, 29 TOPIC_AUTHORIZATION_FAILED,
  // 10 MESSAGE_TOO_LARGE, 49 INVALID_PRODUCER_ID_MAPPING, 51 CONCURRENT_TRANSACTIONS, 15 COORDINATOR_NOT_AVAILABLE, 6 NOT_LEADER.
  auto given =
      GENERATE(values<Case>({{"fenced on produce", MockCluster::Request::produce, {47}},
                             {"fenced on AddPartitionsToTxn", MockCluster::Request::add_partitions, {90}},
                             {"invalid state on EndTxn", MockCluster::Request::end_transaction, {48}},
                             {"not authorised on AddPartitionsToTxn", MockCluster::Request::add_partitions, {29}},
                             {"too large", MockCluster::Request::produce, {10}},
                             {"id mapping lost on EndTxn", MockCluster::Request::end_transaction, {49}},
                             {"concurrent transactions", MockCluster::Request::add_partitions, {51, 51}},
                             {"coordinator moves on EndTxn", MockCluster::Request::end_transaction, {15, 15}},
                             {"leader moves", MockCluster::Request::produce, {6, 6}}}));
  INFO(given.name);
  SinkOnMock test;
  auto sink = test.open();
  test.resume(*sink);
  test.commit(*sink, test.maker.next(5));
  test.cluster->fail_next(given.request, given.errors);

  // As the forwarder does it.
  auto batch = test.maker.next(5);
  int failures = 0;
  while (!send(*sink, batch)) {
    REQUIRE(++failures < 5);
    CHECK(!sink->status().connected);
    CHECK(!sink->status().error.empty());
    auto checkpoint = test.resume(*sink);
    REQUIRE(checkpoint);
    if (*checkpoint == batch.after) break;  // it had landed
  }
  CHECK(test.resume(*sink) == batch.after);
}

TEST_CASE("a record that would need one more than max_topics is to be set aside", "[kafka]") {
  SinkOnMock test;
  test.settings.kafka.max_topics = 1;
  test.settings.kafka.topic = "of.{key}";
  auto sink = test.open();
  test.resume(*sink);
  auto batch = test.maker.next(3);
  batch.records[1].record.key = "second";
  auto obstacles = sink->prepare(batch, {});
  REQUIRE(obstacles);
  REQUIRE(obstacles->size() == 1);
  CHECK(obstacles->front().sequence == Sequence(2));
  CHECK(obstacles->front().for_good);
  CHECK(has(obstacles->front().why, "topic of.second: it would be one more than max_topics = 1"));
}

TEST_CASE("at_least_once what is acknowledged is proven, and the next life goes on behind it", "[kafka]") {
  SinkOnMock test;
  test.settings.kafka.delivery = Delivery::at_least_once;
  auto first = test.maker.next(100), second = test.maker.next(50);
  second.base = first.after;
  {
    auto sink = test.open();
    CHECK(!test.resume(*sink));
    test.commit(*sink, first);
    CHECK(sink->proven({}) == first.after);
    CHECK(!sink->proven({}));
    test.commit(*sink, second);
  }
  CHECK(test.values("penstock.telemetry").size() == 150);
  auto sink = test.open();
  auto checkpoint = test.resume(*sink);
  REQUIRE(checkpoint);
  CHECK(checkpoint->delivered == first.after.delivered);  // of the last batch nobody has told that it was acknowledged
  CHECK(checkpoint->sent == second.after.delivered);
  test.commit(*sink, second);
  CHECK(test.values("penstock.telemetry").size() == 200);
  sink->pause(second.after, {});
  sink = test.open();
  CHECK(test.resume(*sink) == second.after);
}

TEST_CASE("from exactly_once to at_least_once and back nothing is left out", "[kafka]") {
  SinkOnMock test;
  auto first = test.maker.next(10), second = test.maker.next(10);
  second.base = first.after;
  {
    auto sink = test.open();
    test.resume(*sink);
    test.commit(*sink, first);
  }
  test.settings.kafka.delivery = Delivery::at_least_once;
  {
    auto sink = test.open();
    auto checkpoint = test.resume(*sink);
    REQUIRE(checkpoint);
    CHECK(checkpoint->delivered.empty());  // what the one before had proven
    CHECK(checkpoint->sent == first.after.delivered);
    test.commit(*sink, second);
  }
  test.settings.kafka.delivery = Delivery::exactly_once;
  auto sink = test.open();
  auto checkpoint = test.resume(*sink);
  REQUIRE(checkpoint);
  CHECK(checkpoint->delivered == first.after.delivered);
  CHECK(checkpoint->sent == second.after.delivered);
}

TEST_CASE("with a rate limit the next batch is read when what was sent is within it, readers' bytes too", "[kafka]") {
  SinkOnMock test;
  constexpr std::uint64_t kLimit = 1 << 20;
  test.settings.kafka.rate_limit = kLimit;
  test.settings.kafka.properties["compression.codec"] = "none";
  auto sink = test.open();
  test.resume(*sink);
  CHECK(sink->status().sent_bytes > 0);
  CHECK(sink->status().received_bytes > 0);
  sink->pace({});
  test.commit(*sink, test.maker.next(2, 900'000));  // a burst, and more
  const auto sent = sink->status().sent_bytes;
  CHECK(sent > 1'800'000);
  const auto before = test.clock.boottime();
  sink->pace({});
  const auto waited = test.clock.boottime() - before;
  const auto owed = BootTime(sent * 1'000'000 / kLimit) - 1s;
  INFO("waited " << waited.count() << " us, owed " << owed.count() << " us, sent " << sent);
  CHECK(waited <= owed + 50ms);  // for what librdkafka has sent by itself meanwhile
  CHECK(waited >= owed - 10ms);  // for what was sent before the first of the two
}

TEST_CASE("what a transaction has met stays in the status until one succeeds", "[kafka]") {
  SinkOnMock test;
  auto sink = test.open();
  test.resume(*sink);
  test.commit(*sink, test.maker.next(1));
  CHECK(sink->status().error == "");
  auto batch = test.maker.next(1);
  test.cluster->fail_next(MockCluster::Request::produce, {10});
  auto failed = send(*sink, batch);
  REQUIRE(!failed);
  test.resume(*sink);
  CHECK(sink->status().connected);
  CHECK(sink->status().error == failed.error().what);
  test.cluster->set_down(1);
  REQUIRE(!sink->resume({}));
  CHECK(has(sink->status().error, " (the last transaction: " + failed.error().what + ")"));
  test.cluster->set_up(1);
  REQUIRE(wait_until([&] { return sink->resume({}).ok(); }));
  test.commit(*sink, batch);
  CHECK(sink->status().error == "");
}

TEST_CASE("a record that Kafka refuses is named by lane and sequence", "[kafka]") {
  SinkOnMock test;
  auto sink = test.open();
  test.resume(*sink);
  test.commit(*sink, test.maker.next(1));
  auto batch = test.maker.next(1);
  test.cluster->fail_next(MockCluster::Request::produce, {10});
  auto committed = send(*sink, batch);
  REQUIRE(!committed);
  INFO(committed.error().what);
  bool names_record = has(committed.error().what, "lane telemetry, sequence 2 (8 bytes)");
  bool names_checkpoint = has(committed.error().what, "checkpoint: ");  // the two travel to different partitions
  CHECK((names_record || names_checkpoint));
  CHECK(has(committed.error().what, "Message size too large"));
}

TEST_CASE("a refusal for size makes requests smaller first; of the smallest it is for a record", "[kafka]") {
  for (bool set_by_user : {false, true}) {
    SinkOnMock test;
    if (set_by_user) test.settings.kafka.properties["batch.size"] = "4000000";
    auto sink = test.open();
    std::vector<Fault> faults;
    for (int i = 0; i < (set_by_user ? 1 : 4); ++i) {
      test.resume(*sink);
      test.commit(*sink, test.maker.next(1));
      // As nothing is proven, the next checkpoint goes alone.
      test.cluster->fail_next(MockCluster::Request::produce, {0, 10});
      auto committed = send(*sink, test.maker.next(1));
      REQUIRE(!committed);
      INFO(committed.error().what);
      CHECK(has(committed.error().what, "lane telemetry, sequence "));
      faults.push_back(committed.error().fault);
      CHECK(has(committed.error().what, "smaller requests from now on") == (faults.back() == Fault::transient));
    }
    CHECK(faults == (set_by_user ? std::vector{Fault::rejected}
                                 : std::vector{Fault::transient, Fault::transient, Fault::rejected, Fault::rejected}));
  }
}

TEST_CASE("records of many partitions keep their order in each, with gap records between", "[kafka]") {
  SinkOnMock test;
  test.cluster->create_topic("wide", 5);
  test.settings.kafka.topic = "wide";
  test.settings.kafka.key = "{stream}";
  auto sink = test.open();
  test.resume(*sink);
  auto batch = test.maker.next(300);
  for (auto& stored : batch.records) stored.record.stream = std::to_string(stored.sequence.value() % 11);
  auto gaps = test.maker.gap(7);
  batch.gaps = gaps.gaps;
  batch.after = gaps.after;
  test.commit(*sink, batch);
  std::map<std::int32_t, std::vector<std::uint64_t>> seen;
  std::set<std::uint64_t> all;
  auto scanned = scan_topics(
      {test.settings.kafka, {"wide"}, {}, true},
      [&](const SeenRecord& record) {
        REQUIRE(record.name);
        const auto sequence = record.name->sequence.value();
        CHECK(record.value == "record " + std::to_string(sequence));
        CHECK(record.key == std::to_string(sequence % 11));
        seen[record.partition].push_back(sequence);
        all.insert(sequence);
      },
      Patience(10s, {}));
  REQUIRE(scanned);
  CHECK(seen.size() > 1);
  CHECK(all.size() == 300);
  std::size_t count = 0;
  for (const auto& [partition, sequences] : seen) {
    CHECK(std::is_sorted(sequences.begin(), sequences.end()));
    count += sequences.size();
  }
  CHECK(count == 300);
  CHECK(test.values("penstock.gaps").size() == 1);
}

TEST_CASE("of a record that is refused the size of the key is named too when it is large", "[kafka]") {
  SinkOnMock test;
  test.settings.kafka.key = "{agent}/{key}";
  test.settings.kafka.properties["message.max.bytes"] = "5000";
  for (auto [bytes, says] : {std::pair{6'000, "sequence 1 (payload of 8 bytes, key of 6006 bytes): "},
                             std::pair{1'100, "sequence 1 (payload of 4900 bytes, key of 1106 bytes): "},
                             std::pair{1'000, "sequence 1 (4900 bytes): "}}) {
    auto sink = test.open();
    test.resume(*sink);
    BatchMaker maker(test.clock.wall());
    auto batch = maker.next(1, bytes == 6'000 ? 0 : 4'900);
    batch.records[0].record.key.assign(static_cast<std::size_t>(bytes), 'k');
    auto committed = send(*sink, batch);
    REQUIRE(!committed);
    CHECK(committed.error().fault == Fault::rejected);
    INFO(committed.error().what);
    CHECK(has(committed.error().what, says));
  }
}

TEST_CASE("while no broker answers, resume gives up within the transaction timeout and works once they are back",
          "[kafka]") {
  SinkOnMock test;
  test.settings.kafka.transaction_timeout = 1s;
  test.cluster->set_down(1);
  auto sink = test.open();
  auto began = std::chrono::steady_clock::now();
  auto failed = sink->resume({});
  auto took = std::chrono::steady_clock::now() - began;
  REQUIRE(!failed);
  CHECK(failed.error().fault == Fault::transient);
  CHECK(took < 5s);
  CHECK(!sink->status().connected);
  CHECK(!sink->status().error.empty());

  test.cluster->set_up(1);
  auto checkpoint = sink->resume({});
  for (int i = 0; i < 20 && !checkpoint; ++i) checkpoint = sink->resume({});
  REQUIRE(checkpoint);
  test.commit(*sink, test.maker.next(10));
  CHECK(sink->status().producers == 1);  // the same producer went on connecting
}

TEST_CASE("a stop ends a resume and a commit that hang within about a second", "[kafka]") {
  SinkOnMock test;
  test.settings.kafka.transaction_timeout = 60s;
  auto sink = test.open();
  std::thread stopper;
  bool hung = false;
  auto stop_during = [&](const std::string& step, std::stop_source& source) {
    stopper = std::thread([&, step] {
      hung = wait_until([&] { return sink->status().doing == step; });
      source.request_stop();
    });
  };
  SECTION("in resume") {
    test.cluster->set_down(1);
    std::stop_source source;
    stop_during("init_transactions", source);
    auto began = std::chrono::steady_clock::now();
    CHECK(!sink->resume(source.get_token()));
    CHECK(std::chrono::steady_clock::now() - began < 3s);
  }
  SECTION("in the flush of a commit") {
    test.resume(*sink);
    test.commit(*sink, test.maker.next(1));
    test.cluster->set_down(1);
    std::stop_source source;
    stop_during("flush", source);
    auto began = std::chrono::steady_clock::now();
    auto committed = send(*sink, test.maker.next(1), source.get_token());
    CHECK(!committed);
    CHECK(std::chrono::steady_clock::now() - began < 3s);
  }
  SECTION("in commit_transaction itself") {
    test.resume(*sink);
    test.commit(*sink, test.maker.next(1));
    test.cluster->fail_next(MockCluster::Request::end_transaction, std::vector<int>(1000, 51));
    std::stop_source source;
    stop_during("commit_transaction", source);
    auto began = std::chrono::steady_clock::now();
    CHECK(!send(*sink, test.maker.next(1), source.get_token()));
    CHECK(std::chrono::steady_clock::now() - began < 3s);
    test.cluster->fail_next(MockCluster::Request::end_transaction, {});
  }
  stopper.join();
  CHECK(hung);  // the stop came while the sink was in that step
}

TEST_CASE("a batch of 50,000 records goes through a queue that holds less", "[kafka]") {
  SinkOnMock test;
  test.settings.kafka.properties["queue.buffering.max.messages"] = "1000";
  test.settings.kafka.transaction_timeout =
      60s;  // fifty fillings of the queue, under a sanitizer on a busy machine too
  auto sink = test.open();
  test.resume(*sink);
  test.commit(*sink, test.maker.next(50'000));
  CHECK(test.values("penstock.telemetry").size() == 50'000);
}

TEST_CASE("settings that can never work are refused with their name", "[kafka]") {
  SinkOnMock test;
  auto refused = [&](auto change) {
    auto settings = test.settings;
    change(settings.kafka);
    auto sink = KafkaSink::open(settings, BatchMaker::lane_name, test.notes, test.clock);
    if (sink) return std::string("accepted");
    CHECK(sink.error().fault == Fault::rejected);
    return sink.error().what;
  };
  CHECK(has(refused([](auto& kafka) { kafka.topic = "{nope}"; }), "kafka.topic: "));
  CHECK(has(refused([](auto& kafka) { kafka.key = "{"; }), "kafka.key: "));
  CHECK(has(refused([](auto& kafka) { kafka.brokers.clear(); }), "no brokers"));
  CHECK(has(refused([](auto& kafka) { kafka.properties["no.such.thing"] = "1"; }), "no.such.thing"));
  CHECK(has(refused([](auto& kafka) { kafka.properties["compression.codec"] = "rar"; }), "compression.codec"));
  CHECK(has(refused([](auto& kafka) { kafka.properties["transactional.id"] = "x"; }),
            "\"transactional.id\" is set by penstock"));
}

}  // namespace kafka_sink_test
}  // namespace
}  // namespace penstock
