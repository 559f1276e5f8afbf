#include <zstd.h>

#include <algorithm>

#include "buffer/block.h"
#include "buffer/bytes.h"

namespace penstock {
namespace {

void append_varint(std::string& to, std::uint64_t value) {
  while (value >= 0x80) {
    to += static_cast<char>(value | 0x80);
    value >>= 7;
  }
  to += static_cast<char>(value);
}

void append_signed(std::string& to, std::uint64_t difference) {
  auto value = static_cast<std::int64_t>(difference);
  append_varint(to, (difference << 1) ^ static_cast<std::uint64_t>(value >> 63));
}

void append_string(std::string& to, std::string_view text) {
  append_varint(to, text.size());
  to += text;
}

void encode_origin(std::string& to, const Record& record) {
  to.clear();
  append_string(to, record.driver);
  append_string(to, record.stream);
  append_string(to, record.key);
  append_string(to, record.content_type);
  append_varint(to, record.headers.size());
  for (const auto& header : record.headers) {
    append_string(to, header.name);
    append_string(to, header.value);
  }
}

// Differences wrap instead of overflowing: any two times come back as they were.
std::uint64_t ticks_of(WallTime time) { return static_cast<std::uint64_t>(time.time_since_epoch().count()); }
std::uint64_t ticks_of(BootTime time) { return static_cast<std::uint64_t>(time.count()); }

std::string make_value(const BlockHeader& header, std::string_view payload) {
  std::string value(kBlockHeaderBytes + payload.size(), '\0');
  char* at = value.data();
  std::copy_n("PSBK", 4, at);
  at[4] = 1;
  at[5] = header.compressed ? 1 : 0;
  at[6] = static_cast<char>((header.fragments != 0 ? 1 : 0) | (header.stamp.dead_letter ? 2 : 0));
  auto put_id = [&](std::size_t offset, const auto& id) { std::copy(id.bytes.begin(), id.bytes.end(), at + offset); };
  put_id(16, header.stamp.epoch);
  put_id(32, header.stamp.run);
  put_id(48, header.stamp.boot);
  store_little(at + 64, number(header.stamp.lane));
  store_little(at + 66, header.fragment);
  store_little(at + 68, header.fragments);
  store_little(at + 72, header.count);
  store_little(at + 76, header.raw_length);
  store_little(at + 80, static_cast<std::uint32_t>(payload.size()));
  store_little(at + 88, header.first.value());
  store_little(at + 96, header.last.value());
  store_little(at + 104, ticks_of(header.wall_base));
  store_little(at + 112, ticks_of(header.boot_base));
  std::copy(payload.begin(), payload.end(), at + kBlockHeaderBytes);
  store_little<std::uint64_t>(at + 8, block_checksum(value));
  return value;
}

BlockHeader header_of(const BlockStamp& stamp, Sequence first, const BlockBuilder& records, bool compressed) {
  BlockHeader header;
  header.stamp = stamp;
  header.first = first;
  header.last = Sequence(first.value() + records.count() - 1);
  header.count = static_cast<std::uint32_t>(records.count());
  header.raw_length = static_cast<std::uint32_t>(records.raw_bytes());
  header.compressed = compressed;
  header.wall_base = records.wall_base();
  header.boot_base = records.boot_base();
  return header;
}

}  // namespace

void BlockBuilder::append(const Record& record) {
  if (ends_.empty()) {
    wall_base_ = wall_ = record.time;
    boot_base_ = boottime_ = record.boottime;
  }
  encode_origin(scratch_, record);
  bool same_origin = !ends_.empty() && scratch_ == origin_;
  unsigned flags = static_cast<unsigned>(record.kind) | static_cast<unsigned>(record.quality) << 2;
  if (record.time_source == TimeSource::device) flags |= 1u << 4;
  if (record.synchronised) flags |= 1u << 5;
  if (same_origin) flags |= 1u << 6;
  if (record.retried) flags |= 1u << 7;
  raw_ += static_cast<char>(flags);
  if (!same_origin) {
    raw_ += scratch_;
    origin_.swap(scratch_);
  }
  std::uint64_t boot_step = ticks_of(record.boottime) - ticks_of(boottime_);
  append_signed(raw_, boot_step);
  append_signed(raw_, ticks_of(record.time) - ticks_of(wall_) - boot_step);
  append_string(raw_, record.payload);
  wall_ = record.time;
  boottime_ = record.boottime;
  ends_.push_back(static_cast<std::uint32_t>(raw_.size()));
}

void BlockBuilder::cut(std::size_t count) {
  if (count >= ends_.size()) return;
  ends_.resize(count);
  raw_.resize(count == 0 ? 0 : ends_.back());
}

void BlockBuilder::clear() {
  raw_.clear();
  ends_.clear();
}

std::size_t BlockBuilder::count_within(std::size_t raw_bytes) const {
  return static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), raw_bytes) - ends_.begin());
}

struct BlockCoder::Context {
  ZSTD_CCtx* zstd = ZSTD_createCCtx();
  ~Context() { ZSTD_freeCCtx(zstd); }
};

BlockCoder::BlockCoder(int level, std::size_t value_bytes)
    : level_(level), room_(value_bytes - kBlockHeaderBytes), context_(std::make_unique<Context>()) {}

BlockCoder::~BlockCoder() = default;

std::string_view BlockCoder::compress(std::string_view raw, bool* compressed) {
  *compressed = false;
  if (level_ == 0 || context_->zstd == nullptr) return raw;
  compressed_.resize(ZSTD_compressBound(raw.size()));
  auto size = ZSTD_compressCCtx(context_->zstd, compressed_.data(), compressed_.size(), raw.data(), raw.size(), level_);
  if (ZSTD_isError(size) || size >= raw.size()) return raw;
  *compressed = true;
  return std::string_view(compressed_).substr(0, size);
}

BlockCoder::Encoded BlockCoder::encode(const BlockStamp& stamp, Sequence first, const BlockBuilder& records) {
  bool compressed = false;
  std::string_view payload = records.raw();
  if (payload.size() > room_) payload = compress(payload, &compressed);
  Encoded result;
  result.stored_length = payload.size();
  if (payload.size() <= room_) result.value = make_value(header_of(stamp, first, records, compressed), payload);
  return result;
}

std::vector<std::string> BlockCoder::fragments(const BlockStamp& stamp, Sequence sequence, const BlockBuilder& record) {
  bool compressed = false;
  std::string_view payload = compress(record.raw(), &compressed);
  std::size_t pieces = (payload.size() + room_ - 1) / room_;
  std::vector<std::string> values;
  if (pieces > 0xffff) return values;
  BlockHeader header = header_of(stamp, sequence, record, compressed);
  header.fragments = static_cast<std::uint16_t>(pieces);
  for (std::size_t i = 0; i < pieces; ++i) {
    header.fragment = static_cast<std::uint16_t>(i);
    values.push_back(make_value(header, payload.substr(i * room_, room_)));
  }
  return values;
}

}  // namespace penstock
