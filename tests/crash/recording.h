// The recording of what a process does to the files of one directory, and of what it says: written by write_recorder,
// read by RecordedDisk. One entry after the other, in the order in which things happened; each is a header, a name and a
// payload. Host byte order: it never leaves the machine.
#pragma once

#include <cstdint>
#include <string_view>

namespace penstock {

enum class What : std::uint32_t {
  said = 1,   // payload: what went to stdout
  written,    // to `file` at `offset`: the payload, or `length` zeros if there is none
  truncated,  // `file` to `length`
  flushed,    // `file`, by the call that the payload names
  created,    // `file` as `name` in `folder`
  made,       // the folder `file` as `name` in `folder`
  removed,    // `name` in `folder`
  renamed,    // `name` in `folder` to what the payload says, in the same folder
  mapped,     // `file`, shared and writable: what is stored through it is not seen
};

struct EntryHeader {
  static constexpr std::uint32_t kMagic = 0x43'45'52'50;
  std::uint32_t magic = kMagic;
  What what{};
  std::uint64_t file = 0, folder = 0;  // inode numbers
  std::uint64_t offset = 0, length = 0;
  std::uint32_t synced = 0;  // written: on disk when the call returned (O_DSYNC)
  std::uint32_t name_bytes = 0;
  std::uint64_t payload_bytes = 0;
};

struct Entry {
  EntryHeader header;
  std::string_view name;  // of the file, without its folder
  std::string_view payload;
};

}  // namespace penstock
