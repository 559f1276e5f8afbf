// What the lanes' settings promise: shares of the disk and of a batch, and how long a record may wait.
#include <algorithm>

#include "tests/buffer/store_fixture.h"

namespace penstock {
namespace {
namespace store_lanes_test {

using namespace std::chrono_literals;
using Causes = std::vector<std::pair<Cause, std::uint64_t>>;

class Lanes : public StoreFixture {
 public:
  void put_at(std::size_t count, const std::string& lane = "telemetry", TimeSource source = TimeSource::ours) {
    Group g = group({}, lane);
    for (std::size_t i = 0; i < count; ++i) {
      auto& one = g.records.emplace_back(record(payload(++put_)));
      one.time = clock.wall();
      one.boottime = clock.boottime();
      one.synchronised = clock.synchronised();
      one.time_source = source;
    }
    commit({g});
  }
  /// As the writer does when it idles.
  void idle() {
    for (int i = 0; i < 50 && store->wants_commit(); ++i) commit();
    if (store->wants_commit()) FAIL("it never comes to rest");
  }
  /// From LMDB, not from the journal.
  void seal() { reopen(); }
  Causes given_up() { return store->status().given_up; }
  /// 20 KB that nothing can shrink; five pages and a bit.
  void put_noise(const std::string& lane) {
    Group g = group({}, lane);
    for (int i = 0; i < 20; ++i) {
      std::string noise;
      while (noise.size() < 1'000) noise += static_cast<char>((seed_ = seed_ * 1'664'525 + 1'013'904'223) >> 24);
      g.records.push_back(record(noise));
    }
    commit({g});
  }

 private:
  std::uint64_t put_ = 0;
  std::uint32_t seed_ = 1;
};

TEST_CASE("what waits longer than max_age is given up as expired, and told", "[store][lanes]") {
  for (bool sealed : {false, true}) {
    Lanes f;
    f.settings.lanes = {{"telemetry", 0, 1h}};
    f.open();
    f.put_at(100);
    if (sealed) f.seal();
    f.clock.tick(50min);
    f.put_at(50);
    if (sealed) f.seal();
    f.idle();
    CHECK(f.given_up().empty());
    f.clock.tick(11min);  // the first hundred are an hour and a minute old
    CHECK(f.store->wants_commit());
    f.idle();
    CHECK(f.given_up() == Causes{{Cause::expired, 100}});
    auto batch = f.read();
    REQUIRE(batch.gaps.size() == 1);
    CHECK(batch.gaps[0].cause == Cause::expired);
    CHECK(batch.gaps[0].last == Sequence(100));
    REQUIRE(batch.records.size() == 50);
    CHECK(batch.records[0].record.payload == f.payload(101));
    f.crash();
    CHECK(f.read().gaps.size() == 1);
    CHECK(f.read().records.size() == 50);
    f.deliver();
    f.idle();
    CHECK(f.read().empty());
  }
}

TEST_CASE("a block goes when its newest record is too old, not its oldest", "[store][lanes]") {
  Lanes f;
  f.settings.lanes = {{"telemetry", 0, 1h}};
  f.open();
  f.put_at(10);
  f.seal();
  f.clock.tick(40min);
  f.put_at(10);
  f.seal();
  f.clock.tick(30min);
  f.idle();
  CHECK(f.read().records.size() + (f.given_up().empty() ? 0 : f.given_up()[0].second) == 20);
  CHECK(f.read().records.back().sequence == Sequence(20));
  f.clock.tick(31min);
  f.idle();
  CHECK(f.read().records.empty());
  CHECK(f.given_up() == Causes{{Cause::expired, 20}});
}

TEST_CASE("a clock that jumps expires nothing", "[store][lanes]") {
  Lanes f;
  f.settings.lanes = {{"telemetry", 0, 1h}};
  f.open();
  f.put_at(10);
  f.clock.set_wall(f.clock.wall() + 24h * 365);
  f.clock.tick(2s);
  f.idle();
  CHECK(f.given_up().empty());
  f.clock.set_wall(WallTime{});
  f.clock.tick(2s);
  f.idle();
  CHECK(f.given_up().empty());
}

TEST_CASE("after a reboot only time that surely passed counts", "[store][lanes]") {
  SECTION("two synchronised clocks are believed") {
    Lanes f;
    f.settings.lanes = {{"telemetry", 0, 1h}};
    f.open();
    f.put_at(10);
    f.clock.tick(2h);
    f.clock.reboot();
    f.reopen();
    f.idle();
    CHECK(f.given_up() == Causes{{Cause::expired, 10}});
  }
  SECTION("a clock that was not synchronised is not, but this boot's own time is") {
    Lanes f;
    f.settings.lanes = {{"telemetry", 0, 1h}};
    f.open();
    f.clock.set_synchronised(false);
    f.put_at(10);
    f.clock.tick(2h);
    f.clock.reboot();
    f.clock.set_synchronised(true);
    f.reopen();
    f.idle();
    CHECK(f.given_up().empty());
    f.clock.tick(61min);
    f.idle();
    CHECK(f.given_up() == Causes{{Cause::expired, 10}});
  }
  SECTION("a device's time is not") {
    Lanes f;
    f.settings.lanes = {{"telemetry", 0, 1h}};
    f.open();
    f.put_at(10, "telemetry", TimeSource::device);
    f.clock.tick(2h);
    f.clock.reboot();
    f.reopen();
    f.idle();
    CHECK(f.given_up().empty());
  }
}

TEST_CASE("each lane has an age of its own, and none means for ever", "[store][lanes]") {
  Lanes f;
  f.settings.lanes = {{"telemetry", 1, 1min}, {"alarms", 0, 2h}, {"logs", 2}};
  f.open();
  for (const char* lane : {"telemetry", "alarms", "logs"}) f.put_at(10, lane);
  f.clock.tick(1h);
  f.idle();
  CHECK(f.given_up() == Causes{{Cause::expired, 10}});
  CHECK(f.lane("telemetry").records + f.read().records.size() >= 20);
  f.clock.tick(24h * 365);
  f.idle();
  CHECK(f.given_up() == Causes{{Cause::expired, 20}});
  auto batch = f.read();
  REQUIRE(batch.records.size() == 10);
  CHECK(f.store->name_of(batch.records[0].lane) == "logs");
}

TEST_CASE("what Kafka has meanwhile is no loss when its block expires", "[store][lanes]") {
  Lanes f;
  f.settings.lanes = {{"telemetry", 0, 1min}};
  f.open();
  f.put_at(30);
  f.seal();
  BatchLimits some;
  some.records = 10;
  f.deliver(some);
  f.clock.tick(1h);
  f.idle();
  CHECK(f.given_up() == Causes{{Cause::expired, 20}});
  CHECK(f.read().gaps.at(0).first == Sequence(11));
}

TEST_CASE("a lane's share is evicted last of all, even at the lowest priority", "[store][lanes]") {
  for (double share : {0.0, 0.25}) {
    Lanes f;
    f.settings.capacity_bytes = 1 << 20;
    f.settings.lanes = {{"telemetry", 5, 0ms, share}, {"alarms", 0}};
    f.open();
    for (int i = 0; i < 6; ++i) f.put_noise("telemetry");  // 120 KB, of 768 KB
    f.seal();
    for (int i = 0; i < 80; ++i) f.put_noise("alarms");
    INFO("share " << share);
    CHECK((f.lane("telemetry").dropped == Sequence()) == (share > 0));
    CHECK(f.lane("alarms").dropped > Sequence());

    // More than its share it may hold while there is room, and gives it back.
    for (int i = 0; i < 60; ++i) f.put_noise("telemetry");
    auto before = f.lane("alarms").dropped;
    for (int i = 0; i < 10; ++i) f.put_noise("telemetry");
    CHECK(f.lane("telemetry").dropped > Sequence());
    CHECK(f.lane("alarms").dropped == before);
  }
}

TEST_CASE("a share counts what was there before the store was opened", "[store][lanes]") {
  Lanes f;
  f.settings.capacity_bytes = 1 << 20;
  f.settings.lanes = {{"telemetry", 5, 0ms, 0.25}, {"alarms", 0}};
  f.open();
  for (int i = 0; i < 20; ++i) f.put_noise("telemetry");
  f.reopen();
  for (int i = 0; i < 60; ++i) f.put_noise("alarms");
  CHECK(f.lane("telemetry").dropped > Sequence());  // what was more than its share
  CHECK(f.lane("telemetry").records > 100);         // and no more than that
}

TEST_CASE("a lane's share of a batch is left to it by the lanes before it", "[store][lanes]") {
  Lanes f;
  f.settings.lanes = {{"alarms", 0}, {"telemetry", 1, 0ms, 0.4}};
  f.open();
  f.put_many(1'000, 100, "alarms");
  f.put_many(1'000, 100, "telemetry");
  BatchLimits limits;
  limits.records = 100;
  auto batch = f.read(limits);
  auto telemetry = std::count_if(batch.records.begin(), batch.records.end(),
                                 [&](const StoredRecord& one) { return f.store->name_of(one.lane) == "telemetry"; });
  CHECK(batch.records.size() == 100);
  CHECK(telemetry == 40);
}

}  // namespace store_lanes_test
}  // namespace
}  // namespace penstock
