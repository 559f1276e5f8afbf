#include "buffer/block.h"

#include <limits>

#include "buffer/bytes.h"
#include "tests/catch.h"

namespace penstock {
namespace {
namespace block_test {

constexpr std::size_t kValueBytes = 4080;

BlockStamp stamp() {
  return {*Epoch::from_hex(std::string(32, 'e')), *Run::from_hex(std::string(32, 'a')),
          *Boot::from_hex(std::string(32, 'b')), Lane{3}};
}

std::string noise(std::size_t bytes, std::uint32_t seed = 1) {
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i) text += static_cast<char>((seed = seed * 1'664'525 + 1'013'904'223) >> 24);
  return text;
}

/// Records that use every field, neighbours of one origin and of another, and times that jump.
std::vector<Record> mixed_records(std::size_t count) {
  std::vector<Record> records;
  for (std::size_t i = 0; i < count; ++i) {
    Record record;
    record.driver = "plant";
    record.stream = i % 7 == 3 ? "press/3" : "boiler/temp";
    record.key = i % 5 == 0 ? "k" : "";
    record.kind = static_cast<Kind>(i % 3);
    record.quality = static_cast<Quality>(i / 2 % 3);
    record.time_source = i % 2 == 0 ? TimeSource::ours : TimeSource::device;
    record.synchronised = i % 4 == 0;
    record.time = WallTime(std::chrono::microseconds(1'780'000'000'000'000 + 50'123 * static_cast<std::int64_t>(i)));
    record.boottime = BootTime(1'000'000 + 50'000 * static_cast<std::int64_t>(i));
    if (i % 6 == 0) record.content_type = "application/json";
    if (i % 9 == 0) record.headers = {{"unit", "Cel"}, {"empty", ""}};
    record.payload = "{\"value\":" + std::to_string(i * 7919 % 1'000) + "}";
    records.push_back(std::move(record));
  }
  return records;
}

BlockBuilder built(const std::vector<Record>& records) {
  BlockBuilder builder;
  for (const auto& record : records) builder.append(record);
  return builder;
}

std::string encoded(const std::vector<Record>& records, int level = 1) {
  BlockCoder coder(level, kValueBytes);
  return coder.encode(stamp(), Sequence(100), built(records)).value;
}

/// Nothing: some check said no.
std::optional<std::vector<Record>> decoded(BlockReader& reader, const std::vector<std::string_view>& pieces) {
  auto header = pieces.size() == 1 ? reader.open(pieces[0]) : reader.open(pieces);
  if (!header) return std::nullopt;
  std::vector<Record> records;
  for (Record record;;) {
    auto more = reader.next(record);
    if (!more) return std::nullopt;
    if (!*more) break;
    records.push_back(record);
  }
  if (records.size() != header->count) return std::nullopt;
  return records;
}

std::vector<std::string_view> views(const std::vector<std::string>& pieces) { return {pieces.begin(), pieces.end()}; }

TEST_CASE("a block gives back its records and its header", "[block]") {
  for (std::size_t count : {1u, 2u, 20u, 150u}) {
    for (int level : {0, 1}) {
      auto records = mixed_records(count);
      auto value = encoded(records, level);
      if (value.empty()) continue;  // 150 of them do not fit uncompressed
      BlockReader reader;
      CHECK(decoded(reader, {value}) == records);
      auto header = check_block(value);
      REQUIRE(header.ok());
      CHECK(header->stamp == stamp());
      CHECK(header->first == Sequence(100));
      CHECK(header->last == Sequence(99 + count));
      CHECK(header->compressed == (count == 150));
      CHECK(value.size() <= kValueBytes);
    }
  }
  CHECK_FALSE(encoded(mixed_records(150)).empty());
  CHECK(encoded(mixed_records(150), 0).empty());
}

TEST_CASE("any time and any bytes survive", "[block]") {
  using Limits = std::numeric_limits<std::int64_t>;
  std::vector<Record> records(4);
  records[0].time = WallTime(std::chrono::microseconds(Limits::max()));
  records[0].boottime = BootTime(Limits::min());
  records[1].time = WallTime(std::chrono::microseconds(Limits::min()));
  records[1].boottime = BootTime(Limits::max());
  records[2].payload = noise(300);
  records[2].stream = std::string("\0\xff\n", 3);
  records[3].headers = {{"", ""}, {noise(20), noise(30)}};
  BlockReader reader;
  CHECK(decoded(reader, {encoded(records)}) == records);
}

TEST_CASE("a cut builder is the block of its first records", "[block]") {
  auto records = mixed_records(30);
  auto builder = built(records);
  builder.cut(12);
  BlockCoder coder(1, kValueBytes);
  BlockReader reader;
  records.resize(12);
  CHECK(decoded(reader, {coder.encode(stamp(), Sequence(1), builder).value}) == records);
}

TEST_CASE("a large record is cut into fragments and comes back from them only when all are there", "[block]") {
  std::vector<Record> one(1);
  one[0].driver = "d";
  one[0].payload = noise(50'000);
  for (int level : {0, 1}) {
    if (level == 1) one[0].payload += std::string(5'000, 'z');
    BlockCoder coder(level, kValueBytes);
    CHECK(coder.encode(stamp(), Sequence(9), built(one)).value.empty());
    auto pieces = coder.fragments(stamp(), Sequence(9), built(one));
    REQUIRE(pieces.size() == 13);
    for (const auto& piece : pieces) CHECK(piece.size() <= kValueBytes);
    BlockReader reader;
    CHECK(decoded(reader, views(pieces)) == one);

    auto missing = pieces;
    missing.erase(missing.begin() + 4);
    CHECK_FALSE(decoded(reader, views(missing)));
    auto swapped = pieces;
    std::swap(swapped[1], swapped[2]);
    CHECK_FALSE(decoded(reader, views(swapped)));
    CHECK_FALSE(decoded(reader, {pieces[0]}));
    auto other = coder.fragments(stamp(), Sequence(10), built(one));
    auto mixed = pieces;
    mixed[5] = other[5];
    CHECK_FALSE(decoded(reader, views(mixed)));
    CHECK(decoded(reader, views(pieces)) == one);  // the reader is none the worse for it
  }
}

TEST_CASE("a block cut at any byte is refused", "[block]") {
  BlockReader reader;
  for (const auto& value : {encoded(mixed_records(10)), encoded(mixed_records(150))}) {
    for (std::size_t length = 0; length < value.size(); ++length) {
      if (decoded(reader, {std::string_view(value).substr(0, length)})) FAIL("accepted " << length << " bytes");
    }
    CHECK_FALSE(decoded(reader, {value + '\0'}));
  }
}

TEST_CASE("a block with any byte changed is refused", "[block]") {
  BlockReader reader;
  for (const auto& value : {encoded(mixed_records(10)), encoded(mixed_records(150))}) {
    REQUIRE(decoded(reader, {value}));
    for (std::size_t at = 0; at < value.size(); ++at) {
      for (int flip : {0x01, 0x02, 0x10, 0x80, 0xff}) {
        auto changed = value;
        changed[at] = static_cast<char>(changed[at] ^ flip);
        if (decoded(reader, {changed})) FAIL("byte " << at << " xor " << flip << " was accepted");
      }
    }
  }
}

TEST_CASE("wrong bytes under a right checksum never crash the reader", "[block]") {
  BlockReader reader;
  std::size_t accepted = 0, refused = 0;
  for (const auto& value : {encoded(mixed_records(10)), encoded(mixed_records(150))}) {
    for (std::size_t at = 16; at < value.size(); ++at) {
      for (int flip : {0x01, 0x10, 0x80, 0xff}) {
        auto changed = value;
        changed[at] = static_cast<char>(changed[at] ^ flip);
        store_little(changed.data() + 8, block_checksum(changed));
        (decoded(reader, {changed}) ? accepted : refused)++;
      }
    }
  }
  CHECK(accepted > 1'000);  // a payload byte, an id: nobody can tell
  CHECK(refused > 1'000);
}

TEST_CASE("a header that claims more than there is gets no memory", "[block]") {
  auto value = encoded(mixed_records(150));
  store_little<std::uint32_t>(value.data() + 76, 0xffff'ffff);
  store_little(value.data() + 8, block_checksum(value));
  auto header = check_block(value);
  REQUIRE_FALSE(header.ok());
  CHECK(header.error().what == "damaged block: raw length 4294967295");
  store_little<std::uint32_t>(value.data() + 76, 60u << 20);  // allowed, but the frame says otherwise
  store_little(value.data() + 8, block_checksum(value));
  BlockReader reader;
  CHECK_FALSE(decoded(reader, {value}));
}

}  // namespace block_test
}  // namespace
}  // namespace penstock
