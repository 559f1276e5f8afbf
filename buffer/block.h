// Block: a run of consecutive records of one lane as one value of the store; encoded, compressed, checksummed.
// The layout is in docs/formats.md.
//
// A BlockBuilder collects records, a BlockCoder makes values of them, a BlockReader takes values apart. Each belongs to
// one thread at a time. Decoding trusts nothing: whatever the bytes are, the answer is the records that were put in or
// an error, and memory stays below kMostRecordBytes and a little.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/identity.h"
#include "buffer/record.h"
#include "buffer/result.h"

namespace penstock {

inline constexpr std::size_t kBlockHeaderBytes = 120;
/// No record may be larger, whatever the configuration says.
inline constexpr std::size_t kMostRecordBytes = std::size_t{64} << 20;
/// A block of several records is closed at this size before compression, however well it compresses.
inline constexpr std::size_t kMostRawBytes = std::size_t{256} << 10;

/// What a block says about itself besides its records.
struct BlockStamp {
  Epoch epoch;
  Run run;
  Boot boot;
  Lane lane{};
  bool dead_letter = false;  // it holds one record that was set aside, and is no part of its lane
  bool operator==(const BlockStamp&) const = default;
};

struct BlockHeader {
  BlockStamp stamp;
  Sequence first, last;
  std::uint32_t count = 0;
  std::uint32_t raw_length = 0;     // of the decoded payload; of a fragment: of the whole record
  std::uint32_t stored_length = 0;  // of the payload in this value
  bool compressed = false;
  std::uint16_t fragment = 0, fragments = 0;  // fragments = 0: a block of whole records
  WallTime wall_base{};
  BootTime boot_base{};
};

/// Records one after another, delta-coded, not yet compressed. A plain value.
class BlockBuilder {
 public:
  void append(const Record& record);
  /// Keeps the first `count` records. Only clear() may follow: the deltas of what would come next are gone.
  void cut(std::size_t count);
  void clear();

  std::size_t count() const { return ends_.size(); }
  std::size_t raw_bytes() const { return raw_.size(); }
  /// How many of the first records lie within that many raw bytes.
  std::size_t count_within(std::size_t raw_bytes) const;

  std::string_view raw() const { return raw_; }
  WallTime wall_base() const { return wall_base_; }
  BootTime boot_base() const { return boot_base_; }

 private:
  std::string raw_;
  std::vector<std::uint32_t> ends_;  // of each record in raw_
  std::string origin_, scratch_;     // encoded origin of the last record
  WallTime wall_base_{}, wall_{};
  BootTime boot_base_{}, boottime_{};
};

class BlockCoder {
 public:
  /// `level`: zstd's, 0 = off. `value_bytes`: the longest value that fills one page.
  BlockCoder(int level, std::size_t value_bytes);
  ~BlockCoder();
  BlockCoder(const BlockCoder&) = delete;
  BlockCoder& operator=(const BlockCoder&) = delete;

  /// Payload bytes that fit in one value.
  std::size_t room() const { return room_; }

  struct Encoded {
    std::string value;              // empty: it does not fit
    std::size_t stored_length = 0;  // what the payload takes, or would take
  };
  /// Records that fit without compression are not compressed: a page is a page.
  Encoded encode(const BlockStamp& stamp, Sequence first, const BlockBuilder& records);
  /// One record too large for a page, cut into values of at most one page each. Empty: more than 65,535 would be
  /// needed.
  std::vector<std::string> fragments(const BlockStamp& stamp, Sequence sequence, const BlockBuilder& record);

 private:
  struct Context;
  /// The shorter of the raw bytes and their compression; says which.
  std::string_view compress(std::string_view raw, bool* compressed);

  const int level_;
  const std::size_t room_;
  std::unique_ptr<Context> context_;
  std::string compressed_;
};

/// What belongs at offset 8 of a value of at least kBlockHeaderBytes.
std::uint64_t block_checksum(std::string_view value);
/// The header of one value, if the value is whole: magic, version, lengths and checksum hold.
Result<BlockHeader> check_block(std::string_view value);

class BlockReader {
 public:
  BlockReader();
  ~BlockReader();
  BlockReader(const BlockReader&) = delete;
  BlockReader& operator=(const BlockReader&) = delete;

  /// Checks and unpacks a block, or all fragments of a record in their order. `values` must outlive the reading.
  Result<BlockHeader> open(std::string_view value);
  Result<BlockHeader> open(std::span<const std::string_view> fragments);
  /// Records that lie unpacked already, as in a frame of the journal; `raw` must outlive the reading.
  void open_raw(std::string_view raw, std::uint32_t count, WallTime wall_base, BootTime boot_base);
  /// The next record; false after the last one. An error makes the whole block damaged.
  Result<bool> next(Record& record);

 private:
  struct Context;
  Result<void> unpack(const BlockHeader& header, std::string_view stored);

  std::unique_ptr<Context> context_;
  std::string unpacked_, joined_;
  const char* at_ = nullptr;
  const char* end_ = nullptr;
  std::uint32_t left_ = 0;
  bool first_ = true;
  Record before_;  // the origin and times of the record before
};

}  // namespace penstock
