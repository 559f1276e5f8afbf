// PlainLog: the limits a durable queue is measured against. A log file, one write and one fdatasync per group.
//
// `prewritten`: a ring written full of zeros before it is used; each group is one zstd frame (level 1, the store's
// codec), padded to 4 KiB and never written over until the ring comes round. Nothing that makes a group durable on a
// file can do with less than this: one write, one flush.
// `growing`: what most log-structured buffers do: groups as they are, appended to a file that grows.
//
// One thread. The file is removed with the object.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "buffer/record.h"

namespace penstock::bench {

class PlainLog {
 public:
  enum class Shape { prewritten, growing };
  PlainLog(const std::filesystem::path& file, Shape shape, std::uint64_t ring_bytes);
  ~PlainLog();
  PlainLog(const PlainLog&) = delete;
  PlainLog& operator=(const PlainLog&) = delete;

  /// Durable when it returns.
  void commit(std::span<const Record> records);
  /// Bytes of all frames so far, without padding.
  std::uint64_t stored_bytes() const { return stored_; }

 private:
  struct Codec;
  void encode(std::span<const Record> records);

  const std::filesystem::path file_;
  const Shape shape_;
  const std::uint64_t ring_bytes_;
  int descriptor_ = -1;
  std::uint64_t at_ = 0;
  std::uint64_t stored_ = 0;
  std::vector<char> raw_;    // header and records
  std::vector<char> frame_;  // header, zstd frame, padding
  std::size_t length_ = 0;   // of what the next write writes
  std::unique_ptr<Codec> codec_;
};

}  // namespace penstock::bench
