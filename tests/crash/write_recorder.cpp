// A library to be preloaded (LD_PRELOAD): records every write and flush of the process below a directory, with content.
//
//   PENSTOCK_RECORD_DIRECTORY   whose files are recorded; absolute, without symbolic links
//   PENSTOCK_RECORD_LOG         where to: appended to, so several processes one after another make one recording
//
// Seen are the calls below, by which programs and libraries enter the C library; not what the C library does inside
// itself (stdio), raw system calls, and stores through a mapping. A shared writable mapping is noted, and a call that is
// known but cannot be recorded ends the process, so that nothing goes unseen in silence; the replayer also compares
// its end state with the real files. LMDB writes its data by pwrite and writev as long as it is not told to use
// MDB_WRITEMAP; its lock file is a mapping.
//
// A call and its entry are made under one lock: the order in the log is the order of what happened.
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>

#include "tests/crash/real_call.h"
#include "tests/crash/recording.h"

namespace penstock {
namespace {
namespace write_recorder {

std::recursive_mutex mutex;

[[noreturn]] void give_up(const char* why) {
  std::fprintf(stderr, "write_recorder: %s\n", why);
  std::_Exit(99);
}

std::string_view setting(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') give_up(name);
  return value;
}

void append(EntryHeader header, std::string_view name, std::string_view payload) {
  static const int log = [] {
    auto path = std::string(setting("PENSTOCK_RECORD_LOG"));
    return REAL(open)(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  }();
  header.name_bytes = static_cast<std::uint32_t>(name.size());
  header.payload_bytes = payload.size();
  iovec parts[] = {{&header, sizeof header},
                   {const_cast<char*>(name.data()), name.size()},
                   {const_cast<char*>(payload.data()), payload.size()}};
  auto all = static_cast<ssize_t>(sizeof header + name.size() + payload.size());
  if (log < 0 || REAL(writev)(log, parts, 3) != all) give_up("cannot write the log");
}

/// A file or folder below the directory.
struct Subject {
  struct stat info {};
  std::string path;
  bool recorded = false;

  std::string_view name() const { return std::string_view(path).substr(path.rfind('/') + 1); }
  std::uint64_t inode() const { return info.st_ino; }
  std::uint64_t folder() const {
    struct stat above {};
    if (::stat(path.substr(0, path.rfind('/')).c_str(), &above) != 0) give_up("a file without a folder");
    return above.st_ino;
  }
};

std::string path_of(int fd) {
  char path[PATH_MAX];
  auto length = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path);
  return length < 0 ? std::string() : std::string(path, static_cast<std::size_t>(length));
}

std::string working_folder() {
  char path[PATH_MAX];
  return ::getcwd(path, sizeof path) == nullptr ? std::string() : path;
}

bool below(std::string_view path) {
  static const std::string root(setting("PENSTOCK_RECORD_DIRECTORY"));
  return path == root || (path.substr(0, root.size()) == root && path[root.size()] == '/');
}

Subject subject(int fd) {
  Subject found;
  if (::fstat(fd, &found.info) != 0 || !(S_ISREG(found.info.st_mode) || S_ISDIR(found.info.st_mode))) return found;
  found.path = path_of(fd);
  found.recorded = below(found.path);
  return found;
}

/// By name; need not be there. Neither its folder nor itself is a symbolic link.
Subject subject(int folder, const char* name) {
  Subject found;
  std::string path = name;
  if (path.empty() || path[0] != '/') {
    path = (folder == AT_FDCWD ? working_folder() : path_of(folder)) + '/' + path;
  }
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  found.path = std::move(path);
  found.recorded = below(found.path);
  return found;
}

int opened(int folder, const char* path, int flags, mode_t mode) {
  std::lock_guard lock(mutex);
  struct stat before {};
  bool was_there = ::fstatat(folder, path, &before, 0) == 0;
  int fd = REAL(openat)(folder, path, flags, mode);
  if (fd < 0) return fd;
  int code = errno;
  if (auto file = subject(fd); file.recorded && S_ISREG(file.info.st_mode)) {
    if (!was_there) append({.what = What::created, .file = file.inode(), .folder = file.folder()}, file.name(), {});
    if (was_there && (flags & O_TRUNC) != 0 && before.st_size != 0) {
      append({.what = What::truncated, .file = file.inode()}, file.name(), {});
    }
  }
  errno = code;
  return fd;
}

int opened(int folder, const char* path, int flags, va_list more) {
  mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
  return opened(folder, path, flags, mode);
}

/// Does `call` and records what it wrote; `offset` < 0: at the descriptor's position.
template <class Call>
ssize_t written(int fd, const iovec* parts, int count, off_t offset, bool synced, Call&& call) {
  std::lock_guard lock(mutex);
  auto file = subject(fd);
  bool says = fd == STDOUT_FILENO;
  if (!says && !(file.recorded && S_ISREG(file.info.st_mode))) return call();
  int flags = ::fcntl(fd, F_GETFL);
  if (!says && offset < 0) offset = (flags & O_APPEND) != 0 ? file.info.st_size : ::lseek(fd, 0, SEEK_CUR);
  auto result = call();
  int code = errno;
  if (result > 0) {
    std::string content;
    for (int i = 0; i < count; ++i) content.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
    content.resize(static_cast<std::size_t>(result));
    if (says) {
      append({.what = What::said}, {}, content);
    } else {
      bool zeros = std::all_of(content.begin(), content.end(), [](char byte) { return byte == 0; });
      EntryHeader header{.what = What::written, .file = file.inode()};
      header.offset = static_cast<std::uint64_t>(offset);
      header.length = content.size();
      header.synced = synced || (flags & O_DSYNC) != 0 ? 1 : 0;  // O_SYNC has this bit too
      append(header, file.name(), zeros ? std::string_view() : content);
    }
  }
  errno = code;
  return result;
}

template <class Call>
int flushed(int fd, const char* name, Call&& call) {
  std::lock_guard lock(mutex);
  int result = call();
  int code = errno;
  if (auto file = subject(fd); result == 0 && file.recorded) {
    append({.what = What::flushed, .file = file.inode()}, file.name(), name);
  }
  errno = code;
  return result;
}

template <class Call>
int truncated(int fd, off_t length, Call&& call) {
  std::lock_guard lock(mutex);
  int result = call();
  int code = errno;
  if (auto file = subject(fd); result == 0 && file.recorded) {
    EntryHeader header{.what = What::truncated, .file = file.inode()};
    header.length = static_cast<std::uint64_t>(length);
    append(header, file.name(), {});
  }
  errno = code;
  return result;
}

template <class Call>
int renamed(int from_folder, const char* from, int to_folder, const char* to, Call&& call) {
  std::lock_guard lock(mutex);
  auto old = subject(from_folder, from), now = subject(to_folder, to);
  int result = call();
  int code = errno;
  if (result == 0 && (old.recorded || now.recorded)) {
    if (!old.recorded || !now.recorded || old.folder() != now.folder()) give_up("a rename from folder to folder");
    append({.what = What::renamed, .folder = old.folder()}, old.name(), now.name());
  }
  errno = code;
  return result;
}

template <class Call>
int removed(int folder, const char* path, Call&& call) {
  std::lock_guard lock(mutex);
  auto file = subject(folder, path);
  int result = call();
  int code = errno;
  if (result == 0 && file.recorded) append({.what = What::removed, .folder = file.folder()}, file.name(), {});
  errno = code;
  return result;
}

template <class Call>
int made(int folder, const char* path, Call&& call) {
  std::lock_guard lock(mutex);
  int result = call();
  int code = errno;
  if (auto file = subject(folder, path); result == 0 && file.recorded) {
    if (::stat(file.path.c_str(), &file.info) != 0) give_up("a new folder that is not there");
    append({.what = What::made, .file = file.inode(), .folder = file.folder()}, file.name(), {});
  }
  errno = code;
  return result;
}

template <class Call>
void* mapped(int protection, int flags, int fd, Call&& call) {
  std::lock_guard lock(mutex);
  void* result = call();
  int code = errno;
  if (fd >= 0 && result != MAP_FAILED && (flags & MAP_SHARED) != 0 && (protection & PROT_WRITE) != 0) {
    if (auto file = subject(fd); file.recorded) {
      append({.what = What::mapped, .file = file.inode()}, file.name(), {});
    }
  }
  errno = code;
  return result;
}

template <class Call>
auto unrecorded(int fd, const char* name, Call&& call) {
  if (subject(fd).recorded) give_up((std::string(name) + " is not recorded yet: teach the recorder").c_str());
  return call();
}

}  // namespace write_recorder
}  // namespace
}  // namespace penstock

namespace recorder = penstock::write_recorder;

extern "C" {

#define OPEN(name)                                          \
  int name(const char* path, int flags, ...) {              \
    va_list more;                                           \
    va_start(more, flags);                                  \
    int fd = recorder::opened(AT_FDCWD, path, flags, more); \
    va_end(more);                                           \
    return fd;                                              \
  }
#define OPENAT(name)                                       \
  int name(int folder, const char* path, int flags, ...) { \
    va_list more;                                          \
    va_start(more, flags);                                 \
    int fd = recorder::opened(folder, path, flags, more);  \
    va_end(more);                                          \
    return fd;                                             \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
// What _FORTIFY_SOURCE makes of a call without a mode.
int __open_2(const char* path, int flags) { return recorder::opened(AT_FDCWD, path, flags, mode_t{0}); }
int __open64_2(const char* path, int flags) { return recorder::opened(AT_FDCWD, path, flags, mode_t{0}); }
int __openat_2(int folder, const char* path, int flags) { return recorder::opened(folder, path, flags, mode_t{0}); }
int __openat64_2(int folder, const char* path, int flags) { return recorder::opened(folder, path, flags, mode_t{0}); }

ssize_t write(int fd, const void* data, size_t size) {
  iovec part{const_cast<void*>(data), size};
  return recorder::written(fd, &part, 1, -1, false, [&] { return REAL(write)(fd, data, size); });
}
ssize_t writev(int fd, const iovec* parts, int count) {
  return recorder::written(fd, parts, count, -1, false, [&] { return REAL(writev)(fd, parts, count); });
}
#define PWRITE(name, Offset)                                                                                   \
  ssize_t name(int fd, const void* data, size_t size, Offset offset) {                                         \
    iovec part{const_cast<void*>(data), size};                                                                 \
    return recorder::written(fd, &part, 1, offset, false, [&] { return REAL(name)(fd, data, size, offset); }); \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
#define PWRITEV(name, Offset)                                                                                        \
  ssize_t name(int fd, const iovec* parts, int count, Offset offset) {                                               \
    return recorder::written(fd, parts, count, offset, false, [&] { return REAL(name)(fd, parts, count, offset); }); \
  }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)
#define PWRITEV2(name, Offset)                                                             \
  ssize_t name(int fd, const iovec* parts, int count, Offset offset, int flags) {          \
    return recorder::written(fd, parts, count, offset, (flags & RWF_DSYNC) != 0,           \
                             [&] { return REAL(name)(fd, parts, count, offset, flags); }); \
  }
PWRITEV2(pwritev2, off_t)
PWRITEV2(pwritev64v2, off64_t)

int fsync(int fd) {
  return recorder::flushed(fd, "fsync", [&] { return REAL(fsync)(fd); });
}
int fdatasync(int fd) {
  return recorder::flushed(fd, "fdatasync", [&] { return REAL(fdatasync)(fd); });
}
// sync_file_range and msync are left alone: neither is a flush of what was written by the calls above.

int ftruncate(int fd, off_t length) noexcept {
  return recorder::truncated(fd, length, [&] { return REAL(ftruncate)(fd, length); });
}
int ftruncate64(int fd, off64_t length) noexcept {
  return recorder::truncated(fd, length, [&] { return REAL(ftruncate64)(fd, length); });
}

int rename(const char* from, const char* to) noexcept {
  return recorder::renamed(AT_FDCWD, from, AT_FDCWD, to, [&] { return REAL(rename)(from, to); });
}
int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
  return recorder::renamed(from_folder, from, to_folder, to,
                           [&] { return REAL(renameat)(from_folder, from, to_folder, to); });
}
int unlink(const char* path) noexcept {
  return recorder::removed(AT_FDCWD, path, [&] { return REAL(unlink)(path); });
}
int unlinkat(int folder, const char* path, int flags) noexcept {
  return recorder::removed(folder, path, [&] { return REAL(unlinkat)(folder, path, flags); });
}
int mkdir(const char* path, mode_t mode) noexcept {
  return recorder::made(AT_FDCWD, path, [&] { return REAL(mkdir)(path, mode); });
}
int mkdirat(int folder, const char* path, mode_t mode) noexcept {
  return recorder::made(folder, path, [&] { return REAL(mkdirat)(folder, path, mode); });
}

void* mmap(void* address, size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  return recorder::mapped(protection, flags, fd,
                          [&] { return REAL(mmap)(address, size, protection, flags, fd, offset); });
}
void* mmap64(void* address, size_t size, int protection, int flags, int fd, off64_t offset) noexcept {
  return recorder::mapped(protection, flags, fd,
                          [&] { return REAL(mmap64)(address, size, protection, flags, fd, offset); });
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
  return recorder::unrecorded(fd, "fallocate", [&] { return REAL(fallocate)(fd, mode, offset, size); });
}
int posix_fallocate(int fd, off_t offset, off_t size) {
  return recorder::unrecorded(fd, "posix_fallocate", [&] { return REAL(posix_fallocate)(fd, offset, size); });
}
ssize_t copy_file_range(int in, off64_t* in_at, int out, off64_t* out_at, size_t size, unsigned int flags) {
  return recorder::unrecorded(out, "copy_file_range",
                              [&] { return REAL(copy_file_range)(in, in_at, out, out_at, size, flags); });
}
int syncfs(int fd) noexcept {
  return recorder::unrecorded(fd, "syncfs", [&] { return REAL(syncfs)(fd); });
}
}
