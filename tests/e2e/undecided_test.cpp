// Commits that Kafka acknowledges and does not carry out everywhere (agent/kafka/kafka_sink.h says when), on three brokers.
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <optional>
#include <sstream>

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
  explicit Undecided(int broker_of_checkpoints, const std::string& options = "") : rig("4", 3, options) {
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

/// What is logged while this is there.
struct Logged {
  Logged() { spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink)); }
  ~Logged() { spdlog::set_default_logger(before); }
  Logged(const Logged&) = delete;
  Logged& operator=(const Logged&) = delete;

  std::ostringstream text;
  std::shared_ptr<spdlog::sinks::ostream_sink_mt> sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(text);
  std::shared_ptr<spdlog::logger> before = spdlog::default_logger();
};

TEST_CASE("an agent that may not read its topic says so, trusts the checkpoint, and knows once it may", "[e2e]") {
  constexpr const char* kAgent = "User:CN=agent";
  Undecided test(1, "--secure --property allow.everyone.if.no.acl.found=true");
  if (test.rig.why_not) return skip(*test.rig.why_not);
  auto& bench = *test.bench;
  KafkaAdmin admin(bench.settings);
  auto left = bench.maker.next(10);
  test.commit_without_marker(left).reset();
  const auto committed_before = bench.base;

  // Until here nobody was refused anything; this life has a name, and rules that hold for it.
  admin.allow(kAgent, RD_KAFKA_ACL_OPERATION_WRITE, kTopic);
  bench.settings.kafka.brokers = {test.rig.bootstrap_of("mtls")};
  for (const auto& [name, value] : std::map<std::string, std::string>{
           {"security.protocol", "ssl"},
           {"broker.address.family", "v4"},
           {"ssl.ca.location", test.rig.credential("ca.pem")},
           {"ssl.certificate.location", test.rig.credential("agent.crt")},
           {"ssl.key.location", test.rig.credential("agent.key")},
       }) {
    bench.settings.kafka.properties[name] = value;
  }
  {
    Logged logged;
    auto blind = bench.open()->resume({});
    INFO(logged.text.str());
    INFO((blind ? "" : blind.error().what));
    REQUIRE(blind);
    CHECK_THAT(logged.text.str(), Catch::Contains("topic of.undecided: this agent may not read it: what the last "
                                                  "transactions have left there cannot be seen") &&
                                      Catch::Contains("give this agent READ on the topics it writes to"));
    CHECK(blind->landed.empty());
    CHECK(blind->checkpoint == committed_before);
  }

  admin.allow(kAgent, RD_KAFKA_ACL_OPERATION_READ, kTopic);
  auto next_life = bench.open();
  bench.complete(*next_life, {left, bench.maker.next(10)});
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
