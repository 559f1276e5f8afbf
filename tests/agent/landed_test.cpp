#include "agent/forward/landed.h"

#include <random>

#include "tests/catch.h"

namespace penstock {
namespace {
namespace landed_test {

const Epoch kEpoch = draw<Epoch>();
constexpr Lane kLane{0};

std::string telemetry(Lane) { return "telemetry"; }

StoredRecord record(std::uint64_t sequence) {
  StoredRecord stored;
  stored.lane = kLane;
  stored.epoch = kEpoch;
  stored.sequence = Sequence(sequence);
  return stored;
}

Gap gap(std::uint64_t first, std::uint64_t last) {
  Gap gap{1, kLane, kEpoch, Sequence(first), Sequence(last), last - first + 1};
  return gap;
}

TEST_CASE("what has landed is taken out of a batch, and nothing else", "[landed]") {
  Landed landed;
  CHECK(landed.empty());
  for (std::uint64_t sequence : {3, 4, 7}) landed.add(kEpoch, "telemetry", Sequence(sequence), Sequence(sequence));
  landed.add(draw<Epoch>(), "telemetry", Sequence(5), Sequence(5));
  landed.add(kEpoch, "alarms", Sequence(6), Sequence(6));
  Batch batch;
  for (std::uint64_t sequence = 1; sequence <= 8; ++sequence) batch.records.push_back(record(sequence));
  batch.after.delivered["telemetry"] = Sequence(8);
  landed.strike(batch, telemetry);
  std::vector<std::uint64_t> left;
  for (const auto& stored : batch.records) left.push_back(stored.sequence.value());
  CHECK(left == std::vector<std::uint64_t>{1, 2, 5, 6, 8});
  CHECK(batch.after.delivered["telemetry"] == Sequence(8));
}

TEST_CASE("of a gap is left what has not landed, in as many parts as it takes", "[landed]") {
  Landed landed;
  landed.add(kEpoch, "telemetry", Sequence(10), Sequence(12));
  landed.add(kEpoch, "telemetry", Sequence(15), Sequence(15));
  landed.add(kEpoch, "telemetry", Sequence(20), Sequence(99));
  landed.add_count(kEpoch, 7);
  Batch batch;
  batch.gaps = {gap(11, 30), gap(40, 50), gap(100, 101)};
  for (std::uint64_t entry : {7, 8}) batch.gaps.push_back({entry, kLane, kEpoch, {}, {}, 5});
  landed.strike(batch, telemetry);
  REQUIRE(batch.gaps.size() == 4);
  auto is = [&](std::size_t i, std::uint64_t first, std::uint64_t last) {
    const auto& part = batch.gaps[i];
    return part.first == Sequence(first) && part.last == Sequence(last) && part.count == last - first + 1;
  };
  CHECK(is(0, 13, 14));
  CHECK(is(1, 16, 19));
  CHECK(is(2, 100, 101));
  CHECK(batch.gaps[3].entry == 8);
}

TEST_CASE("ranges that are added in any order say of each number whether it is there", "[landed]") {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    INFO("seed " << seed);
    std::mt19937 random(seed);
    auto pick = [&](std::uint64_t low, std::uint64_t high) {
      return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
    };
    Landed landed;
    std::vector<bool> there(66);
    for (int n = 0; n < 20; ++n) {
      auto first = pick(1, 64), last = std::min<std::uint64_t>(first + pick(0, 4), 64);
      landed.add(kEpoch, "telemetry", Sequence(first), Sequence(last));
      for (auto i = first; i <= last; ++i) there[i] = true;
      for (std::uint64_t i = 0; i < there.size(); ++i) {
        REQUIRE(landed.has(kEpoch, "telemetry", Sequence(i)) == there[i]);
      }
    }
    auto from = pick(0, 64), most = pick(from, 64), reached = from;
    while (reached < most && there[reached + 1]) ++reached;
    REQUIRE(landed.reaches(kEpoch, "telemetry", Sequence(from), Sequence(most)) == Sequence(reached));
  }
}

TEST_CASE("what belongs to another history of the store is forgotten", "[landed]") {
  const Epoch later = draw<Epoch>(), strange = draw<Epoch>();
  History ours;
  ours.epochs = {{kEpoch, {}, {}}, {later, {{"telemetry", Sequence(50)}}, {}}};
  ours.last = {{"telemetry", Sequence(80)}};
  Landed landed;
  landed.add(kEpoch, "telemetry", Sequence(40), Sequence(44));
  landed.add(kEpoch, "telemetry", Sequence(60), Sequence(60));  // 60 is of the later epoch here
  landed.add(later, "telemetry", Sequence(70), Sequence(70));
  landed.add(later, "telemetry", Sequence(81), Sequence(90));
  landed.add(strange, "telemetry", Sequence(41), Sequence(41));
  landed.add(strange, "alarms", Sequence(1), Sequence(1));
  landed.add_count(strange, 3);
  landed.keep(ours);
  CHECK(landed.has(kEpoch, "telemetry", Sequence(44)));
  CHECK(landed.has(later, "telemetry", Sequence(70)));
  Checkpoint after;
  after.delivered = {{"telemetry", Sequence(69)}};
  CHECK(landed.beyond(after));
  after.delivered = {{"telemetry", Sequence(70)}};
  CHECK_FALSE(landed.beyond(after));
  landed.add_count(kEpoch, 3);
  CHECK(landed.beyond(after));
}

}  // namespace landed_test
}  // namespace
}  // namespace penstock
