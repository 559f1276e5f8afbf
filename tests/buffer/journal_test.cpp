#include "buffer/journal.h"

#include <fstream>
#include <map>
#include <sstream>

#include "tests/catch.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace journal_test {

constexpr std::uint64_t kSeed = 0x1234'5678'9abc'def0;
constexpr Lane kLane{3};

class Ring {
 public:
  explicit Ring(std::uint64_t bytes = 16 * kFrameAlignment) { REQUIRE(Journal::make(path(), bytes).ok()); }
  std::filesystem::path path() const { return folder.path() / "journal"; }

  /// What an earlier life left, above `after`.
  std::vector<std::uint64_t> open(std::uint64_t after = 0) {
    journal.reset();
    auto opened = Journal::open(path(), kSeed);
    if (!opened) FAIL(opened.error().what);
    journal = std::move(*opened);
    std::vector<std::uint64_t> numbers;
    found = journal->recover(after, after);
    for (const auto& frame : found) numbers.push_back(frame.place.number);
    return numbers;
  }
  static FrameContent content(std::uint64_t number, std::size_t payload_bytes) {
    FrameContent content;
    content.number = number;
    content.epoch.bytes[0] = 7;
    auto& part = content.parts.emplace_back();
    part.lane = kLane;
    part.first = Sequence(10 * number);
    std::uint32_t mixed = static_cast<std::uint32_t>(number);
    for (int i = 0; i < 2; ++i) {
      Record record;
      record.stream = "s";
      while (record.payload.size() < payload_bytes) {  // nothing that could be compressed away
        record.payload += static_cast<char>((mixed = mixed * 1'664'525 + 1'013'904'223) >> 24);
      }
      part.records.append(record);
    }
    content.rows = {{"key", "value " + std::to_string(number)}, {"gone", std::nullopt}};
    return content;
  }
  bool put(std::size_t payload_bytes = 100) {
    auto frame = coder.encode(content(journal->last() + 1, payload_bytes));
    if (!journal->fits(frame.size())) return false;
    auto place = journal->append(frame);
    if (!place) FAIL(place.error().what);
    CHECK(place->number == journal->last());
    return true;
  }
  std::string bytes() const {
    std::ostringstream out;
    out << std::ifstream(path(), std::ios::binary).rdbuf();
    return out.str();
  }
  void write(const std::string& bytes) const { std::ofstream(path(), std::ios::binary | std::ios::trunc) << bytes; }
  /// Empty if each frame that was found is the one that was put.
  std::string wrong(std::size_t payload_bytes) {
    for (const auto& frame : found) {
      std::string read;
      if (!journal->read(frame.place, read)) return "unreadable";
      if (!reader.open(read).ok()) return "not whole";
      auto rows = reader.rows();
      if (!rows || *rows != content(frame.place.number, payload_bytes).rows) return "other rows";
      if (reader.records(0) != content(frame.place.number, payload_bytes).parts[0].records.raw())
        return "other records";
    }
    return {};
  }

  TempDir folder;
  FrameCoder coder{1, kSeed};
  FrameReader reader{kSeed};
  std::unique_ptr<Journal> journal;
  std::vector<Journal::Found> found;
};

using Numbers = std::vector<std::uint64_t>;

TEST_CASE("what was appended is found again, in order, with all it held", "[journal]") {
  Ring ring;
  CHECK(ring.open().empty());
  for (std::size_t size : {0u, 100u, 5'000u}) REQUIRE(ring.put(size));
  CHECK(ring.open() == Numbers{1, 2, 3});
  auto& span = ring.found[2].header.spans.at(0);
  CHECK(span.lane == kLane);
  CHECK(span.first == Sequence(30));
  CHECK(span.last() == Sequence(31));
  CHECK(ring.found[2].header.epoch.bytes[0] == 7);
  CHECK(ring.open(2) == Numbers{3});
  CHECK(ring.journal->last() == 3);
}

TEST_CASE("the ring takes what fits and no more, until something is released", "[journal]") {
  Ring ring;
  ring.open();
  int count = 0;
  while (ring.put()) ++count;
  CHECK(count == 16);
  CHECK(ring.journal->used_bytes() == ring.journal->bytes());
  ring.journal->release(3);
  CHECK(ring.journal->used_bytes() == 13 * kFrameAlignment);
  CHECK_FALSE(ring.put(8'000));  // four blocks and a bit
  CHECK(ring.put(4'100));        // three
  CHECK_FALSE(ring.put());
  CHECK(ring.open(3).size() == 14);
  CHECK(ring.open(17).empty());
  CHECK(ring.put());
  CHECK(ring.journal->last() == 18);
}

TEST_CASE("through many rounds of frames of all sizes nothing that is needed is written over", "[journal]") {
  Ring ring(64 * kFrameAlignment);
  ring.open();
  std::uint32_t mixed = 1;
  std::uint64_t released = 0;
  std::map<std::uint64_t, std::size_t> sizes;
  for (int i = 0; i < 600; ++i) {
    mixed = mixed * 1'664'525 + 1'013'904'223;
    std::size_t size = (mixed >> 8) % ((mixed & 0x80) != 0 ? 20'000 : 200);
    while (!ring.put(size)) ring.journal->release(++released);
    sizes[ring.journal->last()] = size;
    if (i % 50 != 49) continue;
    auto numbers = ring.open(released);
    REQUIRE(numbers.size() == ring.journal->last() - released);
    for (auto number : numbers) {
      std::string bytes;
      REQUIRE(ring.journal->read(ring.found[number - released - 1].place, bytes).ok());
      REQUIRE(ring.reader.open(bytes).ok());
      if (ring.reader.records(0) != Ring::content(number, sizes[number]).parts[0].records.raw()) FAIL(number);
    }
  }
}

TEST_CASE("cut at every byte, it opens with a prefix of what was put", "[journal]") {
  Ring ring(8 * kFrameAlignment);
  ring.open();
  for (int i = 0; i < 3; ++i) REQUIRE(ring.put(3'000));
  const std::string all = ring.bytes();
  std::size_t before = 0;
  for (std::size_t length = 0; length < 3 * 2 * kFrameAlignment; length += length % 4'096 < 150 ? 1 : 97) {
    std::string torn = all.substr(0, length);
    torn.resize(all.size(), '\0');
    ring.write(torn);
    auto numbers = ring.open();
    if (numbers.size() < before) FAIL("cut at " << length << ": " << numbers.size() << " frames, one less than before");
    before = numbers.size();
    for (std::size_t i = 0; i < numbers.size(); ++i) REQUIRE(numbers[i] == i + 1);
    if (auto wrong = ring.wrong(3'000); !wrong.empty()) FAIL("cut at " << length << ": " << wrong);
  }
  CHECK(before == 3);
}

TEST_CASE("flipped at every byte, it loses the frame that was hit and nothing else", "[journal]") {
  Ring ring(4 * kFrameAlignment);
  ring.open();
  for (int i = 0; i < 3; ++i) REQUIRE(ring.put(200));
  const std::string all = ring.bytes();
  const std::size_t used = parse_frame_header(std::string_view(all).substr(kFrameAlignment))->bytes();
  for (std::size_t at = 0; at < used; ++at) {
    for (char bit : {'\x01', '\x80'}) {
      std::string hit = all;
      hit[kFrameAlignment + at] = static_cast<char>(hit[kFrameAlignment + at] ^ bit);
      ring.write(hit);
      auto numbers = ring.open();
      if (numbers != Numbers{1, 3}) FAIL("byte " << at << " was changed: " << numbers.size() << " frames");
      if (auto wrong = ring.wrong(200); !wrong.empty()) FAIL("byte " << at << ": " << wrong);
    }
  }
}

TEST_CASE("a payload that looks like a frame is not taken for one", "[journal]") {
  Ring ring(8 * kFrameAlignment);
  ring.open();
  FrameCoder stranger(0, 1);
  std::string image(stranger.encode(Ring::content(1'000, 10)));
  std::string all = ring.bytes();
  all.replace(4 * kFrameAlignment, image.size(), image);
  ring.write(all);
  CHECK(ring.open().empty());
}

TEST_CASE("making it again adds what is missing and leaves what is there", "[journal]") {
  Ring ring;
  ring.open();
  for (int i = 0; i < 3; ++i) REQUIRE(ring.put());
  std::filesystem::resize_file(ring.path(), 2 * kFrameAlignment + 100);
  REQUIRE(Journal::make(ring.path(), 16 * kFrameAlignment).ok());
  CHECK(ring.open() == Numbers{1, 2});
  CHECK(ring.journal->bytes() == 16 * kFrameAlignment);
  CHECK(ring.put());
  CHECK(ring.open() == Numbers{1, 2, 3});
}

TEST_CASE("opening writes the newest frame again: a failed flush may have left it in the page cache only",
          "[journal]") {
  Ring ring;
  ring.open();
  REQUIRE(ring.put());
  REQUIRE(ring.put());
  auto before = ring.bytes();
  const std::filesystem::file_time_type long_ago{};
  std::filesystem::last_write_time(ring.path(), long_ago);
  CHECK(ring.open() == std::vector<std::uint64_t>{1, 2});
  CHECK(std::filesystem::last_write_time(ring.path()) != long_ago);
  CHECK(ring.bytes() == before);
}

TEST_CASE("a journal that cannot be made says why", "[journal]") {
  TempDir folder;
  auto made = Journal::make(folder.path() / "no" / "journal", 1 << 20);
  REQUIRE_FALSE(made.ok());
  CHECK(made.error().what.find("no/journal: cannot make it: No such file or directory") != std::string::npos);
}

}  // namespace journal_test
}  // namespace
}  // namespace penstock
