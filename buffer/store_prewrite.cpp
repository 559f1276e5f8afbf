#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "buffer/descriptor.h"
#include "buffer/store_inside.h"

namespace penstock {
namespace {

constexpr std::size_t kZerosAtOnce = std::size_t{64} << 10;

constexpr std::uint64_t kKeepFreePart = 10;  // one in so many

bool disk_has_room(int fd, std::uint64_t bytes, std::uint64_t keep_free_bytes) {
  if (keep_free_bytes == 0) return true;
  struct statvfs disk {};
  if (::fstatvfs(fd, &disk) != 0) return false;
  std::uint64_t free = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  std::uint64_t all = static_cast<std::uint64_t>(disk.f_blocks) * disk.f_frsize;
  return free >= bytes + std::max(keep_free_bytes, all / kKeepFreePart);
}

}  // namespace

/// Safe beside LMDB because we are its only writer, between two commits: no snapshot, old or new, uses a page behind
/// the newest one's last. The file grows from its end only, by us or by LMDB, so what lies before its end has been
/// written already. Killed in the middle: the file is a little longer, nothing more.
Result<bool> Store::Inside::prewrite_step(std::uint64_t most_bytes, std::uint64_t keep_free_bytes) {
  if (!failure.empty()) return failed();
  auto path = directory.path() / "data.mdb";
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) {
    return transient(fmt::format("{}: cannot pre-write: {}", path.string(), std::strerror(errno)));
  }
  const std::uint64_t capacity = environment->pages().capacity * environment->page_bytes();
  std::uint64_t at = std::max(static_cast<std::uint64_t>(info.st_size), environment->used_bytes());
  if (at >= capacity) return false;
  const std::uint64_t end = std::min(capacity, at + most_bytes);
  if (!disk_has_room(file.get(), end - at, keep_free_bytes)) return false;

  static const char zeros[kZerosAtOnce] = {};
  while (at < end) {
    auto size = std::min<std::uint64_t>(sizeof zeros, end - at);
    auto written = ::pwrite(file.get(), zeros, size, static_cast<off_t>(at));
    if (written <= 0) {
      if (written < 0 && errno == EINTR) continue;
      if (written == 0 || errno == ENOSPC || errno == EDQUOT) return false;
      return transient(fmt::format("{}: cannot pre-write at byte {}: {}", path.string(), at, std::strerror(errno)));
    }
    at += static_cast<std::uint64_t>(written);
  }
  return end < capacity;
}

}  // namespace penstock
