#include <algorithm>
#include <fstream>

#include "tests/buffer/store_fixture.h"

namespace penstock {
namespace {
namespace store_full_test {

/// Bytes that do not compress, so that a small store is soon full.
std::string noise(std::size_t bytes, std::uint32_t seed) {
  std::string text;
  seed = seed * 2'654'435'761u + 1;
  for (std::size_t i = 0; i < bytes; ++i) text += static_cast<char>((seed = seed * 1'664'525 + 1'013'904'223) >> 24);
  return text;
}

/// Of the file, what this process has mapped and touched (proc_pid_smaps(5)).
std::uint64_t resident_kib(const std::filesystem::path& file) {
  std::ifstream maps("/proc/self/smaps");
  std::string line;
  while (std::getline(maps, line) && !line.ends_with(file.string())) {
  }
  while (std::getline(maps, line) && line.rfind("Rss:", 0) != 0) {
  }
  if (!maps) FAIL(file.string() + " is not mapped");
  return std::stoull(line.substr(4));
}

class SmallStore : public StoreFixture {
 public:
  explicit SmallStore(WhenFull when_full) {
    settings.capacity_bytes = 1 << 20;
    settings.when_full = when_full;
  }
  /// 20 KB that nothing can shrink; five pages and a bit.
  Result<void> put_noise(std::string lane = "telemetry") {
    Group g = group({}, std::move(lane));
    for (int i = 0; i < 20; ++i) g.records.push_back(record(noise(1'000, ++seed_)));
    return store->commit(std::span<const Group>(&g, 1));
  }
  std::uint64_t put_so_far() const { return seed_; }

 private:
  std::uint32_t seed_ = 0;
};

/// Every sequence from `from` up to the lane's last is in the batch exactly once, as a record or in a gap.
void check_complete(const Batch& batch, Lane lane, Sequence from, Sequence last) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  for (const auto& gap : batch.gaps) {
    if (gap.lane == lane && gap.first != Sequence()) ranges.emplace_back(gap.first.value(), gap.last.value());
  }
  for (const auto& stored : batch.records) {
    if (stored.lane == lane) ranges.emplace_back(stored.sequence.value(), stored.sequence.value());
  }
  std::sort(ranges.begin(), ranges.end());
  auto next = from.value();
  for (auto [first, end] : ranges) {
    if (first != next) FAIL("expected sequence " << next << ", found " << first);
    next = end + 1;
  }
  CHECK(next == last.value() + 1);
}

TEST_CASE("evict_oldest gives up the oldest, tells every one of them, and never fails", "[store][full]") {
  SmallStore f(WhenFull::evict_oldest);
  f.open();
  for (int i = 0; i < 300; ++i) {
    auto done = f.put_noise();
    if (!done) FAIL("commit " << i << ": " << done.error().what);
    REQUIRE(f.store->status().free_pages >= 16);
  }
  auto row = f.lane();
  CHECK(row.last == Sequence(6'000));
  CHECK(row.dropped > Sequence(5'000));
  auto batch = f.read();
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].cause == Cause::evicted);
  CHECK(batch.gaps[0].last == row.dropped);
  CHECK(batch.gaps[0].count == row.dropped.value());
  check_complete(batch, row.lane, Sequence(1), row.last);
  CHECK(batch.records.back().record.payload == noise(1'000, 6'000));

  f.reopen();
  auto again = f.read();
  CHECK(again.gaps.size() == 1);
  check_complete(again, row.lane, Sequence(1), row.last);
  f.store->delivered(again.after);
  f.commit();
  CHECK(f.read().empty());
  f.reopen();
  CHECK(f.store->status().ledger_entries == 0);
}

TEST_CASE("what was delivered while it was evicted is struck out of the gap", "[store][full]") {
  SmallStore f(WhenFull::evict_oldest);
  f.open();
  for (int i = 0; i < 20; ++i) REQUIRE(f.put_noise().ok());
  BatchLimits limits;
  limits.records = 200;
  auto on_its_way = f.read(limits);
  REQUIRE(on_its_way.gaps.empty());
  REQUIRE(on_its_way.records.size() == 200);
  while (f.lane().dropped <= Sequence(200)) REQUIRE(f.put_noise().ok());
  f.store->delivered(on_its_way.after);
  auto batch = f.read();
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].first == Sequence(201));
  CHECK(batch.gaps[0].last == f.lane().dropped);
  check_complete(batch, f.lane().lane, Sequence(201), f.lane().last);
  f.commit();
  check_complete(f.read(), f.lane().lane, Sequence(201), f.lane().last);
}

TEST_CASE("an evicted range that grows while its gap is on the way is told for the rest", "[store][full]") {
  SmallStore f(WhenFull::evict_oldest);
  f.open();
  while (f.lane().dropped == Sequence()) REQUIRE(f.put_noise().ok());
  auto first = f.read();
  auto told = first.gaps.at(0).last;
  first.records.clear();
  first.after.delivered["telemetry"] = told;
  while (f.lane().dropped == told) REQUIRE(f.put_noise().ok());
  f.store->delivered(first.after);
  auto second = f.read();
  REQUIRE(second.gaps.size() == 1);
  CHECK(second.gaps[0].first == told.next());
  CHECK(second.gaps[0].last == f.lane().dropped);
}

TEST_CASE("the lowest priority is evicted first, the highest last", "[store][full]") {
  SmallStore f(WhenFull::evict_oldest);
  f.settings.lanes = {{"telemetry", 5}, {"alarms", 0}};
  f.open();
  for (int i = 0; i < 4; ++i) REQUIRE(f.put_noise("alarms").ok());
  for (int i = 0; i < 100; ++i) REQUIRE(f.put_noise("telemetry").ok());
  CHECK(f.lane("alarms").dropped == Sequence());
  CHECK(f.lane("telemetry").dropped > Sequence(1'000));
  for (int i = 0; i < 100; ++i) REQUIRE(f.put_noise("alarms").ok());
  CHECK(f.lane("telemetry").dropped == f.lane("telemetry").last);
  CHECK(f.lane("alarms").dropped > Sequence(1'000));
  auto batch = f.read();
  check_complete(batch, f.lane("alarms").lane, Sequence(1), f.lane("alarms").last);
  check_complete(batch, f.lane("telemetry").lane, Sequence(1), f.lane("telemetry").last);

  // The open block was among them: the next record must not bring it back, to be given up a second time.
  f.put({"one more"}, "telemetry");
  for (int i = 0; i < 40; ++i) REQUIRE(f.put_noise("alarms").ok());
  CHECK(f.lane("telemetry").dropped == f.lane("telemetry").last);
  batch = f.read();
  check_complete(batch, f.lane("telemetry").lane, Sequence(1), f.lane("telemetry").last);
  std::uint64_t told = 0;
  for (const auto& gap : batch.gaps) told += gap.count;
  CHECK(f.store->status().given_up == std::vector<std::pair<Cause, std::uint64_t>>{{Cause::evicted, told}});
}

TEST_CASE("an orderly end of a full store gives up nothing", "[store][full]") {
  SmallStore f(WhenFull::evict_oldest);
  f.open();
  while (f.lane().dropped == Sequence()) REQUIRE(f.put_noise().ok());
  for (int i = 0; i < 5; ++i) REQUIRE(f.put_noise().ok());
  auto before = f.lane();
  REQUIRE(f.store->status().journal_used_bytes > 0);
  for (int i = 0; i < 3; ++i) f.reopen();
  CHECK(f.lane().dropped == before.dropped);
  CHECK(f.lane().records == before.records);
  CHECK(f.read().records.size() == before.records);
}

TEST_CASE("block takes nothing, says full with the numbers, and goes on once there is room", "[store][full]") {
  SmallStore f(WhenFull::block);
  f.open();
  Result<void> done;
  for (int i = 0; i < 100 && (done = f.put_noise()).ok(); ++i) {
  }
  REQUIRE_FALSE(done.ok());
  CHECK(done.error().fault == Fault::full);
  CHECK(done.error().what.find(" of 192 pages and ") != std::string::npos);
  auto last = f.lane().last;
  CHECK(f.lane().dropped == Sequence());
  CHECK_FALSE(f.put_noise().ok());
  CHECK(f.lane().last == last);
  auto batch = f.deliver();
  CHECK(batch.gaps.empty());
  check_complete(batch, f.lane().lane, Sequence(1), last);
  CHECK(f.put_noise().ok());
  CHECK(f.lane().last == Sequence(last.value() + 20));
}

TEST_CASE("reject_newest counts what it refuses and keeps what it has", "[store][full]") {
  SmallStore f(WhenFull::reject_newest);
  f.open();
  for (int i = 0; i < 100; ++i) REQUIRE(f.put_noise().ok());
  auto last = f.lane().last;
  CHECK(f.lane().dropped == Sequence());
  f.read();
  f.commit();
  auto batch = f.read();
  check_complete(batch, f.lane().lane, Sequence(1), last);
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].cause == Cause::refused);
  CHECK(batch.gaps[0].first == Sequence());
  CHECK(batch.gaps[0].count + last.value() == 2'000);
}

TEST_CASE("a state change is kept even when its records are refused", "[store][full]") {
  SmallStore f(WhenFull::reject_newest);
  f.open();
  for (int i = 0; i < 100; ++i) REQUIRE(f.put_noise().ok());
  Group group = f.group({noise(30'000, 1)});
  group.changes = {{"position", "7"}};
  f.commit({group});
  CHECK(*f.store->state("plant", "position") == "7");
}

TEST_CASE("a record that no eviction can make room for is given up as too large", "[store][full]") {
  for (auto when_full : {WhenFull::evict_oldest, WhenFull::reject_newest, WhenFull::block}) {
    SmallStore f(when_full);
    f.open();
    f.put({noise(1'000'000, 1)});
    f.put({"small"});
    f.read();
    f.commit();
    auto batch = f.read();
    CHECK(f.payloads(batch) == std::vector<std::string>{"small"});
    REQUIRE(batch.gaps.size() == 1);
    CHECK(batch.gaps[0].cause == Cause::too_large);
  }
}

TEST_CASE("a refusal of the intake is one growing entry until it is asked for, then another", "[store][full]") {
  StoreFixture f;
  f.open();
  auto refuse = [&](std::uint64_t count) {
    Group group = f.group({});
    group.refusal = Refusal{Cause::refused, count};
    f.commit({group});
  };
  refuse(3);
  refuse(4);
  CHECK(f.read().gaps.empty());  // it may still grow
  CHECK(f.store->wants_commit());
  refuse(5);
  auto batch = f.read();
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].count == 7);
  CHECK(batch.after.ledger == batch.gaps[0].entry);
  CHECK(batch.after.runs.size() == 1);  // a checkpoint without a run would not be known as ours
  f.store->delivered(batch.after);
  f.commit();
  batch = f.read();
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].count == 5);

  // The batch reached Kafka, its mark did not reach the disk: the checkpoint strikes it out.
  auto after = batch.after;
  f.reopen();
  auto settlement = settle(f.store->history(), after);
  CHECK_FALSE(settlement.fork);
  REQUIRE(f.store->settle(settlement).ok());
  CHECK(f.read().gaps.empty());
  refuse(2);
  f.read();
  f.commit();
  CHECK(f.read().gaps.at(0).entry > after.ledger);
}

TEST_CASE("pre-writing between commits harms nothing and ends at the capacity", "[store][full]") {
  StoreFixture f;
  f.settings.capacity_bytes = 6 << 20;
  f.open();
  auto file = f.settings.directory / "data.mdb";
  int steps = 0;
  for (bool more = true; more; ++steps) {
    f.put_many(200, 50);
    auto step = f.store->prewrite_step(100'000);
    if (!step) FAIL(step.error().what);
    more = *step;
    if (steps == 10) f.reopen();
  }
  const auto full_size = f.settings.capacity_bytes - std::filesystem::file_size(f.settings.directory / "journal");
  if (std::filesystem::file_size(file) < full_size) {
    WARN("the disk has no room to spare: not pre-written");
    return;
  }
  CHECK(steps > 15);
  CHECK(std::filesystem::file_size(file) == full_size);
  f.put_many(100);
  f.reopen();
  CHECK(std::filesystem::file_size(file) == full_size);
  auto batch = f.read();
  REQUIRE(batch.records.size() == static_cast<std::size_t>(steps) * 200 + 100);
  for (std::size_t i = 0; i < batch.records.size(); ++i) {
    if (batch.records[i].record.payload != f.payload(i + 1)) FAIL("record " << i + 1);
  }
}

TEST_CASE("pages freed a moment ago are waited for, and nothing is given up for them", "[store][full]") {
  StoreFixture f;
  f.settings.capacity_bytes = 32 << 20;
  f.settings.when_full = WhenFull::block;
  f.settings.compression_level = 0;
  f.open();
  std::uint32_t seed = 0;
  auto big = [&](int records) {
    Group group = f.group({});
    for (int i = 0; i < records; ++i) group.records.push_back(f.record(noise(3'500, ++seed)));
    return group;
  };
  for (int records : {400, 20}) {  // first in large steps, then to the brim
    for (;;) {
      auto group = big(records);
      auto done = f.store->commit(std::span<const Group>(&group, 1));
      if (done) continue;
      REQUIRE(done.error().fault == Fault::full);
      break;
    }
  }
  BatchLimits limits;
  limits.records = 490;
  f.deliver(limits);
  auto last = f.lane().last;
  // More pages than the reserve holds; LMDB reuses what was deleted only two commits later, and no other deletion
  // comes between.
  f.commit({big(450)});
  CHECK(f.lane().last == Sequence(last.value() + 450));
  CHECK(f.store->status().given_up.empty());
}

TEST_CASE("many records through a full store of 1 MiB, read and delivered by halves", "[store][full]") {
  SmallStore f(WhenFull::evict_oldest);
  f.open();
  std::uint32_t seed = 1;
  Sequence position;
  std::uint64_t seen = 0;
  for (int i = 0; i < 400; ++i) {
    seed = seed * 1'664'525 + 1'013'904'223;
    Group group = f.group({});
    std::size_t count = (seed >> 16) % 500;
    for (std::size_t k = 0; k < count; ++k)
      group.records.push_back(f.record(noise((seed >> 8) % 150 + 1, seed + static_cast<std::uint32_t>(k))));
    f.commit({group});
    if ((seed >> 24) % 4 != 0) continue;
    BatchLimits limits;
    limits.records = 300;
    auto batch = f.read(limits);
    if (batch.empty()) continue;
    auto upto = at(batch.after.delivered, "telemetry");
    check_complete(batch, f.lane().lane, position.next(), upto);
    if ((seed >> 20) % 3 == 0) continue;  // the sink failed
    seen += count_between(position.next(), upto);
    position = upto;
    f.store->delivered(batch.after);
  }
  CHECK(seen > 10'000);
  CHECK(f.lane().dropped > Sequence(30'000));
}

TEST_CASE("under reject_newest what comes again is left, in order for each driver, and told to nobody", "[store]") {
  StoreFixture f;
  f.settings.capacity_bytes = 1 << 20;
  f.settings.when_full = WhenFull::reject_newest;
  f.settings.compression_level = 0;
  f.open();
  std::uint64_t taken = 0;
  std::vector<std::size_t> left;
  for (int i = 0; i < 1'000 && left.empty(); ++i) {
    auto large = f.group(std::vector<std::string>(10, std::string(10'000, 'x'))), small = f.group({"small"});
    large.comes_again = small.comes_again = true;
    std::vector<Group> groups{large, small};
    auto before = f.lane().last;
    REQUIRE(f.store->commit(groups, &left));
    taken += f.lane().last.value() - before.value();
  }
  // The large one finds no room; the small one of its driver stays behind it, though there would be room.
  CHECK(left == std::vector<std::size_t>{0, 1});
  CHECK(f.store->gaps().empty());
  CHECK(f.lane().last.value() == taken);

  auto all = f.read({});
  f.store->delivered(all.after);
  auto large = f.group({std::string(20'000, 'x')});
  large.comes_again = true;
  REQUIRE(f.store->commit({&large, 1}, &left));
  CHECK(left.empty());
}

TEST_CASE("of its file a store keeps next to nothing mapped, however much goes through", "[store][full]") {
  SmallStore f(WhenFull::evict_oldest);
  f.settings.capacity_bytes = 8 << 20;
  f.open();
  std::uint64_t most = 0;
  while (f.lane().dropped < Sequence(8'000)) {  // the file is written anew then
    REQUIRE(f.put_noise());
    most = std::max(most, resident_kib(std::filesystem::canonical(f.settings.directory) / "data.mdb"));
  }
  CHECK(std::filesystem::file_size(f.settings.directory / "data.mdb") == 6 << 20);
  CHECK(most < 1'024);
}

}  // namespace store_full_test
}  // namespace
}  // namespace penstock
