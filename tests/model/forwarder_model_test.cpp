// The exactly-once loop against a destination that loses, delays and refuses, over many lives of the agent.
//
// Every seed is a history of 60 lives over one store: append, commit, forward, die. At its end the faults stop, the
// queue is drained, and the destination must hold each record once, in order. Mutants show that the model can tell.
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <set>

#include "agent/forward/forwarder.h"
#include "tests/catch.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/faulty_sink.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace forwarder_model_test {

constexpr int kLives = 60;

int seeds_wanted(int standard) {
  const char* text = std::getenv("PENSTOCK_MODEL_SEEDS");
  return text != nullptr ? std::atoi(text) : standard;
}

struct Mutant {
  bool asks = true;
  bool settles = true;
  bool looks = true;
};

struct World {
  explicit World(std::uint64_t seed, Mutant which = {}, std::uint64_t capacity = std::uint64_t{4} << 20)
      : random(seed), destination(seed ^ 0x9e3779b97f4a7c15), mutant(which) {
    destination.faults.settles = mutant.settles;
    settings.directory = folder.path() / "queue";
    settings.agent = "model";
    settings.capacity_bytes = capacity;
    settings.lanes = {{"telemetry", 1}, {"alarms", 0}};
    open();
  }

  std::uint64_t pick(std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
  }
  bool happens(double probability) { return std::uniform_real_distribution<>(0, 1)(random) < probability; }

  static void must(Result<void> result) {
    if (!result) FAIL(result.error().what);
  }

  void open() {
    auto opened = Store::open(settings, clock);
    if (!opened) FAIL(opened.error().what);
    store = std::move(*opened);
    sink = std::make_unique<FaultySink>(destination, mutant.asks, mutant.looks);
    destination.lane_name = [this](Lane lane) { return store->name_of(lane); };
    Forwarder::Settings forwarding;
    forwarding.limits.records = pick(1, 40);
    forwarding.idle = std::chrono::milliseconds(0);
    forwarder = std::make_unique<Forwarder>(*store, *sink, Forwarder::own_writes(*store), clock, forwarding);
  }

  void die() {
    forwarder.reset();
    sink.reset();
    store.reset();
  }

  void append(std::size_t payload_bytes = 0) {
    Group group;
    group.lane = *store->lane(happens(0.3) ? "alarms" : "telemetry");
    group.driver = "model";
    for (std::uint64_t n = pick(1, 12); n > 0; --n) {
      Record record;
      record.driver = "model";
      record.stream = "s";
      record.payload = std::to_string(++written);
      if (happens(poison)) record.key = happens(0.5) ? "poison" : "homeless";
      while (record.payload.size() < payload_bytes) record.payload += static_cast<char>(pick(0, 255));
      group.records.push_back(std::move(record));
    }
    must(store->commit(std::span(&group, 1)));
  }

  void step() { must(forwarder->step({})); }

  void misbehave() {
    destination.faults.lose_request = static_cast<double>(pick(0, 3)) * 0.1;
    destination.faults.lose_reply = static_cast<double>(pick(0, 3)) * 0.1;
    destination.faults.land_late = static_cast<double>(pick(0, 3)) * 0.1;
    destination.faults.refuse = static_cast<double>(pick(0, 2)) * 0.1;
    destination.faults.fail_resume = static_cast<double>(pick(0, 3)) * 0.1;
    destination.faults.no_topic = static_cast<double>(pick(0, 2)) * 0.05;
    destination.faults.fail_prepare = static_cast<double>(pick(0, 1)) * 0.1;
    destination.faults.leave_undecided = static_cast<double>(pick(0, 3)) * 0.1;
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

  /// Something is not known to have arrived.
  bool undelivered() {
    auto left = store->read({.records = 1});
    if (!left) FAIL(left.error().what);
    return !left->empty();
  }

  /// The faults end; until the queue is empty.
  void drain() {
    bool settles = destination.faults.settles;
    destination.faults = {};
    destination.faults.settles = settles;
    for (int turn = 0; turn < 20'000; ++turn) {
      if (!undelivered()) return;
      step();
    }
    FAIL("the queue does not drain");
  }

  std::mt19937_64 random;
  TempDir folder{"/dev/shm"};
  FakeClock clock;
  StoreSettings settings;
  FaultyDestination destination;
  Mutant mutant;
  std::unique_ptr<Store> store;
  std::unique_ptr<FaultySink> sink;
  std::unique_ptr<Forwarder> forwarder;
  std::uint64_t written = 0;
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

struct Quiet {
  Quiet() { spdlog::set_level(spdlog::level::off); }
  ~Quiet() { spdlog::set_level(before); }
  spdlog::level::level_enum before = spdlog::get_level();
};

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
