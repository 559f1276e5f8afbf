// The same loop against a destination without transactions: what a reader has who skips repeats (docs/consumers.md) is each
// record once, whatever fails; and a copy of a store never makes two records one for him.
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "agent/forward/forwarder.h"
#include "tests/catch.h"
#include "tests/fakes/acknowledging_sink.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace at_least_once_model_test {

constexpr int kLives = 40;

int seeds_wanted(int standard) {
  const char* text = std::getenv("PENSTOCK_MODEL_SEEDS");
  return text != nullptr ? std::atoi(text) : standard;
}

struct World {
  explicit World(std::uint64_t seed) : random(seed), destination(seed ^ 0x9e3779b97f4a7c15) {
    settings.directory = folder.path() / "queue";
    settings.agent = "model";
    settings.capacity_bytes = std::uint64_t{16} << 20;
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
    sink = std::make_unique<AcknowledgingSink>(destination);
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

  void append() {
    Group group;
    group.lane = *store->lane(happens(0.3) ? "alarms" : "telemetry");
    group.driver = "model";
    for (std::uint64_t n = pick(1, 12); n > 0; --n) {
      Record record;
      record.driver = "model";
      record.stream = "s";
      record.payload = std::to_string(++written);
      if (happens(poison)) record.key = "poison";
      group.records.push_back(std::move(record));
    }
    must(store->commit(std::span(&group, 1)));
  }
  void step() { must(forwarder->step({})); }

  void live() {
    destination.faults.fail = static_cast<double>(pick(0, 4)) * 0.1;
    destination.faults.lose_reply = static_cast<double>(pick(0, 3)) * 0.1;
    destination.faults.land_late = copied ? 0 : static_cast<double>(pick(0, 3)) * 0.1;
    destination.faults.lose_checkpoint = copied ? 0 : 0.2;
    destination.faults.fail_resume = static_cast<double>(pick(0, 3)) * 0.1;
    for (std::uint64_t n = pick(1, 12); n > 0; --n) {
      if (copied && happens(0.02)) back_up();
      happens(0.4) ? append() : step();
    }
  }

  /// As an image of the card that is taken while the agent runs, or the state that a disk which lied goes back to.
  void back_up() {
    std::filesystem::remove_all(backup());
    std::filesystem::copy(settings.directory, backup(), std::filesystem::copy_options::recursive);
  }
  void restore() {
    std::filesystem::remove_all(settings.directory);
    std::filesystem::copy(backup(), settings.directory, std::filesystem::copy_options::recursive);
  }
  std::filesystem::path backup() const { return folder.path() / "backup"; }

  void drain() {
    bool says = destination.faults.says_what_was_sent;
    destination.faults = {};
    destination.faults.says_what_was_sent = says;
    for (int turn = 0; turn < 20'000; ++turn) {
      auto left = store->read({.records = 1});
      if (!left) FAIL(left.error().what);
      if (left->empty()) return destination.settle();
      step();
    }
    FAIL("the queue does not drain");
  }

  std::mt19937_64 random;
  TempDir folder{"/dev/shm"};
  FakeClock clock;
  StoreSettings settings;
  AcknowledgingDestination destination;
  std::unique_ptr<Store> store;
  std::unique_ptr<AcknowledgingSink> sink;
  std::unique_ptr<Forwarder> forwarder;
  std::uint64_t written = 0;
  double poison = 0;
  bool copied =
      false;  // copies of the store come and go: then nothing is under way when one does, nor was its checkpoint lost
};

struct Quiet {
  Quiet() { spdlog::set_level(spdlog::level::off); }
  ~Quiet() { spdlog::set_level(before); }
  spdlog::level::level_enum before = spdlog::get_level();
};

TEST_CASE("at_least_once a reader who skips repeats has every record, whatever fails", "[model]") {
  Quiet quiet;
  std::uint64_t repeats = 0;
  for (int seed = 1; seed <= seeds_wanted(60); ++seed) {
    INFO("seed " << seed);
    World world(static_cast<std::uint64_t>(seed));
    world.poison = 0.01;
    for (int life = 0; life < kLives; ++life) {
      world.live();
      world.die();
      world.open();
    }
    world.drain();
    REQUIRE_FALSE(world.destination.is_ambiguous());
    std::map<Lane, std::set<Sequence>> accounted;
    for (const auto& [name, payload] : world.destination.taken())
      accounted[std::get<1>(name)].insert(std::get<2>(name));
    for (const auto& name : world.destination.given_up()) accounted[std::get<1>(name)].insert(std::get<2>(name));
    for (const auto& lane : world.store->status().lanes) REQUIRE(accounted[lane.lane].size() == lane.last.value());
    repeats += world.destination.repeats();
  }
  CHECK(repeats > 0);  // there was something to skip
}

/// Histories over copies of a store in which two records get one name, or one is missing for readers.
int broken_copies(int seeds, bool says_what_was_sent) {
  int broken = 0;
  for (int seed = 1; seed <= seeds; ++seed) {
    World world(static_cast<std::uint64_t>(seed));
    world.copied = true;
    world.destination.faults.says_what_was_sent = says_what_was_sent;
    for (int life = 0; life < kLives / 2; ++life) {
      world.live();
      world.die();
      if (world.happens(0.1)) {
        world.back_up();
      } else if (world.happens(0.2) && std::filesystem::exists(world.backup())) {
        world.restore();
      }
      world.open();
    }
    std::set<std::string> owed;
    auto left = world.store->read({});
    REQUIRE(left.ok());
    for (const auto& stored : left->records) owed.insert(stored.record.payload);
    world.drain();
    for (const auto& [name, payload] : world.destination.taken()) owed.erase(payload);
    broken += world.destination.is_ambiguous() || !owed.empty() ? 1 : 0;
  }
  return broken;
}

TEST_CASE("at_least_once copies of a store never use one name for two records", "[model]") {
  Quiet quiet;
  CHECK(broken_copies(seeds_wanted(40), true) == 0);
}

TEST_CASE("the model notices checkpoints that do not say what was sent", "[model]") {
  Quiet quiet;
  CHECK(broken_copies(20, false) > 0);
}

}  // namespace at_least_once_model_test
}  // namespace
}  // namespace penstock
