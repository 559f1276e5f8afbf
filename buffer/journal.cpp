#include "buffer/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace penstock {
namespace {

constexpr std::size_t kScanBytes = std::size_t{1} << 20;

Error journal_error(const std::filesystem::path& path, std::string_view doing, int code) {
  std::string what = fmt::format("{}: cannot {}: {}", path.string(), doing, std::strerror(code));
  if (code == ENOSPC || code == EDQUOT) return full(std::move(what));
  return code == EACCES || code == EPERM || code == ENOENT ? rejected(std::move(what)) : broken(std::move(what));
}

/// Reads what can be read of [offset, offset + size); the rest stays zero, block by block.
void read_around_damage(int file, std::uint64_t offset, char* to, std::size_t size) {
  std::fill_n(to, size, '\0');
  for (std::size_t at = 0; at < size;) {
    auto got = ::pread(file, to + at, size - at, static_cast<off_t>(offset + at));
    if (got > 0) {
      at += static_cast<std::size_t>(got);
    } else if (got < 0 && errno == EINTR) {
      continue;
    } else if (got == 0) {
      return;
    } else {  // an unreadable sector: perhaps what follows can be read
      auto block = std::min<std::size_t>(kFrameAlignment - at % kFrameAlignment, size - at);
      if (::pread(file, to + at, block, static_cast<off_t>(offset + at)) < 0) std::fill_n(to + at, block, '\0');
      at += block;
    }
  }
}

}  // namespace

Result<void> Journal::make(const std::filesystem::path& path, std::uint64_t bytes) {
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0640));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) return journal_error(path, "make it", errno);
  const std::string zeros(std::size_t{64} << 10, '\0');
  for (auto at = static_cast<std::uint64_t>(info.st_size); at < bytes;) {
    auto wrote =
        ::pwrite(file.get(), zeros.data(), std::min<std::uint64_t>(zeros.size(), bytes - at), static_cast<off_t>(at));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return journal_error(path, fmt::format("write its {} bytes", bytes), wrote < 0 ? errno : ENOSPC);
    at += static_cast<std::uint64_t>(wrote);
  }
  if (::fsync(file.get()) != 0) return journal_error(path, "sync it", errno);
  Descriptor directory(::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return journal_error(path, "sync its directory", errno);
  return {};
}

Result<std::unique_ptr<Journal>> Journal::open(const std::filesystem::path& path, std::uint64_t seed) {
  Descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) return journal_error(path, "open it", errno);
  auto bytes = static_cast<std::uint64_t>(info.st_size) / kFrameAlignment * kFrameAlignment;
  std::unique_ptr<Journal> journal(new Journal(path, std::move(file), bytes));
  if (auto scanned = journal->scan(seed); !scanned) return scanned.error();
  if (auto written = journal->write_newest_again(); !written) return written.error();
  return journal;
}

/// It may be of a commit that failed: then it is in the page cache, which holds it for clean, and not on disk, and the
/// frames of this life would stand on nothing. Every older one was flushed before it.
Result<void> Journal::write_newest_again() const {
  if (found_.empty()) return ::fdatasync(file_.get()) == 0 ? Result<void>() : journal_error(path_, "sync it", errno);
  std::string bytes;
  for (auto found = found_.rbegin(); found != found_.rend() && found->place.number == last_; ++found) {
    if (auto got = read(found->place, bytes); !got) return got;
    if (int code = write_at(bytes, found->place.offset); code != 0) return journal_error(path_, "write it", code);
  }
  return {};
}

Result<void> Journal::scan(std::uint64_t seed) {
  std::string window;
  for (std::uint64_t at = 0; at < bytes_;) {
    window.resize(std::min<std::uint64_t>(kScanBytes, bytes_ - at));
    read_around_damage(file_.get(), at, window.data(), window.size());
    std::size_t inside = 0;
    while (inside < window.size()) {
      auto header = parse_frame_header(std::string_view(window).substr(inside));
      std::size_t step = kFrameAlignment;
      if (header && header->bytes() <= bytes_ - at - inside) {
        if (header->bytes() > window.size() - inside) {
          if (inside != 0) break;  // the next window begins with it
          window.resize((header->bytes() + kFrameAlignment - 1) / kFrameAlignment * kFrameAlignment);
          read_around_damage(file_.get(), at, window.data(), window.size());
        }
        if (frame_is_whole(std::string_view(window).substr(inside), *header, seed)) {
          step = (header->bytes() + kFrameAlignment - 1) / kFrameAlignment * kFrameAlignment;
          found_.push_back({{header->number, at + inside, static_cast<std::uint32_t>(step)}, std::move(*header)});
        }
      }
      inside += step;
    }
    at += inside;
  }
  std::sort(found_.begin(), found_.end(),
            [](const Found& a, const Found& b) { return a.place.number < b.place.number; });
  if (!found_.empty()) {
    last_ = found_.back().place.number;
    head_ = found_.back().place.offset + found_.back().place.bytes;
  }
  return {};
}

std::vector<Journal::Found> Journal::recover(std::uint64_t after, std::uint64_t last) {
  std::vector<Found> kept;
  for (auto& frame : found_) {
    bool again = !kept.empty() && kept.back().place.number == frame.place.number;  // was written a second time
    if (frame.place.number > after && !again) kept.push_back(std::move(frame));
  }
  found_ = {};
  for (const auto& frame : kept) needed_.push_back(frame.place);
  last_ = std::max({last_, after, last});
  return kept;
}

std::uint64_t Journal::used_bytes() const {
  if (needed_.empty()) return 0;
  auto tail = needed_.front().offset;
  return head_ > tail ? head_ - tail : bytes_ - tail + head_;
}

std::optional<std::uint64_t> Journal::place_for(std::size_t bytes) const {
  if (needed_.empty()) {
    if (bytes <= bytes_ - head_) return head_;
    return bytes <= bytes_ ? std::optional<std::uint64_t>(0) : std::nullopt;
  }
  auto tail = needed_.front().offset;
  if (head_ > tail) {
    if (bytes <= bytes_ - head_) return head_;
    return bytes <= tail ? std::optional<std::uint64_t>(0) : std::nullopt;
  }
  return bytes <= tail - head_ ? std::optional<std::uint64_t>(head_) : std::nullopt;
}

int Journal::write_at(std::string_view frame, std::uint64_t offset) const {
  while (!frame.empty()) {
    auto wrote = ::pwrite(file_.get(), frame.data(), frame.size(), static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return wrote < 0 ? errno : ENOSPC;
    frame.remove_prefix(static_cast<std::size_t>(wrote));
    offset += static_cast<std::uint64_t>(wrote);
  }
  return ::fdatasync(file_.get()) == 0 ? 0 : errno;
}

Result<FramePlace> Journal::append(std::string_view frame) {
  // After a failed flush nobody knows what of the pages is on disk, and asking again would say "all": the frame is
  // written again elsewhere.
  int code = 0;
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto offset = place_for(frame.size());
    if (!offset) break;
    code = write_at(frame, *offset);
    if (code == ENOSPC || code == EDQUOT) break;
    head_ = *offset + frame.size();
    if (code != 0) continue;
    needed_.push_back({++last_, *offset, static_cast<std::uint32_t>(frame.size())});
    return needed_.back();
  }
  return journal_error(path_, fmt::format("write frame {} of {} bytes", last_ + 1, frame.size()), code);
}

void Journal::release(std::uint64_t number) {
  while (!needed_.empty() && needed_.front().number <= number) needed_.pop_front();
}

Result<void> Journal::read(const FramePlace& place, std::string& bytes) const {
  bytes.resize(place.bytes);
  for (std::size_t at = 0; at < bytes.size();) {
    auto got = ::pread(file_.get(), bytes.data() + at, bytes.size() - at, static_cast<off_t>(place.offset + at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return broken(fmt::format("{}: cannot read {} bytes at {}: {}", path_.string(), place.bytes, place.offset,
                                got < 0 ? std::strerror(errno) : "the file is shorter"));
    }
    at += static_cast<std::size_t>(got);
  }
  return {};
}

}  // namespace penstock
