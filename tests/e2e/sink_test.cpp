// The sink on a real Kafka: what the promise "exactly once" rests on, and what the mock cluster cannot show.
#include <chrono>

#include "agent/kafka/checkpoint_reader.h"
#include "tests/e2e/sink_bench.h"
#include "tests/skip.h"

namespace penstock {
namespace {
namespace sink_test {

using namespace e2e;

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
  CheckpointSearch search;
  CheckpointReader checkpoints(bench.settings, reader, search);
  auto too_early = checkpoints.newest(16, checkpoint_partition("order", 16), std::nullopt, bench.patience());
  REQUIRE(too_early);
  bench.commit(*sink, late);
  REQUIRE(*too_early);
  REQUIRE((*too_early)->value);
  CHECK(decode_checkpoint(*(*too_early)->value, "order")->delivered ==
        safe.after.delivered);  // going on from here would double ten records

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
  auto found = bench.resume(*impatient);
  REQUIRE(found);
  CHECK(found->delivered == batch.after.delivered);
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
  auto failed = send(*sink, batch);
  CHECK(!failed);
  CHECK(!sink->status().connected);
  rig.restart(1);

  // As the forwarder does it.
  auto deadline = std::chrono::steady_clock::now() + 60s;
  bool sent = false;
  while (!sent && std::chrono::steady_clock::now() < deadline) {
    auto standing = sink->resume({});
    if (!standing) continue;
    REQUIRE(standing->checkpoint);
    sent = standing->checkpoint->delivered == batch.after.delivered || send(*sink, batch);
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

TEST_CASE("a record larger than its topic takes is named, and nothing is lost", "[e2e]") {
  auto& rig = shared_rig();
  if (rig.why_not) return skip(*rig.why_not);
  Bench bench(rig, "large");
  bench.settings.kafka.properties["compression.codec"] = "none";
  auto sink = bench.open();
  bench.resume(*sink);
  auto small = bench.maker.next(1);
  bench.commit(*sink, small);
  auto refused = send(*sink, bench.maker.next(1, 2'000'000));
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
