// Queue: the store as the bench uses it: one writer, ready-made records, pre-written.
//
// One thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "buffer/clock.h"
#include "buffer/record.h"
#include "buffer/store.h"

namespace penstock::bench {

class Queue {
 public:
  /// Opens or creates the store in `folder`/queue; ends the process with a message when it cannot.
  Queue(const std::filesystem::path& folder, std::uint64_t capacity_bytes, const std::string& agent = "bench",
        std::uint64_t journal_bytes = std::uint64_t{16} << 20);

  /// The whole capacity, so that no commit grows the file. Says who did it: the store, or the bench in its place.
  const char* prewrite();

  void commit(std::vector<Record> records);
  void commit(const std::vector<Group>& groups);
  /// Takes what is durable, at most `most` records, and marks it delivered; gives their number.
  std::uint64_t deliver(std::uint64_t most);
  /// Commits without records until there is nothing left to delete.
  void tidy();

  Group group(std::vector<Record> records) const;
  Store& store() { return *store_; }
  const Clock& clock() const { return clock_; }
  /// The commits on disk that are frames of the journal; those that move something on into LMDB are not.
  std::uint64_t frames() { return store_->durable().value() - store_->status().seals; }
  StoreStatus status() const { return store_->status(); }
  std::uint64_t used_bytes() const;
  /// Up to the last byte of the file that is not zero.
  std::uint64_t file_bytes_in_use() const;
  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path file() const { return folder_ / "queue" / "data.mdb"; }

 private:
  void open();

  SystemClock clock_;
  std::filesystem::path folder_;
  std::uint64_t capacity_, journal_;
  std::string agent_;
  std::unique_ptr<Store> store_;
  Lane lane_{};
};

}  // namespace penstock::bench
