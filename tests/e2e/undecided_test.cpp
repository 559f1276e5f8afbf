// Commits that Kafka acknowledges and does not carry out (agent/kafka/kafka_sink.h says when), on three brokers.
#include <optional>

#include "tests/e2e/kafka_admin.h"
#include "tests/e2e/sink_bench.h"
#include "tests/skip.h"

namespace penstock {
namespace {
namespace undecided_test {

using namespace e2e;

/// A cluster whose coordinator outlives the only broker that holds the data.
struct Undecided {
  Undecided() : rig("4", 3) {
    if (rig.why_not) return;
    bench.emplace(rig, "undecided");
    KafkaAdmin admin(bench->settings);
    admin.create_on(3, kCheckpointTopic, 16, "compact");
    admin.create_on(3, "of.undecided", 1, "delete");
  }

  /// Committed by the coordinator's word, while nobody was there to write the markers.
  std::shared_ptr<Producer> commit_without_markers(const Batch& batch) {
    auto producer = bench->write_without_commit(batch);
    rig.kill(3);
    REQUIRE(becomes_true([&] { return !KafkaAdmin(bench->settings).has_leaders("of.undecided"); }));
    auto committed = Producer::commit(producer, bench->patience());
    INFO((committed ? "" : committed.error().what));
    REQUIRE(committed);
    rig.restart(3);
    REQUIRE(becomes_true([&] {
      KafkaAdmin admin(bench->settings);
      return admin.has_leaders("of.undecided") && admin.has_leaders(kCheckpointTopic);
    }));
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

}  // namespace undecided_test
}  // namespace
}  // namespace penstock
