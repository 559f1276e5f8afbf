// RecordedDisk: replays a recording (recording.h) and says what a disk could hold had the power failed at any of its entries.
//
// What is on disk for certain: of a file, everything before its last flush; of a folder, the names it had at its last
// flush. A file's flush is not one of its name's, nor of the folder above. A write that was synced itself (O_DSYNC)
// counts for the blocks it touched, not for older writes to others. Of what came later the disk may hold more or less:
//
//   blocks    each block of 4 KiB as it was at any moment since then, by itself: a page cache writes in any order
//   sectors   the same of each 512 bytes: torn writes
//   prefix    everything up to some moment, and of the write at that moment any of its blocks
//
// A file's size is one of those that it had since its flush (what was written behind a smaller one is lost); the names
// of a folder are changed in the order in which the process did it, up to any point. Kernels order more than that; a
// store must not need it.
//
// Not known: what is stored through mappings. Files for which that matters must be named as exempt.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/crash/recording.h"

namespace penstock {

/// Splits a whole log; `bytes` must outlive the entries. Throws std::runtime_error at anything else.
std::vector<Entry> parse_recording(std::string_view bytes);

/// How a flush is called in messages: "fdatasync data.mdb", "O_DSYNC data.mdb"; empty if the entry is none.
std::string flush_name(const Entry& entry);

/// Instants worth a cut, in order, as numbers of the entry after it, none before `first`: a third anywhere, a third just
/// after a report, a third at a flush or a change of names.
std::vector<std::size_t> choose_cuts(const std::vector<Entry>& entries, std::size_t first, std::size_t count,
                                     std::mt19937_64& random);

enum class Loss { blocks, sectors, prefix };
constexpr std::array<Loss, 3> kLosses = {Loss::blocks, Loss::sectors, Loss::prefix};
const char* name_of(Loss loss);

class RecordedDisk {
 public:
  using Random = std::mt19937_64;

  /// Begins with what lies below `root` now, all of it safe on disk. The flush that is the entry number `ignored`,
  /// counted from 1, does nothing: this is how a test shows that it is needed.
  explicit RecordedDisk(const std::filesystem::path& root, std::uint64_t ignored = 0);
  RecordedDisk(RecordedDisk&&) = default;  // not copied: files are shared within

  /// The next entry of the recording happens.
  void apply(const Entry& entry);
  /// Writes into the empty folder `into` what the disk may hold if the power fails now. `whole_blocks`: so many blocks at
  /// the beginning of a file are never torn.
  void cut(const std::filesystem::path& into, Loss loss, Random& random, std::uint64_t whole_blocks = 0) const;
  /// Empty if every file and name is now as it is below `root`: the recording has missed nothing. Else what differs.
  std::string difference(const std::filesystem::path& root) const;

 private:
  static constexpr std::size_t kBlockBytes = 4096, kSectorBytes = 512;
  using Block = std::array<char, kBlockBytes>;
  using Moment = std::uint64_t;  // number of an entry; 0: before the first
  struct Version {
    Moment since = 0;
    std::shared_ptr<const Block> content;  // none: zeros
  };
  struct Size {
    Moment since = 0;
    std::uint64_t bytes = 0;
  };
  /// The first version is the one that is safe; there is always one.
  struct File {
    std::map<std::uint64_t, std::vector<Version>> blocks;
    std::set<std::uint64_t> unsafe;  // blocks with more than one version
    std::vector<Size> sizes = {Size{}};
    bool mapped = false;
    const Version& newest(std::uint64_t block) const;
    void put(std::uint64_t block, Version version);
    void make_safe(std::uint64_t block);
  };
  struct Folder;
  struct Node {
    std::shared_ptr<File> file;
    std::shared_ptr<Folder> folder;
  };
  struct Change {
    Moment since = 0;
    std::string remove, add;  // a name; either may be empty
    Node node;                // of `add`
  };
  struct Folder {
    std::vector<Change> changes;
    std::size_t safe = 0;  // so many of them
    std::map<std::string, Node> names(std::size_t changes_done) const;
  };
  struct Outcome;

  std::shared_ptr<Folder> load(const std::filesystem::path& path);
  std::shared_ptr<File> load_file(const std::filesystem::path& path);
  void write(File& file, const Entry& entry);
  void truncate(File& file, std::uint64_t bytes);
  void flush(std::uint64_t inode);
  std::vector<Moment> unsafe_moments() const;
  void cut_folder(const Folder& folder, const std::filesystem::path& into, Outcome& outcome) const;
  void cut_file(const File& file, const std::filesystem::path& into, Outcome& outcome) const;
  std::string difference(const Folder& folder, const std::filesystem::path& path) const;
  std::string difference(const File& file, const std::filesystem::path& path) const;

  Moment ignored_;
  Moment now_ = 0;
  std::map<std::uint64_t, Node> nodes_;  // by inode number
  std::shared_ptr<Folder> root_;
};

}  // namespace penstock
