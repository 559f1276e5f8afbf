// Looking into the store without taking anything out of it.
#include <cstring>
#include <fstream>
#include <iterator>

#include "tests/buffer/store_fixture.h"

namespace penstock {
namespace {
namespace store_peek_test {

struct Peeked : StoreFixture {
  std::vector<StoredRecord> peek(std::uint64_t from, BatchLimits limits = {}, const std::string& lane = "telemetry") {
    auto seen = store->peek(store->lane(lane).value(), Sequence(from), limits);
    if (!seen) FAIL(seen.error().what);
    return std::move(*seen);
  }
  /// Page after page, as a client asks.
  std::vector<StoredRecord> peek_all(BatchLimits limits) {
    std::vector<StoredRecord> all;
    std::uint64_t from = 1;
    while (true) {
      auto page = peek(from, limits);
      if (page.empty()) return all;
      from = page.back().sequence.next().value();
      all.insert(all.end(), std::make_move_iterator(page.begin()), std::make_move_iterator(page.end()));
    }
  }
};

TEST_CASE("peek gives every record that waits, in order, however small the pages") {
  Peeked store;
  store.open();
  store.put_many(3'000, 70);
  store.put({std::string(50'000, 'x')});  // of many fragments
  store.put_many(10);
  for (auto limits : {BatchLimits{}, BatchLimits{1000, 1 << 20}, BatchLimits{7, 1 << 20}, BatchLimits{500, 900}}) {
    auto all = store.peek_all(limits);
    REQUIRE(all.size() == 3'011);
    for (std::size_t i = 0; i < all.size(); ++i) CHECK(all[i].sequence.value() == i + 1);
    CHECK(all[2'999].record.payload == Peeked::payload(3'000));
    CHECK(all[3'000].record.payload == std::string(50'000, 'x'));
    CHECK(all[0].epoch == store.store->status().epoch);
    CHECK(all[0].boot == store.clock.boot());
  }
}

TEST_CASE("peek keeps its limits, and gives one record that alone is over them") {
  Peeked store;
  store.open();
  store.put_many(100);
  CHECK(store.peek(1, {5, 1 << 20}).size() == 5);
  CHECK(store.peek(96, {50, 1 << 20}).size() == 5);
  CHECK(store.peek(1, {50, 1}).size() == 1);
  CHECK(store.peek(101).empty());
}

TEST_CASE("peek shows nothing that is not durable, nothing that Kafka has, and takes nothing") {
  Peeked store;
  store.open();
  store.put_many(40);
  CHECK(store.peek(1).size() == store.lane().durable.value());
  store.put_many(10);  // into the same block
  CHECK(store.peek(1).size() == store.lane().durable.value());
  CHECK(store.peek(1).size() == 50);
  CHECK(store.peek(1).size() == 50);
  auto batch = store.deliver({20, 1 << 20});
  REQUIRE(batch.records.size() == 20);
  auto rest = store.peek(1);
  REQUIRE(rest.size() == 30);
  CHECK(rest.front().sequence == Sequence(21));
  CHECK(store.read().records.size() == 30);
}

TEST_CASE("lanes are looked into one by one, and one that is not there is an error") {
  Peeked store;
  store.settings.lanes = {{"alarms", 0}, {"telemetry", 1}};
  store.open();
  store.put({"a", "b"}, "alarms");
  store.put({"c"});
  CHECK(store.peek(1, {}, "alarms").size() == 2);
  CHECK(store.peek(1).size() == 1);
  CHECK_FALSE(store.store->peek(Lane{9}, Sequence(1), {}).ok());
}

TEST_CASE("peek passes over a damaged block and goes on behind it; the ledger is told by gaps()") {
  Peeked store;
  store.open();
  store.put_many(2'000);
  store.store.reset();
  // One byte of a payload in the middle: the third block's.
  auto path = store.settings.directory / "data.mdb";
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::size_t at = 0;
  std::uint64_t first = 0, last = 0;
  for (std::size_t found = bytes.find("PSBK"); found != std::string::npos; found = bytes.find("PSBK", found + 1)) {
    std::uint64_t begin, end;
    std::memcpy(&begin, &bytes[found + 88], 8);
    std::memcpy(&end, &bytes[found + 96], 8);
    if (begin <= 1'000 && 1'000 <= end) {
      at = found;
      first = begin;
      last = end;
      file.clear();
      file.seekp(static_cast<std::streamoff>(at + 150));
      file.put(static_cast<char>(bytes[at + 150] ^ 1));
    }
  }
  REQUIRE(at != 0);
  file.close();

  store.open();
  auto seen = store.peek_all({});
  REQUIRE(seen.size() == 2'000 - (last - first + 1));
  for (const auto& stored : seen) CHECK((stored.sequence.value() < first || stored.sequence.value() > last));
  CHECK(store.store->gaps().empty());  // looking changes nothing

  store.read();
  store.commit();  // the reader's suspicion is looked into
  auto gaps = store.store->gaps();
  REQUIRE(gaps.size() == 1);
  CHECK(gaps[0].first == Sequence(first));
  CHECK(gaps[0].last == Sequence(last));
  CHECK(gaps[0].cause == Cause::damaged);
  CHECK(gaps[0].epoch == store.store->status().epoch);
}

}  // namespace store_peek_test
}  // namespace
}  // namespace penstock
