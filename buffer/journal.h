// Journal: a ring of frames in a file that was written full of zeros once. What makes a commit durable: one write, one
// flush, into space that is neither grown nor allocated.
//
// A frame is written where nothing needed lies: behind the newest one, or again at the beginning when the end is too
// near. Its slots are free again when release() says that all up to it is elsewhere (in LMDB, and durable).
//
// Threads: one writer; read() from any thread. What a reader finds overwritten meanwhile it can tell by the number.
//
// A crash at any instant leaves every frame whose append() returned, and of the one in progress all or a torn piece,
// which open() does not take for a frame. A frame that has gone bad is missing from found() while later ones are there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/descriptor.h"
#include "buffer/frame.h"
#include "buffer/result.h"

namespace penstock {

/// Where a frame lies.
struct FramePlace {
  std::uint64_t number = 0;
  std::uint64_t offset = 0;
  std::uint32_t bytes = 0;  // with padding
};

class Journal {
 public:
  /// Zeros on disk, up to `bytes`; what is there already stays as it is. So it can be made, taken up after a crash in the
  /// middle, and made whole again when it was cut off. `full`: the disk has no room.
  static Result<void> make(const std::filesystem::path& path, std::uint64_t bytes);

  /// A frame that open() found.
  struct Found {
    FramePlace place;
    FrameHeader header;
  };
  /// Reads every frame, and brings the newest to disk, whatever a killed process or a failed flush has left of it.
  /// `broken`: it cannot be read; an unreadable sector is no error, its frame is missing.
  static Result<std::unique_ptr<Journal>> open(const std::filesystem::path& path, std::uint64_t seed);

  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// The whole frames above `after`, by number; from now on nothing at or below `after` is needed. No frame up to `last`
  /// is written again, even if it is not there. Once, after open().
  std::vector<Found> recover(std::uint64_t after, std::uint64_t last);

  // --- the writer
  std::uint64_t bytes() const { return bytes_; }
  /// Bytes between the oldest frame that is needed and the newest one's end.
  std::uint64_t used_bytes() const;
  /// The number of the newest frame.
  std::uint64_t last() const { return last_; }
  /// True if a frame of so many bytes finds a place now.
  bool fits(std::size_t bytes) const { return place_for(bytes).has_value(); }
  /// Writes the frame numbered last() + 1, for which there must be a place. Durable when it returns. `full`: the disk
  /// has no room for it, which only one that copies on write can say; nothing has changed. `broken`: it could not be
  /// written, not even a second time elsewhere.
  Result<FramePlace> append(std::string_view frame);
  /// Frames up to this one are needed no more.
  void release(std::uint64_t number);

  // --- any thread
  /// The bytes at that place, whatever they are by now. `broken`: unreadable.
  Result<void> read(const FramePlace& place, std::string& bytes) const;

 private:
  Journal(std::filesystem::path path, Descriptor file, std::uint64_t bytes)
      : path_(std::move(path)), file_(std::move(file)), bytes_(bytes) {}
  Result<void> scan(std::uint64_t seed);
  Result<void> write_newest_again() const;
  std::optional<std::uint64_t> place_for(std::size_t bytes) const;
  int write_at(std::string_view frame, std::uint64_t offset) const;

  const std::filesystem::path path_;
  const Descriptor file_;
  const std::uint64_t bytes_;
  std::uint64_t head_ = 0;  // where the next frame goes, if it fits before the end
  std::uint64_t last_ = 0;
  std::deque<FramePlace> needed_;
  std::vector<Found> found_;
};

}  // namespace penstock
