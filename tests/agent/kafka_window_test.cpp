#include "agent/kafka/window.h"

#include "agent/kafka/partitioner.h"
#include "tests/catch.h"

namespace penstock {
namespace {
namespace kafka_window_test {

const TopicPartition kZero{"plant", 0}, kOne{"plant", 1}, kOwn{"penstock.checkpoints", 5};

Checkpoint upto(std::uint64_t sequence) {
  Checkpoint checkpoint;
  checkpoint.delivered["telemetry"] = Sequence(sequence);
  checkpoint.ledger = sequence / 10;
  return checkpoint;
}

TEST_CASE("a note names where the next transaction will write and where what is unproven lies", "[kafka]") {
  Window window;
  window.begin({});
  window.clean(kZero, 100);
  window.clean(kOne, 200);
  CHECK_FALSE(window.unproven());
  CHECK(window.note(upto(10), {kZero}) == WindowNote{upto(10).delivered, 1, {{kZero, 100}}});
  window.committed(upto(20), false, {{kZero, 119}, {kOwn, 7}});
  CHECK(window.unproven());
  CHECK(window.note(upto(10), {kOne}).since == Offsets{{kZero, 100}, {kOne, 200}});
  window.committed(upto(30), false, {{kZero, 139}, {kOne, 209}, {kOwn, 9}});
  CHECK(window.asked() == std::vector<TopicPartition>{kOwn, kZero, kOne});

  // The first is proven; the second is not while one of its partitions is undecided, that of the checkpoints too.
  CHECK(window.prove({{kZero, 119}, {kOwn, 8}}) == std::nullopt);
  CHECK(window.prove({{kZero, 121}, {kOwn, 8}}) == upto(20));
  CHECK(window.prove({{kZero, 121}, {kOwn, 8}}) == std::nullopt);
  CHECK(window.note(upto(20), {}).since == Offsets{{kZero, 120}, {kOne, 200}});
  CHECK(window.prove({{kZero, 150}, {kOne, 210}}) == std::nullopt);
  CHECK(window.prove({{kZero, 150}, {kOne, 209}, {kOwn, 20}}) == std::nullopt);
  CHECK(window.prove({{kZero, 150}, {kOne, 210}, {kOwn, 20}}) == upto(30));
  CHECK_FALSE(window.unproven());
  CHECK(window.note(upto(30), {kZero}).since == Offsets{{kZero, 140}});
}

TEST_CASE("islands of earlier transactions are named until there is proof of all up to the last one", "[kafka]") {
  Window window;
  window.begin({{kZero, 50}});
  window.clean(kZero, 100);
  window.clean(kOne, 0);
  CHECK(window.note(upto(10), {kZero, kOne}).since == Offsets{{kZero, 50}, {kOne, 0}});
  window.committed(upto(20), true, {{kZero, 110}});
  CHECK(window.prove({{kZero, 111}}) == upto(20));
  CHECK(window.note(upto(20), {}).since == Offsets{{kZero, 50}});
  window.committed(upto(30), false, {{kZero, 120}});
  CHECK(window.prove({{kZero, 121}}) == upto(30));
  CHECK(window.note(upto(30), {}).since.empty());
}

TEST_CASE("while nothing can be proven the window stays small, and nothing is forgotten", "[kafka]") {
  Window window;
  window.begin({});
  window.clean(kZero, 0);
  for (std::uint64_t n = 1; n <= 1'000; ++n) {
    window.committed(upto(n), false, {{kZero, static_cast<std::int64_t>(2 * n)}});
  }
  CHECK(window.note({}, {}).since == Offsets{{kZero, 0}});
  CHECK(window.prove({{kZero, 2'000}}) == upto(63));  // those after it are one by now
  CHECK(window.prove({{kZero, 2'001}}) == upto(1'000));
}

TEST_CASE("a key goes to the partition that Java's clients choose, and an empty one anywhere", "[kafka]") {
  // Of Kafka's own tests (org.apache.kafka.common.utils.UtilsTest, murmur2): "21" -> -973932308, "foobar" -> -790332482,
  // "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8" -> -58897971; toPositive and modulo give the partition.
  auto partitioner = Partitioner::make({});
  REQUIRE(partitioner);
  auto positive = [](std::int32_t hash) { return hash & 0x7fffffff; };
  CHECK(partitioner->choose("21", 1'000) == positive(-973932308) % 1'000);
  CHECK(partitioner->choose("foobar", 7) == positive(-790332482) % 7);
  CHECK(partitioner->choose("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 16) == positive(-58897971) % 16);
  std::vector<int> hits(3);
  for (int i = 0; i < 300; ++i) ++hits[static_cast<std::size_t>(partitioner->choose("", 3))];
  for (int hit : hits) CHECK(hit > 30);
}

TEST_CASE("a partitioner is chosen by its librdkafka name, and an unknown one is refused by it", "[kafka]") {
  KafkaSettings kafka;
  for (const char* name :
       {"random", "consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random"}) {
    kafka.properties["partitioner"] = name;
    auto partitioner = Partitioner::make(kafka);
    REQUIRE(partitioner);
    for (const char* key : {"", "a", "boiler"}) {
      auto chosen = partitioner->choose(key, 5);
      CHECK((chosen >= 0 && chosen < 5));
      if (std::string(name) != "random" && *key != '\0') CHECK(partitioner->choose(key, 5) == chosen);
    }
  }
  kafka.properties["partitioner"] = "murmur3";
  auto refused = Partitioner::make(kafka);
  REQUIRE(!refused);
  CHECK(refused.error().what.find("\"murmur3\"") != std::string::npos);
}

}  // namespace kafka_window_test
}  // namespace
}  // namespace penstock
