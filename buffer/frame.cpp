#include "buffer/frame.h"

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include <fmt/format.h>

#include <algorithm>

#include "buffer/bytes.h"

namespace penstock {
namespace {

constexpr std::size_t kHeaderBytes = 80, kSpanBytes = 40;
constexpr std::uint32_t kErased = 0xffffffff;
// No commit of the writer comes near; a header that says more is no header.
constexpr std::uint32_t kMostPayloadBytes = std::uint32_t{256} << 20;

template <class IdType>
IdType frame_id_at(const char* at) {
  IdType id;
  std::copy_n(reinterpret_cast<const std::uint8_t*>(at), id.bytes.size(), id.bytes.begin());
  return id;
}

template <class Int>
void append_little(std::string& to, Int value) {
  char bytes[sizeof(Int)];
  store_little(bytes, value);
  to.append(bytes, sizeof bytes);
}

std::uint64_t frame_checksum(std::string_view frame, std::uint64_t seed) {
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_64bits_reset_withSeed(&state, seed);
  XXH3_64bits_update(&state, frame.data(), 8);
  XXH3_64bits_update(&state, frame.data() + 16, frame.size() - 16);
  return XXH3_64bits_digest(&state);
}

std::size_t padded(std::size_t bytes) { return (bytes + kFrameAlignment - 1) / kFrameAlignment * kFrameAlignment; }

void append_rows(std::string& to, const Rows& rows) {
  append_little(to, static_cast<std::uint32_t>(rows.size()));
  for (const auto& [key, value] : rows) {
    append_little(to, static_cast<std::uint16_t>(key.size()));
    append_little(to, value ? static_cast<std::uint32_t>(value->size()) : kErased);
    to += key;
    if (value) to += *value;
  }
}

/// Where the rows end and the records begin; nothing: they do not end inside. With `rows`, they are put there.
std::optional<std::size_t> walk_rows(std::string_view payload, Rows* rows) {
  if (payload.size() < 4) return std::nullopt;
  std::size_t at = 4;
  for (auto left = load_little<std::uint32_t>(payload.data()); left > 0; --left) {
    if (payload.size() - at < 6) return std::nullopt;
    std::size_t key = load_little<std::uint16_t>(payload.data() + at);
    auto value = load_little<std::uint32_t>(payload.data() + at + 2);
    at += 6;
    std::size_t length = value == kErased ? 0 : value;
    if (payload.size() - at < key || payload.size() - at - key < length) return std::nullopt;
    if (rows != nullptr) {
      auto& [name, content] = rows->emplace_back(payload.substr(at, key), std::nullopt);
      if (value != kErased) content.emplace(payload.substr(at + key, length));
    }
    at += key + length;
  }
  return at;
}

Error not_whole(std::string_view why) { return broken(fmt::format("damaged frame: {}", why)); }

}  // namespace

std::size_t FrameHeader::bytes() const { return kHeaderBytes + kSpanBytes * spans.size() + stored_length; }

std::size_t FrameContent::raw_bytes() const {
  std::size_t sum = 0;
  for (const auto& part : parts) sum += part.records.raw_bytes();
  for (const auto& [key, value] : rows) sum += key.size() + (value ? value->size() : 0);
  return sum;
}

struct FrameCoder::Context {
  ZSTD_CCtx* zstd = ZSTD_createCCtx();
  ~Context() { ZSTD_freeCCtx(zstd); }
};

FrameCoder::FrameCoder(int level, std::uint64_t seed)
    : level_(level), seed_(seed), context_(std::make_unique<Context>()) {}
FrameCoder::~FrameCoder() = default;

std::string_view FrameCoder::encode(const FrameContent& content) {
  raw_.clear();
  append_rows(raw_, content.rows);
  for (const auto& part : content.parts) raw_ += part.records.raw();

  const std::size_t head = kHeaderBytes + kSpanBytes * content.parts.size();
  frame_.assign(head, '\0');
  char* at = frame_.data();
  std::copy_n("PSJF", 4, at);
  at[4] = 1;
  store_little(at + 6, static_cast<std::uint16_t>(content.parts.size()));
  store_little(at + 16, content.number);
  store_little(at + 24, static_cast<std::uint32_t>(raw_.size()));
  auto put_id = [&](std::size_t offset, const auto& id) { std::copy(id.bytes.begin(), id.bytes.end(), at + offset); };
  put_id(32, content.epoch);
  put_id(48, content.run);
  put_id(64, content.boot);
  for (std::size_t i = 0; i < content.parts.size(); ++i) {
    const auto& part = content.parts[i];
    char* span = at + kHeaderBytes + kSpanBytes * i;
    store_little(span, number(part.lane));
    store_little(span + 4, static_cast<std::uint32_t>(part.records.count()));
    store_little(span + 8, part.first.value());
    store_little(span + 16, static_cast<std::int64_t>(part.records.wall_base().time_since_epoch().count()));
    store_little(span + 24, static_cast<std::int64_t>(part.records.boot_base().count()));
    store_little(span + 32, static_cast<std::uint32_t>(part.records.raw_bytes()));
  }

  std::size_t stored = raw_.size();
  // What fits in the frame's first 4 KiB as it is is not compressed: the device writes them anyhow.
  if (level_ != 0 && context_->zstd != nullptr && head + raw_.size() > kFrameAlignment) {
    frame_.resize(head + ZSTD_compressBound(raw_.size()));
    auto size =
        ZSTD_compressCCtx(context_->zstd, frame_.data() + head, frame_.size() - head, raw_.data(), raw_.size(), level_);
    if (!ZSTD_isError(size) && size < raw_.size()) {
      stored = size;
      frame_[5] = 1;
    }
  }
  if (frame_[5] == 0) {
    frame_.resize(head);
    frame_ += raw_;
  }
  store_little(frame_.data() + 28, static_cast<std::uint32_t>(stored));
  frame_.resize(head + stored);
  store_little<std::uint64_t>(frame_.data() + 8, frame_checksum(frame_, seed_));
  frame_.resize(padded(frame_.size()));
  return frame_;
}

std::optional<FrameHeader> parse_frame_header(std::string_view bytes) {
  if (bytes.size() < kHeaderBytes || bytes.substr(0, 4) != "PSJF" || bytes[4] != 1) return std::nullopt;
  const char* at = bytes.data();
  auto codec = static_cast<unsigned char>(at[5]);
  std::size_t spans = load_little<std::uint16_t>(at + 6);
  if (codec > 1 || bytes.size() < kHeaderBytes + kSpanBytes * spans) return std::nullopt;
  FrameHeader header;
  header.compressed = codec == 1;
  header.number = load_little<std::uint64_t>(at + 16);
  header.raw_length = load_little<std::uint32_t>(at + 24);
  header.stored_length = load_little<std::uint32_t>(at + 28);
  header.epoch = frame_id_at<Epoch>(at + 32);
  header.run = frame_id_at<Run>(at + 48);
  header.boot = frame_id_at<Boot>(at + 64);
  if (header.number == 0 || header.raw_length > kMostPayloadBytes || header.stored_length > header.raw_length)
    return std::nullopt;
  for (std::size_t i = 0; i < spans; ++i) {
    const char* span = at + kHeaderBytes + kSpanBytes * i;
    FrameSpan found;
    found.lane = Lane{load_little<std::uint16_t>(span)};
    found.count = load_little<std::uint32_t>(span + 4);
    found.first = Sequence(load_little<std::uint64_t>(span + 8));
    found.wall_base = WallTime(std::chrono::microseconds(load_little<std::int64_t>(span + 16)));
    found.boot_base = BootTime(load_little<std::int64_t>(span + 24));
    found.raw_bytes = load_little<std::uint32_t>(span + 32);
    bool wraps = found.first.value() > Sequence::max().value() - found.count;
    if (found.count == 0 || found.first == Sequence() || wraps) return std::nullopt;
    header.spans.push_back(found);
  }
  return header;
}

bool frame_is_whole(std::string_view frame, const FrameHeader& header, std::uint64_t seed) {
  if (frame.size() < header.bytes()) return false;
  return load_little<std::uint64_t>(frame.data() + 8) == frame_checksum(frame.substr(0, header.bytes()), seed);
}

struct FrameReader::Context {
  ZSTD_DCtx* zstd = ZSTD_createDCtx();
  ~Context() { ZSTD_freeDCtx(zstd); }
};

FrameReader::FrameReader(std::uint64_t seed) : seed_(seed), context_(std::make_unique<Context>()) {}
FrameReader::~FrameReader() = default;

Result<FrameHeader> FrameReader::open(std::string_view frame) {
  header_ = {};
  auto header = parse_frame_header(frame);
  if (!header) return not_whole("no header");
  if (!frame_is_whole(frame, *header, seed_)) return not_whole("checksum");
  std::string_view stored = frame.substr(header->bytes() - header->stored_length, header->stored_length);
  if (!header->compressed) {
    if (header->raw_length != header->stored_length) return not_whole("raw length");
    unpacked_.assign(stored);
  } else {
    if (ZSTD_getFrameContentSize(stored.data(), stored.size()) != header->raw_length) return not_whole("frame length");
    unpacked_.resize(header->raw_length);
    auto size = ZSTD_decompressDCtx(context_->zstd, unpacked_.data(), unpacked_.size(), stored.data(), stored.size());
    if (ZSTD_isError(size) || size != header->raw_length) return not_whole("zstd frame");
  }
  auto rows = walk_rows(unpacked_, nullptr);
  if (!rows) return not_whole("rows");
  std::size_t sum = *rows;
  for (const auto& span : header->spans) sum += span.raw_bytes;
  if (sum != unpacked_.size()) return not_whole("lengths of the records");
  rows_bytes_ = *rows;
  header_ = *header;
  return header_;
}

Result<Rows> FrameReader::rows() const {
  Rows rows;
  if (!walk_rows(unpacked_, &rows)) return not_whole("rows");
  return rows;
}

std::string_view FrameReader::records(std::size_t index) const {
  std::size_t at = rows_bytes_;
  for (std::size_t i = 0; i < index; ++i) at += header_.spans[i].raw_bytes;
  return std::string_view(unpacked_).substr(at, header_.spans[index].raw_bytes);
}

}  // namespace penstock
