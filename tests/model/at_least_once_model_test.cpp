// The same loop against a destination without transactions: what a reader has who skips repeats (docs/consumers.md) is each
// record once, whatever fails; and a copy of a store never makes two records one for him.
#include <map>
#include <set>

#include "tests/fakes/acknowledging_sink.h"
#include "tests/model/forwarder_world.h"

namespace penstock {
namespace {
namespace at_least_once_model_test {

constexpr int kLives = 40;

struct World : ForwarderWorld<AcknowledgingDestination> {
  explicit World(std::uint64_t seed)
      : ForwarderWorld(
            seed, [](AcknowledgingDestination& to) { return std::make_unique<AcknowledgingSink>(to); },
            std::uint64_t{16} << 20) {}

  void live() {
    auto& faults = destination.faults;
    faults.fail = tenths(4);
    faults.lose_reply = tenths(3);
    faults.land_late = copied ? 0 : tenths(3);
    faults.lose_checkpoint = copied ? 0 : 0.2;
    faults.fail_resume = tenths(3);
    for (std::uint64_t n = pick(1, 12); n > 0; --n) {
      if (copied && happens(0.02)) back_up();
      if (happens(0.4))
        append([this] { return happens(poison) ? "poison" : ""; });
      else
        step();
    }
  }
  void drain() {
    ForwarderWorld::drain();
    destination.settle();
  }

  double poison = 0;
  // Copies of the store come and go; then nothing is under way when one does, nor was its checkpoint lost: that could not be
  // told from anything else.
  bool copied = false;
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
