#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include <fmt/format.h>

#include <algorithm>

#include "buffer/block.h"
#include "buffer/bytes.h"

namespace penstock {
namespace {

// Flags, boot time, time, payload length: no record is shorter.
constexpr std::size_t kLeastRecordBytes = 4;
constexpr std::size_t kMostBlockRawBytes = kMostRecordBytes + (std::size_t{1} << 20);

template <class IdType>
IdType id_at(const char* at) {
  IdType id;
  std::copy_n(reinterpret_cast<const std::uint8_t*>(at), id.bytes.size(), id.bytes.begin());
  return id;
}

Error damaged(std::string_view why) { return broken(fmt::format("damaged block: {}", why)); }

// A parser over one decoded payload; every read says whether it stayed inside.
bool take_varint(const char*& at, const char* end, std::uint64_t& value) {
  value = 0;
  for (unsigned shift = 0; at != end && shift < 64; shift += 7) {
    auto byte = static_cast<unsigned char>(*at++);
    if (shift == 63 && byte > 1) return false;
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool take_signed(const char*& at, const char* end, std::uint64_t& difference) {
  std::uint64_t value = 0;
  if (!take_varint(at, end, value)) return false;
  difference = (value >> 1) ^ (~(value & 1) + 1);
  return true;
}

bool take_string(const char*& at, const char* end, std::string& text) {
  std::uint64_t length = 0;
  if (!take_varint(at, end, length) || length > static_cast<std::size_t>(end - at)) return false;
  text.assign(at, static_cast<std::size_t>(length));
  at += length;
  return true;
}

bool take_origin(const char*& at, const char* end, Record& record) {
  std::uint64_t headers = 0;
  if (!take_string(at, end, record.driver) || !take_string(at, end, record.stream) ||
      !take_string(at, end, record.key) || !take_string(at, end, record.content_type) ||
      !take_varint(at, end, headers)) {
    return false;
  }
  record.headers.clear();  // grown one by one: a count alone must not claim memory
  for (; headers > 0; --headers) {
    Header& header = record.headers.emplace_back();
    if (!take_string(at, end, header.name) || !take_string(at, end, header.value)) return false;
  }
  return true;
}

WallTime plus(WallTime time, std::uint64_t step) {
  return WallTime(std::chrono::microseconds(
      static_cast<std::int64_t>(static_cast<std::uint64_t>(time.time_since_epoch().count()) + step)));
}

BootTime plus(BootTime time, std::uint64_t step) {
  return BootTime(static_cast<std::int64_t>(static_cast<std::uint64_t>(time.count()) + step));
}

}  // namespace

std::uint64_t block_checksum(std::string_view value) { return XXH3_64bits(value.data() + 16, value.size() - 16); }

Result<BlockHeader> check_block(std::string_view value) {
  if (value.size() < kBlockHeaderBytes) return damaged(fmt::format("{} bytes are less than a header", value.size()));
  const char* at = value.data();
  if (value.substr(0, 4) != "PSBK") return damaged("no magic");
  if (at[4] != 1) return damaged(fmt::format("version {}", static_cast<unsigned char>(at[4])));
  auto codec = static_cast<unsigned char>(at[5]);
  auto flags = static_cast<unsigned char>(at[6]);
  if (codec > 1 || flags > 3 || at[7] != 0) return damaged("unknown codec or flags");
  if (load_little<std::uint64_t>(at + 8) != block_checksum(value)) return damaged("checksum");

  BlockHeader header;
  header.stamp = {id_at<Epoch>(at + 16), id_at<Run>(at + 32), id_at<Boot>(at + 48),
                  Lane{load_little<std::uint16_t>(at + 64)}, (flags & 2) != 0};
  header.fragment = load_little<std::uint16_t>(at + 66);
  header.fragments = load_little<std::uint16_t>(at + 68);
  header.count = load_little<std::uint32_t>(at + 72);
  header.raw_length = load_little<std::uint32_t>(at + 76);
  header.stored_length = load_little<std::uint32_t>(at + 80);
  header.compressed = codec == 1;
  header.first = Sequence(load_little<std::uint64_t>(at + 88));
  header.last = Sequence(load_little<std::uint64_t>(at + 96));
  header.wall_base = WallTime(std::chrono::microseconds(load_little<std::int64_t>(at + 104)));
  header.boot_base = BootTime(load_little<std::int64_t>(at + 112));

  bool is_fragment = (flags & 1) != 0;
  if (header.stamp.dead_letter && header.count != 1) return damaged("a dead letter of several records");
  if (load_little<std::uint16_t>(at + 70) != 0 || load_little<std::uint32_t>(at + 84) != 0) return damaged("padding");
  if (header.stored_length != value.size() - kBlockHeaderBytes) return damaged("stored length");
  if (header.raw_length > kMostBlockRawBytes) return damaged(fmt::format("raw length {}", header.raw_length));
  if (header.count == 0 || header.count > header.raw_length / kLeastRecordBytes) return damaged("count");
  if (header.first == Sequence() || header.last < header.first ||
      header.last.value() - header.first.value() != header.count - 1) {
    return damaged("sequences");
  }
  if (is_fragment != (header.fragments != 0) || (is_fragment && header.fragment >= header.fragments) ||
      (!is_fragment && header.fragment != 0) || (is_fragment && header.count != 1)) {
    return damaged("fragments");
  }
  if (!is_fragment && header.compressed == (header.raw_length == header.stored_length)) return damaged("codec");
  return header;
}

struct BlockReader::Context {
  ZSTD_DCtx* zstd = ZSTD_createDCtx();
  ~Context() { ZSTD_freeDCtx(zstd); }
};

BlockReader::BlockReader() : context_(std::make_unique<Context>()) {}
BlockReader::~BlockReader() = default;

Result<void> BlockReader::unpack(const BlockHeader& header, std::string_view stored) {
  if (!header.compressed) {
    if (stored.size() != header.raw_length) return damaged("raw length");
    at_ = stored.data();
    end_ = at_ + stored.size();
  } else {
    if (ZSTD_getFrameContentSize(stored.data(), stored.size()) != header.raw_length) return damaged("frame length");
    unpacked_.resize(header.raw_length);
    auto size = ZSTD_decompressDCtx(context_->zstd, unpacked_.data(), unpacked_.size(), stored.data(), stored.size());
    if (ZSTD_isError(size) || size != header.raw_length) return damaged("zstd frame");
    at_ = unpacked_.data();
    end_ = at_ + unpacked_.size();
  }
  open_raw(std::string_view(at_, static_cast<std::size_t>(end_ - at_)), header.count, header.wall_base,
           header.boot_base);
  return {};
}

void BlockReader::open_raw(std::string_view raw, std::uint32_t count, WallTime wall_base, BootTime boot_base) {
  at_ = raw.data();
  end_ = at_ + raw.size();
  left_ = count;
  first_ = true;
  before_ = Record();
  before_.time = wall_base;
  before_.boottime = boot_base;
}

Result<BlockHeader> BlockReader::open(std::string_view value) {
  left_ = 0;
  auto header = check_block(value);
  if (!header) return header.error();
  if (header->fragments != 0) return damaged("a fragment where a block was expected");
  if (auto done = unpack(*header, value.substr(kBlockHeaderBytes)); !done) return done.error();
  return header;
}

Result<BlockHeader> BlockReader::open(std::span<const std::string_view> fragments) {
  left_ = 0;
  if (fragments.empty()) return damaged("no fragments");
  joined_.clear();
  std::optional<BlockHeader> whole;
  for (std::size_t i = 0; i < fragments.size(); ++i) {
    auto header = check_block(fragments[i]);
    if (!header) return header.error();
    if (header->fragments != fragments.size() || header->fragment != i) return damaged("fragments are missing");
    if (!whole) whole = *header;
    if (header->first != whole->first || header->stamp != whole->stamp || header->raw_length != whole->raw_length ||
        header->compressed != whole->compressed) {
      return damaged("fragments of different records");
    }
    joined_ += fragments[i].substr(kBlockHeaderBytes);
  }
  if (whole->compressed == (joined_.size() == whole->raw_length)) return damaged("codec");
  if (auto done = unpack(*whole, joined_); !done) return done.error();
  return *whole;
}

Result<bool> BlockReader::next(Record& record) {
  if (left_ == 0) {
    if (at_ != end_) return damaged("bytes after the last record");
    return false;
  }
  if (at_ == end_) return damaged("a record is cut off");
  auto flags = static_cast<unsigned char>(*at_++);
  bool same_origin = (flags & 1u << 6) != 0;
  if ((flags & 3) > 2 || (flags >> 2 & 3) > 2 || (same_origin && first_)) return damaged("record flags");
  if (!same_origin && !take_origin(at_, end_, before_)) return damaged("a record's origin");
  record.retried = (flags & 1u << 7) != 0;
  if (record.retried && (before_.headers.empty() || before_.headers.back().name != kRetryOf)) {
    return damaged("a retry of nothing");
  }
  std::uint64_t boot_step = 0, extra = 0;
  if (!take_signed(at_, end_, boot_step) || !take_signed(at_, end_, extra) || !take_string(at_, end_, record.payload)) {
    return damaged("a record is cut off");
  }
  before_.boottime = plus(before_.boottime, boot_step);
  before_.time = plus(before_.time, boot_step + extra);
  record.driver = before_.driver;
  record.stream = before_.stream;
  record.key = before_.key;
  record.content_type = before_.content_type;
  record.headers = before_.headers;
  record.time = before_.time;
  record.boottime = before_.boottime;
  record.kind = static_cast<Kind>(flags & 3);
  record.quality = static_cast<Quality>(flags >> 2 & 3);
  record.time_source = (flags & 1u << 4) != 0 ? TimeSource::device : TimeSource::ours;
  record.synchronised = (flags & 1u << 5) != 0;
  first_ = false;
  --left_;
  return true;
}

}  // namespace penstock
