#include <fstream>
#include <sstream>

#include "tests/buffer/store_fixture.h"

namespace penstock {
namespace {
namespace store_damage_test {

class DamagedStore : public StoreFixture {
 public:
  std::filesystem::path data() const { return settings.directory / "data.mdb"; }

  /// Changes one byte of the block that begins with `first`, wherever LMDB has put it; says how many copies it met.
  int damage(std::uint64_t first) {
    store.reset();
    std::string bytes = contents();
    int met = 0;
    for (auto at = bytes.find("PSBK"); at != std::string::npos; at = bytes.find("PSBK", at + 1)) {
      std::uint64_t found = 0;
      for (int i = 7; i >= 0; --i)
        found = found << 8 | static_cast<unsigned char>(bytes[at + 88 + static_cast<std::size_t>(i)]);
      if (found != first) continue;
      bytes[at + 125] = static_cast<char>(bytes[at + 125] ^ 0x40);
      ++met;
    }
    std::ofstream(data(), std::ios::binary) << bytes;
    return met;
  }
  std::string contents() const {
    std::ostringstream out;
    out << std::ifstream(data(), std::ios::binary).rdbuf();
    return out.str();
  }
  /// The first sequence of each block: what has no room for more ends there.
  void put_blocks(int count) {
    for (int i = 0; i < count; ++i) {
      put_many(30);
      reopen();  // a new run begins a new block
    }
  }
};

/// What cannot be compressed, and is kept in fragments.
std::string of_many_pages() {
  std::string noise;
  std::uint32_t seed = 1;
  for (int i = 0; i < 20'000; ++i) noise += static_cast<char>((seed = seed * 1'664'525 + 1'013'904'223) >> 24);
  return noise;
}

TEST_CASE("a damaged block becomes a gap, once, and everything after it is read", "[store][damage]") {
  DamagedStore f;
  f.open();
  f.put_blocks(5);
  REQUIRE(f.damage(61) >= 1);
  f.open();
  auto before = f.read();
  CHECK(before.records.size() == 60);
  CHECK(before.gaps.empty());
  CHECK(f.store->wants_commit());
  f.commit();
  auto batch = f.read();
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].cause == Cause::damaged);
  CHECK(batch.gaps[0].first == Sequence(61));
  CHECK(batch.gaps[0].last == Sequence(90));
  CHECK(batch.gaps[0].count == 30);
  CHECK(batch.records.size() == 120);
  CHECK(batch.records[60].record.payload == f.payload(91));
  CHECK(f.store->status().given_up == std::vector<std::pair<Cause, std::uint64_t>>{{Cause::damaged, 30}});
  f.store->delivered(batch.after);
  f.commit();
  f.reopen();
  CHECK(f.read().empty());
  CHECK(f.store->status().ledger_entries == 0);
}

TEST_CASE("damage in the first and in the last block, and in neighbours, which are told as one", "[store][damage]") {
  DamagedStore f;
  f.open();
  f.put_blocks(6);
  for (std::uint64_t first : {1u, 61u, 91u, 151u}) REQUIRE(f.damage(first) >= 1);
  f.open();
  for (int i = 0; i < 4; ++i) {
    f.read();
    f.commit();
  }
  auto batch = f.read();
  REQUIRE(batch.gaps.size() == 3);
  CHECK(batch.gaps[0].last == Sequence(30));
  CHECK(batch.gaps[1].first == Sequence(61));
  CHECK(batch.gaps[1].last == Sequence(120));
  CHECK(batch.gaps[2].first == Sequence(151));
  CHECK(batch.gaps[2].last == Sequence(180));
  CHECK(batch.records.size() == 60);
  f.put({"next"});
  CHECK(f.read().records.back().sequence == Sequence(181));
}

TEST_CASE("a damaged fragment costs its record and no other", "[store][damage]") {
  DamagedStore f;
  f.open();
  f.put({"before", of_many_pages(), "after"});
  REQUIRE(f.damage(2) == 6);
  f.open();
  f.read();
  f.commit();
  auto batch = f.read();
  CHECK(f.payloads(batch) == std::vector<std::string>{"before", "after"});
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].first == Sequence(2));
  CHECK(batch.gaps[0].last == Sequence(2));
}

TEST_CASE("what of a damaged block was delivered is no loss", "[store][damage]") {
  DamagedStore f;
  f.open();
  f.put_blocks(2);
  BatchLimits limits;
  limits.records = 40;
  f.deliver(limits);
  f.commit();
  REQUIRE(f.damage(31) >= 1);
  f.open();
  f.read();
  f.commit();
  auto batch = f.read();
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].first == Sequence(41));
  CHECK(batch.gaps[0].count == 20);
}

TEST_CASE("a fragment whose key turns while the store is open costs its record and no other", "[store][damage]") {
  DamagedStore f;
  f.open();
  f.put({"before", of_many_pages(), "after"});
  f.reopen();
  // As a page that was evicted and comes back wrong: LMDB sees the file through its map.
  std::string key("\x01\0\0\0\0\0\0\0\0\0\2\0\3", 13);  // lane 0, sequence 2, fragment 3
  std::string bytes = f.contents();
  std::fstream file(f.data(), std::ios::binary | std::ios::in | std::ios::out);
  int met = 0;
  for (auto at = bytes.find(key); at != std::string::npos; at = bytes.find(key, at + 1), ++met) {
    file.seekp(static_cast<std::streamoff>(at + 11));
    file.put('\x01');
  }
  file.close();
  REQUIRE(met >= 1);
  CHECK(f.read_payloads() == std::vector<std::string>{"before"});
  f.commit();
  auto batch = f.read();
  CHECK(f.payloads(batch) == std::vector<std::string>{"before", "after"});
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].cause == Cause::damaged);
  CHECK(batch.gaps[0].first == Sequence(2));
  CHECK(batch.gaps[0].count == 1);
}

TEST_CASE("a damaged frame of the journal becomes a gap, and the frames after it are read", "[store][damage]") {
  DamagedStore f;
  f.open();
  f.put_many(50, 10);
  f.crash();
  f.damage_frame(3);
  f.crash();
  CHECK(f.store->status().frames_lost == 1);
  CHECK(f.read().records.size() == 20);
  f.commit();
  auto batch = f.read();
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].cause == Cause::damaged);
  CHECK(batch.gaps[0].first == Sequence(21));
  CHECK(batch.gaps[0].last == Sequence(30));
  REQUIRE(batch.records.size() == 40);
  CHECK(batch.records[20].record.payload == f.payload(31));
  f.reopen();  // what was left has moved to LMDB
  CHECK(f.read().records.size() == 40);
  CHECK(f.read().gaps.size() == 1);
}

TEST_CASE("a frame that goes bad while the store is open costs its records and no others", "[store][damage]") {
  DamagedStore f;
  f.open();
  f.put_many(50, 10);
  f.damage_frame(4);
  CHECK(f.read().records.size() == 30);
  CHECK(f.store->wants_commit());
  f.commit();
  auto batch = f.read();
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].first == Sequence(31));
  CHECK(batch.gaps[0].count == 10);
  CHECK(batch.records.size() == 40);

  f.put_many(10);
  f.damage_frame(1);
  f.reopen();  // nobody has read it: it is found when it is to be moved
  batch = f.read();
  REQUIRE(batch.gaps.size() == 2);
  CHECK(batch.gaps[0].first == Sequence(1));
  CHECK(batch.gaps[0].cause == Cause::damaged);
  CHECK(batch.records.size() == 40);
}

}  // namespace store_damage_test
}  // namespace
}  // namespace penstock
