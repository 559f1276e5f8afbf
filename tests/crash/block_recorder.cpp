// A disk that records: block_recorder FOLDER BYTES LOG mounts a file system (FUSE) on FOLDER with two files and serves it
// until it is unmounted, or its parent is gone.
//
//   disk   so many bytes, in RAM, for a loop device. Each write and each flush that arrives is an entry of LOG (recording.h)
//   said   what is written to it is an entry, too. So whoever writes reports to it and goes on when the write has
//          returned has them in the right order with the writes and flushes of the disk
//
// One thread, and no cache in the kernel (direct_io): the order of the log is the order in which requests were answered.
#define FUSE_USE_VERSION 31
#include <fcntl.h>
#include <fuse.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tests/crash/recording.h"

namespace penstock {
namespace {
namespace block_recorder {

constexpr std::string_view kDisk = "/disk", kSaid = "/said";
std::vector<char> disk;
int log_file = -1;

int append(EntryHeader header, std::string_view payload) {
  constexpr std::string_view name = "disk";
  header.file = 1;
  header.name_bytes = name.size();
  header.payload_bytes = payload.size();
  iovec parts[] = {{&header, sizeof header},
                   {const_cast<char*>(name.data()), name.size()},
                   {const_cast<char*>(payload.data()), payload.size()}};
  auto all = static_cast<ssize_t>(sizeof header + name.size() + payload.size());
  return ::writev(log_file, parts, 3) == all ? 0 : -EIO;
}

bool known(std::string_view path) { return path == kDisk || path == kSaid; }

int get_attributes(const char* path, struct stat* info, fuse_file_info*) {
  *info = {};
  if (std::string_view(path) == "/") {
    info->st_mode = S_IFDIR | 0700;
    return 0;
  }
  if (!known(path)) return -ENOENT;
  info->st_mode = S_IFREG | 0600;
  info->st_nlink = 1;
  info->st_size = path == kDisk ? static_cast<off_t>(disk.size()) : 0;
  return 0;
}

int open(const char* path, fuse_file_info* file) {
  file->direct_io = 1;
  return known(path) ? 0 : -ENOENT;
}

int read(const char* path, char* data, size_t size, off_t offset, fuse_file_info*) {
  if (path != kDisk || static_cast<std::size_t>(offset) >= disk.size()) return 0;
  size = std::min(size, disk.size() - static_cast<std::size_t>(offset));
  std::memcpy(data, disk.data() + offset, size);
  return static_cast<int>(size);
}

int write(const char* path, const char* data, size_t size, off_t offset, fuse_file_info*) {
  if (path == kSaid) {
    int code = append({.what = What::said}, {data, size});
    return code != 0 ? code : static_cast<int>(size);
  }
  if (static_cast<std::size_t>(offset) + size > disk.size()) return -ENOSPC;
  std::memcpy(disk.data() + offset, data, size);
  bool zeros = std::all_of(data, data + size, [](char byte) { return byte == 0; });
  EntryHeader header{.what = What::written};
  header.offset = static_cast<std::uint64_t>(offset);
  header.length = size;
  int code = append(header, zeros ? std::string_view() : std::string_view(data, size));
  return code != 0 ? code : static_cast<int>(size);
}

int flush(const char* path, int, fuse_file_info*) {
  return path == kDisk ? append({.what = What::flushed}, "flush") : 0;
}

int truncate(const char*, off_t, fuse_file_info*) { return 0; }  // O_TRUNC of who opens `said`

}  // namespace block_recorder
}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  using namespace penstock::block_recorder;
  if (argc != 4) return 64;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  disk.resize(std::strtoull(argv[2], nullptr, 10));
  log_file = ::open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  penstock::EntryHeader whole{.what = penstock::What::truncated};
  whole.length = disk.size();
  if (log_file < 0 || append({.what = penstock::What::created}, {}) != 0 || append(whole, {}) != 0) {
    std::fprintf(stderr, "block_recorder: cannot write %s\n", argv[3]);
    return 1;
  }
  fuse_operations operations{};
  operations.getattr = get_attributes;
  operations.open = penstock::block_recorder::open;
  operations.read = penstock::block_recorder::read;
  operations.write = penstock::block_recorder::write;
  operations.fsync = flush;
  operations.truncate = penstock::block_recorder::truncate;
  std::string options[] = {argv[0], "-f", "-s", argv[1]};
  char* words[] = {options[0].data(), options[1].data(), options[2].data(), options[3].data(), nullptr};
  return fuse_main(4, words, &operations, nullptr);
}
