// Packer: turns the records of one lane into page-sized blocks, keeping the newest block open.
//
// While the newest block has room, the next commit rewrites it under the same key with more records; so a commit of one
// record does not cost a page for ever. pack() works on a draft; accept() makes it so once the commit has returned, and
// without accept() nothing has happened. The writer's thread only.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "buffer/block.h"

namespace penstock {

struct Row {
  std::string key;
  std::string value;
};

class Packer {
 public:
  /// Appends to `rows` what must be written so that `records`, numbered from `next` on, are in the store. `stamp` is
  /// that of every new block.
  void pack(std::span<const Record* const> records, Sequence next, const BlockStamp& stamp, BlockCoder& coder,
            std::vector<Row>& rows);
  void accept();
  /// The next record begins a new block.
  void close();

  bool open() const { return open_.count() != 0; }
  Sequence open_first() const { return open_first_; }
  Sequence open_last() const { return Sequence(open_first_.value() + open_.count() - 1); }
  /// Writes the open block again as it is: what lies on disk was found damaged.
  void rewrite(BlockCoder& coder, std::vector<Row>& rows) const;

  /// Stored bytes per raw byte, of late.
  double ratio() const { return ratio_; }

 private:
  std::size_t settle_overflow(std::size_t kept, std::size_t stored, const BlockStamp& stamp, BlockCoder& coder,
                              std::vector<Row>& rows);
  std::size_t probe_at(std::size_t room) const;

  BlockBuilder open_, draft_;
  Sequence open_first_, draft_first_;
  BlockStamp open_stamp_, draft_stamp_;
  double ratio_ = 0.3;
};

}  // namespace penstock
