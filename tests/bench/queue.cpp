#include "tests/bench/queue.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>

#include "tests/bench/measure.h"

namespace penstock::bench {
namespace {

void must(const Result<void>& result) {
  if (!result) give_up(result.error().what);
}

/// Zeros from the file's end up to `size`: what pre-writing leaves behind.
void write_zeros(const std::filesystem::path& file, std::uint64_t size) {
  int descriptor = open(file.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) give_up(fmt::format("cannot open {}", file.string()));
  std::vector<char> zeros(1 << 20);
  std::uint64_t at = std::filesystem::file_size(file);
  while (at < size) {
    auto length = std::min<std::uint64_t>(zeros.size(), size - at);
    if (pwrite(descriptor, zeros.data(), length, static_cast<off_t>(at)) != static_cast<ssize_t>(length)) {
      give_up(fmt::format("cannot write {} bytes of zeros to {}", size, file.string()));
    }
    at += length;
  }
  fsync(descriptor);
  close(descriptor);
}

}  // namespace

Queue::Queue(const std::filesystem::path& folder, std::uint64_t capacity_bytes, const std::string& agent,
             std::uint64_t journal_bytes)
    : folder_(folder), capacity_(capacity_bytes), journal_(journal_bytes), agent_(agent) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  open();
}

void Queue::open() {
  StoreSettings settings;
  settings.directory = folder_ / "queue";
  settings.agent = agent_;
  settings.capacity_bytes = capacity_;
  settings.journal_bytes = journal_;
  auto opened = Store::open(settings, clock_);
  if (!opened) give_up(opened.error().what);
  store_ = std::move(*opened);
  lane_ = store_->lane("telemetry").value();
}

const char* Queue::prewrite() {
  auto by_the_store = [](auto& store) {
    if constexpr (requires { store.prewrite_step(); }) {
      while (true) {
        auto more = store.prewrite_step();
        if (!more) give_up(more.error().what);
        if (!*more) return true;
      }
    }
    return false;
  };
  if (by_the_store(*store_)) return "store";
  store_.reset();
  write_zeros(file(), capacity_);
  open();
  return "bench";
}

Group Queue::group(std::vector<Record> records) const {
  Group group;
  group.lane = lane_;
  group.driver = "plant";
  group.records = std::move(records);
  return group;
}

void Queue::commit(std::vector<Record> records) {
  std::vector<Group> groups;
  groups.push_back(group(std::move(records)));
  commit(groups);
}

void Queue::commit(const std::vector<Group>& groups) { must(store_->commit(groups)); }

std::uint64_t Queue::deliver(std::uint64_t most) {
  BatchLimits limits;
  limits.records = most;
  auto batch = store_->read(limits);
  if (!batch) give_up(batch.error().what);
  if (!batch->empty()) store_->delivered(batch->after);
  return batch->records.size();
}

void Queue::tidy() {
  for (int turn = 0; turn < 100'000 && store_->wants_commit(); ++turn) commit(std::vector<Group>{});
}

std::uint64_t Queue::used_bytes() const {
  auto status = store_->status();
  return status.used_pages * status.page_bytes;
}

std::uint64_t Queue::file_bytes_in_use() const {
  int descriptor = ::open(file().c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) give_up(fmt::format("cannot open {}", file().string()));
  constexpr std::uint64_t chunk = 1 << 16;
  std::vector<char> bytes(chunk);
  std::uint64_t end = std::filesystem::file_size(file());
  std::uint64_t found = 0;
  while (end > 0 && found == 0) {
    std::uint64_t begin = end > chunk ? (end - 1) / chunk * chunk : 0;
    auto length = pread(descriptor, bytes.data(), end - begin, static_cast<off_t>(begin));
    if (length < 0) give_up(fmt::format("cannot read {}", file().string()));
    for (auto i = length; i > 0 && found == 0; --i) {
      if (bytes[static_cast<std::size_t>(i - 1)] != 0) found = begin + static_cast<std::uint64_t>(i);
    }
    end = begin;
  }
  close(descriptor);
  return found;
}

}  // namespace penstock::bench
