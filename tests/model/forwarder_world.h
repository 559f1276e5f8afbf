// One store and the forwarder over it, in many lives, against a destination that misbehaves: what the models of the loop share.
#pragma once

#include <spdlog/spdlog.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "agent/forward/forwarder.h"
#include "tests/catch.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {

inline int seeds_wanted(int standard) {
  const char* text = std::getenv("PENSTOCK_MODEL_SEEDS");
  return text != nullptr ? std::atoi(text) : standard;
}

struct Quiet {
  Quiet() { spdlog::set_level(spdlog::level::off); }
  ~Quiet() { spdlog::set_level(before); }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
  spdlog::level::level_enum before = spdlog::get_level();
};

template <class Destination>
class ForwarderWorld {
 public:
  using MakeSink = std::function<std::unique_ptr<Sink>(Destination&)>;

  ForwarderWorld(std::uint64_t seed, MakeSink make_sink, std::uint64_t capacity)
      : random(seed), destination(seed ^ 0x9e3779b97f4a7c15), make_sink_(std::move(make_sink)) {
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
  /// One of 0, 1, ... most tenths.
  double tenths(std::uint64_t most) { return static_cast<double>(pick(0, most)) * 0.1; }

  static void must(Result<void> result) {
    if (!result) FAIL(result.error().what);
  }

  void open() {
    auto opened = Store::open(settings, clock);
    if (!opened) FAIL(opened.error().what);
    store = std::move(*opened);
    sink_ = make_sink_(destination);
    if constexpr (requires { destination.lane_name; }) {
      destination.lane_name = [this](Lane lane) { return store->name_of(lane); };
    }
    Forwarder::Settings forwarding;
    forwarding.limits.records = pick(1, 40);
    forwarding.idle = std::chrono::milliseconds(0);
    forwarder_ = std::make_unique<Forwarder>(*store, *sink_, Forwarder::own_writes(*store), clock, forwarding);
  }
  void die() {
    forwarder_.reset();
    sink_.reset();
    store.reset();
  }

  /// A dozen records at most, numbered in their payloads, with `key_of()` as key.
  void append(const std::function<std::string()>& key_of, std::size_t payload_bytes = 0) {
    Group group;
    group.lane = *store->lane(happens(0.3) ? "alarms" : "telemetry");
    group.driver = "model";
    for (std::uint64_t n = pick(1, 12); n > 0; --n) {
      Record record;
      record.driver = "model";
      record.stream = "s";
      record.payload = std::to_string(++written);
      record.key = key_of();
      while (record.payload.size() < payload_bytes) record.payload += static_cast<char>(pick(0, 255));
      group.records.push_back(std::move(record));
    }
    must(store->commit(std::span(&group, 1)));
  }
  void step() { must(forwarder_->step({})); }

  /// Something is not known to have arrived.
  bool undelivered() {
    auto left = store->read({.records = 1});
    if (!left) FAIL(left.error().what);
    return !left->empty();
  }
  /// The faults end; until the queue is empty.
  void drain() {
    destination.calm();
    for (int turn = 0; turn < 20'000; ++turn) {
      if (!undelivered()) return;
      step();
    }
    FAIL("the queue does not drain");
  }

  std::filesystem::path backup() const { return folder.path() / "backup"; }
  /// Also while it is open: an image of the card that is taken meanwhile, or the state that a disk which lied goes back to.
  void back_up() {
    std::filesystem::remove_all(backup());
    std::filesystem::copy(settings.directory, backup(), std::filesystem::copy_options::recursive);
  }
  void restore() {
    std::filesystem::remove_all(settings.directory);
    std::filesystem::copy(backup(), settings.directory, std::filesystem::copy_options::recursive);
  }

  std::mt19937_64 random;
  TempDir folder{"/dev/shm"};
  FakeClock clock;
  StoreSettings settings;
  Destination destination;
  std::unique_ptr<Store> store;
  std::uint64_t written = 0;

 private:
  const MakeSink make_sink_;
  std::unique_ptr<Sink> sink_;
  std::unique_ptr<Forwarder> forwarder_;
};

}  // namespace penstock
