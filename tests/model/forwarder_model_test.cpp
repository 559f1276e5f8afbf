// The exactly-once loop against a destination that loses, delays and refuses, over many lives of the agent.
//
// Every seed is a history of 60 lives over one store: append, commit, forward, die. At its end the faults stop, the
// queue is drained, and the destination must hold each record once, in order. Mutants show that the model can tell.
#include <set>

#include "tests/fakes/faulty_sink.h"
#include "tests/model/forwarder_world.h"

namespace penstock {
namespace {
namespace forwarder_model_test {

constexpr int kLives = 60;

struct Mutant {
  bool asks = true;
  bool settles = true;
  bool looks = true;
};

struct World : ForwarderWorld<FaultyDestination> {
  explicit World(std::uint64_t seed, Mutant which = {}, std::uint64_t capacity = std::uint64_t{4} << 20)
      : ForwarderWorld(
            seed, [which](FaultyDestination& to) { return std::make_unique<FaultySink>(to, which.asks, which.looks); },
            capacity) {
    destination.faults.settles = which.settles;
  }

  void append(std::size_t payload_bytes = 0) {
    ForwarderWorld::append([this] { return happens(poison) ? happens(0.5) ? "poison" : "homeless" : ""; },
                           payload_bytes);
  }

  void misbehave() {
    auto& faults = destination.faults;
    faults.lose_request = tenths(3);
    faults.lose_reply = tenths(3);
    faults.land_late = tenths(3);
    faults.refuse = tenths(2);
    faults.fail_resume = tenths(3);
    faults.no_topic = tenths(2) / 2;
    faults.fail_prepare = tenths(1);
    faults.leave_undecided = tenths(3);
  }

  /// Appends and forwards in random order.
  void live(std::size_t payload_bytes = 0) {
    misbehave();
    for (std::uint64_t n = pick(1, 12); n > 0; --n) {
      if (happens(0.4))
        append(payload_bytes);
      else
        step();
    }
  }

  double poison = 0;  // the part of the records that the destination refuses for good
};

/// Each (epoch, lane, sequence) once, and rising within a partition; nothing that a gap record says is lost is there as a record.
/// Empty when it holds, else what does not.
std::string broken_promise(const FaultyDestination& destination) {
  std::map<std::tuple<Epoch, Lane, std::size_t>, Sequence> last;
  std::set<std::tuple<Epoch, Lane, std::uint64_t>> seen;
  for (const auto& stored : destination.records()) {
    auto text = "lane " + std::to_string(number(stored.lane)) + " sequence " + std::to_string(stored.sequence.value());
    if (!seen.emplace(stored.epoch, stored.lane, stored.sequence.value()).second) return "twice: " + text;
    auto& before = last[{stored.epoch, stored.lane, FaultyDestination::partition_of(stored)}];
    if (stored.sequence < before) return "out of order: " + text;
    before = stored.sequence;
  }
  for (const auto& gap : destination.gaps())
    for (auto n = gap.first; n <= gap.last && n > Sequence(); n = n.next())
      if (!seen.emplace(gap.epoch, gap.lane, n.value()).second)
        return "both sent and given up, or given up twice: sequence " + std::to_string(n.value());
  return {};
}

/// Additionally nothing is missing: sent and given up together are 1..last in each lane.
std::string lost(const FaultyDestination& destination, const Store& store) {
  std::map<Lane, std::uint64_t> accounted;
  for (const auto& stored : destination.records()) ++accounted[stored.lane];
  for (const auto& gap : destination.gaps()) accounted[gap.lane] += gap.count;
  for (const auto& lane : store.status().lanes)
    if (accounted[lane.lane] != lane.last.value())
      return "lane " + lane.name + ": " + std::to_string(lane.last.value()) + " numbered, " +
             std::to_string(accounted[lane.lane]) + " accounted for";
  return {};
}

/// One whole history; what it says is empty when the promise held.
std::string history_of(std::uint64_t seed, Mutant mutant) {
  World world(seed, mutant);
  for (int life = 0; life < kLives; ++life) {
    world.live();
    world.die();
    world.open();
  }
  world.drain();
  if (auto broken = broken_promise(world.destination); !broken.empty()) return broken;
  return lost(world.destination, *world.store);
}

int histories_that_break(int seeds, Mutant mutant) {
  int broken = 0;
  for (int seed = 1; seed <= seeds; ++seed)
    broken += history_of(static_cast<std::uint64_t>(seed), mutant).empty() ? 0 : 1;
  return broken;
}

TEST_CASE("every record arrives once and in order whatever the destination and kill -9 do", "[model]") {
  Quiet quiet;
  for (int seed = 1; seed <= seeds_wanted(300); ++seed) {
    INFO("seed " << seed);
    REQUIRE(history_of(static_cast<std::uint64_t>(seed), {}) == "");
  }
}

TEST_CASE("the model notices a sink that tries again without asking", "[model]") {
  Quiet quiet;
  CHECK(histories_that_break(10, {.asks = false}) > 0);
}

TEST_CASE("the model notices a resume that does not settle what was in doubt", "[model]") {
  Quiet quiet;
  CHECK(histories_that_break(10, {.settles = false}) > 0);
}

TEST_CASE("the model notices a sink that takes every word of success for proof", "[model]") {
  Quiet quiet;
  CHECK(histories_that_break(10, {.looks = false}) > 0);
}

TEST_CASE("what a full store gives up is accounted for by gap records", "[model]") {
  Quiet quiet;
  std::uint64_t given_up = 0;
  for (int seed = 1; seed <= seeds_wanted(20); ++seed) {
    INFO("seed " << seed);
    World world(static_cast<std::uint64_t>(seed), {}, std::uint64_t{1} << 20);
    for (int life = 0; life < kLives; ++life) {
      world.live(3000);
      for (int more = life % 10; more > 3; --more) world.append(3000);
      world.die();
      world.open();
    }
    world.drain();
    REQUIRE(broken_promise(world.destination) == "");
    REQUIRE(lost(world.destination, *world.store) == "");
    for (const auto& gap : world.destination.gaps()) given_up += gap.count;
  }
  CHECK(given_up > 0);  // the store was full in this test
}

TEST_CASE("what the destination refuses for good is set aside, told, and holds up nothing", "[model]") {
  Quiet quiet;
  std::uint64_t told = 0;
  for (int seed = 1; seed <= seeds_wanted(60); ++seed) {
    INFO("seed " << seed);
    World world(static_cast<std::uint64_t>(seed), {}, std::uint64_t{16} << 20);
    world.poison = 0.02;
    for (int life = 0; life < kLives; ++life) {
      world.live();
      world.die();
      world.open();
    }
    world.drain();
    REQUIRE(broken_promise(world.destination) == "");
    REQUIRE(lost(world.destination, *world.store) == "");
    auto taken = [](const StoredRecord& stored) {
      return !FaultyDestination::is_poison(stored) && !FaultyDestination::is_homeless(stored);
    };
    for (const auto& stored : world.destination.records()) REQUIRE(taken(stored));
    auto letters = world.store->dead_letters({}, {});
    REQUIRE(letters);
    std::uint64_t gaps = 0;
    for (const auto& gap : world.destination.gaps()) gaps += gap.cause == Cause::dead_letter ? gap.count : 0;
    for (const auto& letter : *letters) REQUIRE_FALSE(taken(letter.stored));
    REQUIRE(letters->size() == gaps);
    told += gaps;
  }
  CHECK(told > 0);
}

TEST_CASE("copies of a store never use one name for two records, and lose none", "[model]") {
  namespace fs = std::filesystem;
  Quiet quiet;
  for (int seed = 1; seed <= seeds_wanted(100); ++seed) {
    INFO("seed " << seed);
    World world(static_cast<std::uint64_t>(seed));
    auto live = world.settings.directory, backup = world.folder.path() / "backup";
    for (int life = 0; life < kLives / 2; ++life) {
      world.live();
      world.die();
      if (world.happens(0.15)) {  // a backup is taken
        fs::remove_all(backup);
        fs::copy(live, backup, fs::copy_options::recursive);
      } else if (world.happens(0.15) && fs::exists(backup)) {  // and restored, or the two copies change places
        auto other = world.folder.path() / "other";
        fs::rename(live, other);
        fs::copy(backup, live, fs::copy_options::recursive);
        fs::remove_all(world.happens(0.5) ? backup : other);
        if (fs::exists(other)) fs::rename(other, backup);
      }
      world.open();
    }
    // What the store that is left holds undelivered now must arrive, whoever wrote to the destination last.
    std::set<std::string> owed;
    auto left = world.store->read({});
    REQUIRE(left.ok());
    for (const auto& stored : left->records) owed.insert(stored.record.payload);
    world.drain();

    REQUIRE(broken_promise(world.destination) == "");
    for (const auto& stored : world.destination.records()) owed.erase(stored.record.payload);
    REQUIRE(owed.empty());
  }
}

}  // namespace forwarder_model_test
}  // namespace
}  // namespace penstock
