// Manifest: the few lines of text by which a store of another format or word size is told from a damaged one; and the
// lock that keeps two processes from opening one store.
//
// A store is being made while only `manifest.new` exists: what a crash leaves of data.mdb then is nobody's and is made
// again. Once `manifest` exists the data is never touched but through LMDB.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "buffer/descriptor.h"
#include "buffer/result.h"

namespace penstock {

inline constexpr std::uint32_t kManifestFormat = 2;
/// Before there was a journal. Such a store is opened and gets one.
inline constexpr std::uint32_t kFormatWithoutJournal = 1;

struct Manifest {
  std::uint32_t format = kManifestFormat;
  std::uint32_t word_bits = 8 * sizeof(void*);
  std::uint64_t page_bytes = 0;
  std::uint64_t capacity = 0;       // of data.mdb
  std::uint64_t journal_bytes = 0;  // the journal's whole size; 0: not said
  std::uint64_t journal_seed = 0;   // of the checksums of its frames: no payload can pass for one
  bool operator==(const Manifest&) const = default;
};

/// The directory of one store, made if missing, locked (flock(2)) as long as this object lives.
class StoreDirectory {
 public:
  static Result<StoreDirectory> open(const std::filesystem::path& path);
  StoreDirectory(StoreDirectory&&) = default;

  const std::filesystem::path& path() const { return path_; }

  /// True when there is a finished store; false when there is none, or only what a crash left of making one.
  /// `rejected`: a data.mdb that is not known to be ours.
  Result<bool> has_store() const;
  /// Removes what a crash left of making a store and announces a new one.
  Result<void> begin_store(const Manifest& manifest) const;
  /// The new store is whole: from now on it is one.
  Result<void> finish_store() const;

  /// `rejected`: unreadable, or not one this program can use (newer format, other word size).
  Result<Manifest> read() const;
  Result<void> replace(const Manifest& manifest) const;

 private:
  StoreDirectory(std::filesystem::path path, Descriptor directory)
      : path_(std::move(path)), directory_(std::move(directory)) {}
  Result<void> write(const char* name, const Manifest& manifest) const;
  Result<void> rename(const char* from, const char* to) const;

  std::filesystem::path path_;
  Descriptor directory_;
};

}  // namespace penstock
