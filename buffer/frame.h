// Frame: what one commit changed, as one piece of the journal: records of any lanes and small rows; compressed,
// checksummed, a multiple of 4 KiB long. The layout is in docs/formats.md, "The journal".
//
// A FrameCoder makes frames, a FrameReader takes them apart. Each belongs to one thread at a time. Decoding trusts
// nothing: whatever the bytes are, the answer is what was put in or an error.
//
// Frames have no zstd dictionary: one would make a frame of fewer than 100 records smaller than the 4 KiB it takes anyhow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "buffer/block.h"

namespace penstock {

/// Frames begin and end on this boundary: a device writes whole blocks, and what is acknowledged is never written again.
inline constexpr std::size_t kFrameAlignment = 4096;

/// Small rows of the store (keys of meta.h), in order; no value: erased.
using Rows = std::vector<std::pair<std::string, std::optional<std::string>>>;

/// The records of one lane in one frame.
struct FrameSpan {
  Lane lane{};
  Sequence first;
  std::uint32_t count = 0;
  std::uint32_t raw_bytes = 0;  // of the records, delta-coded as in a block
  WallTime wall_base{};
  BootTime boot_base{};
  Sequence last() const { return Sequence(first.value() + count - 1); }
};

struct FrameHeader {
  std::uint64_t number = 0;  // 1, 2, 3... in the life of a store
  Epoch epoch;               // the store's newest when the frame was written
  Run run;
  Boot boot;
  std::vector<FrameSpan> spans;
  bool compressed = false;
  std::uint32_t raw_length = 0, stored_length = 0;  // of the payload
  /// Of the whole frame, without padding.
  std::size_t bytes() const;
};

/// What a frame is made of.
struct FrameContent {
  std::uint64_t number = 0;
  Epoch epoch;
  Run run;
  Boot boot;
  struct Part {
    Lane lane{};
    Sequence first;
    BlockBuilder records;
  };
  std::vector<Part> parts;
  Rows rows;
  std::size_t raw_bytes() const;
};

class FrameCoder {
 public:
  /// `level`: zstd's, 0 = off. `seed`: of the journal's checksums.
  FrameCoder(int level, std::uint64_t seed);
  ~FrameCoder();
  FrameCoder(const FrameCoder&) = delete;
  FrameCoder& operator=(const FrameCoder&) = delete;

  /// The frame, padded. The view holds until the next call.
  std::string_view encode(const FrameContent& content);

 private:
  struct Context;
  const int level_;
  const std::uint64_t seed_;
  std::unique_ptr<Context> context_;
  std::string raw_, frame_;
};

/// The header of a frame that begins where `bytes` does; without a look at its checksum, for which all of its bytes
/// must be there. Nothing: no frame begins here.
std::optional<FrameHeader> parse_frame_header(std::string_view bytes);
/// `frame` is header.bytes() long at least.
bool frame_is_whole(std::string_view frame, const FrameHeader& header, std::uint64_t seed);

class FrameReader {
 public:
  explicit FrameReader(std::uint64_t seed);
  ~FrameReader();
  FrameReader(const FrameReader&) = delete;
  FrameReader& operator=(const FrameReader&) = delete;

  /// Checks and unpacks. `frame` may go afterwards.
  Result<FrameHeader> open(std::string_view frame);
  /// The small rows of the frame that was opened.
  Result<Rows> rows() const;
  /// The records of its `index`-th span, as BlockReader takes them.
  std::string_view records(std::size_t index) const;

 private:
  struct Context;
  const std::uint64_t seed_;
  std::unique_ptr<Context> context_;
  FrameHeader header_;
  std::string unpacked_;
  std::size_t rows_bytes_ = 0;
};

}  // namespace penstock
