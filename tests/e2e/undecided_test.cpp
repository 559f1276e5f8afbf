// Commits that Kafka acknowledges and does not carry out everywhere (agent/kafka/kafka_sink.h says when), on three brokers.
#include <optional>

#include "tests/e2e/kafka_admin.h"
#include "tests/e2e/sink_bench.h"
#include "tests/skip.h"

namespace penstock {
namespace {
namespace undecided_test {

using namespace e2e;

constexpr const char* kTopic = "of.undecided";

/// A cluster whose coordinator outlives broker 3, which alone holds partition 1 of the topic; partition 0 is on broker 2.
/// Ten records are there for good.
struct Undecided {
  explicit Undecided(int broker_of_checkpoints) : rig("4", 3) {
    if (rig.why_not) return;
    bench.emplace(rig, "undecided");
    KafkaAdmin admin(bench->settings);
    admin.create_on(std::vector<int>(16, broker_of_checkpoints), kCheckpointTopic, "compact");
    admin.create_on({2, 3}, kTopic, "delete");
    auto sink = bench->open();
    CHECK(!bench->resume(*sink));
    auto first = bench->maker.next(10);
    bench->commit(*sink, first);
    REQUIRE(becomes_true([&] { return sink->proven({}) == first.after; }));
  }

  void lose_broker() {
    rig.kill(3);
    REQUIRE(becomes_true([&] { return !KafkaAdmin(bench->settings).has_leaders(kTopic); }));
  }
  void broker_returns() {
    rig.restart(3);
    REQUIRE(becomes_true([&] {
      KafkaAdmin admin(bench->settings);
      return admin.has_leaders(kTopic) && admin.has_leaders(kCheckpointTopic);
    }));
  }

  /// Committed by the coordinator's word, while nobody was there to write the marker of broker 3.
  std::shared_ptr<Producer> commit_without_marker(const Batch& batch) {
    auto producer = bench->start();
    REQUIRE(bench->write(*producer, batch).size() == 2);
    lose_broker();
    auto committed = Producer::commit(producer, bench->patience());
    INFO((committed ? "" : committed.error().what));
    REQUIRE(committed);
    bench->window.committed(batch.after, false, producer->written());
    broker_returns();
    return producer;
  }

  /// How many records consumers see; those of partition 1 wait behind what is undecided there.
  bool proven(const Producer& producer) {
    return bench->window.prove(producer.stable(bench->window.asked(), 1s)).has_value();
  }

  KafkaRig rig;
  std::optional<Bench> bench;
};

TEST_CASE("a commit that Kafka acknowledged and carried out on one of two partitions is completed by the next life",
          "[e2e]") {
  Undecided test(1);
  if (test.rig.why_not) return skip(*test.rig.why_not);
  auto& bench = *test.bench;
  auto left = bench.maker.next(10);
  auto life = test.commit_without_marker(left);
  CHECK(!test.proven(*life));  // no proof, though the commit succeeded
  CHECK(bench.seen(false).size() == 20);

  auto next_life = bench.open();
  auto standing = next_life->resume({});
  INFO((standing ? "" : standing.error().what));
  REQUIRE(standing);
  CHECK(!standing->landed.empty());  // on the partition that was decided
  CHECK(at(standing->checkpoint->delivered, "telemetry") < bench.maker.last());
  bench.complete(*next_life, {left, bench.maker.next(10)});
  CHECK(becomes_true([&] { return next_life->proven({}).has_value(); }));
  CHECK(bench.exactly_once(30));
  CHECK(bench.proof().holds());
}

TEST_CASE("a commit that Kafka acknowledged and took back on one of two partitions is known by asking", "[e2e]") {
  Undecided test(1);
  if (test.rig.why_not) return skip(*test.rig.why_not);
  auto& bench = *test.bench;
  auto left = bench.maker.next(10);
  auto life = test.commit_without_marker(left);
  auto next = bench.maker.next(10);
  bench.write(*life, next);  // the same life begins another transaction...
  life.reset();              // ...and dies: it is aborted, and takes the rest of the first one with it

  auto next_life = bench.open();
  bench.complete(*next_life, {left, next});
  CHECK(bench.exactly_once(30));
  CHECK(bench.proof().holds());
}

TEST_CASE("a commit of which the checkpoint itself was left undecided is completed by the next life", "[e2e]") {
  Undecided test(3);
  if (test.rig.why_not) return skip(*test.rig.why_not);
  auto& bench = *test.bench;
  auto left = bench.maker.next(10);
  test.commit_without_marker(left).reset();
  auto next_life = bench.open();
  bench.complete(*next_life, {left, bench.maker.next(10)});
  CHECK(bench.exactly_once(30));
  CHECK(bench.proof().holds());
}

TEST_CASE("what a life wrote before its checkpoint, and Kafka forgot to take back, never becomes visible", "[e2e]") {
  Undecided test(1);
  if (test.rig.why_not) return skip(*test.rig.why_not);
  auto& bench = *test.bench;
  auto next = bench.maker.next(10);
  auto life = bench.start();
  bench.write(*life, next, false);
  life.reset();
  test.lose_broker();
  bench.start().reset();  // ends the transaction of the life before, but on broker 3
  test.broker_returns();

  auto next_life = bench.open();
  bench.complete(*next_life, {next});
  CHECK(bench.exactly_once(20));
  CHECK(bench.seen(false)[bench.maker.last().value()] == 2);  // it lies there twice, and once for consumers
}

}  // namespace undecided_test
}  // namespace
}  // namespace penstock
