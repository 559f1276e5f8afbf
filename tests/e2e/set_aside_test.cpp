// A store, the forwarder and the sink on a real Kafka that refuses a record for good.
#include <algorithm>

#include "agent/forward/forwarder.h"
#include "tests/e2e/kafka_admin.h"
#include "tests/e2e/sink_bench.h"
#include "tests/fakes/temp_dir.h"
#include "tests/skip.h"

namespace penstock {
namespace {
namespace set_aside_test {

using namespace e2e;

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

  KafkaAdmin(bench.settings).configure("of.aside", "max.message.bytes", "4000000");
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

}  // namespace set_aside_test
}  // namespace
}  // namespace penstock
