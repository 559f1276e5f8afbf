// What the disk of block_recorder could hold had the power failed: block_replay LOG FOLDER COUNT SEED [without-last-flush]
//
// For each of COUNT cuts after the report "begin": writes the disk to FOLDER/disk, prints one line about the cut, a line for
// each mark that had been reported by then, and an empty line; then waits for a line on stdin. With `without-last-flush` the
// last flush before the cut is taken as not having happened.
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

#include "tests/crash/promises.h"
#include "tests/crash/recorded_disk.h"

namespace penstock {
namespace {
namespace block_replay {

/// The super block of ext4 is two sectors with a checksum over both, and written in place: torn, it cannot be mounted
/// before e2fsck has repaired it. That is the file system's affair; with all its other blocks the journal copes.
constexpr std::uint64_t kWholeBlocks = 1;

/// The recorder knows of one file and no folder; here it lies in `folder`.
std::vector<Entry> in_folder(std::vector<Entry> entries, const std::filesystem::path& folder) {
  struct stat info {};
  if (::stat(folder.c_str(), &info) != 0) throw std::runtime_error("no folder " + folder.string());
  for (auto& entry : entries) {
    entry.header.folder = info.st_ino;
    if (entry.header.file == info.st_ino) throw std::runtime_error("the folder has the file's number");
  }
  Entry named;  // the disk itself is always there
  named.header.what = What::flushed;
  named.header.file = info.st_ino;
  named.payload = "fsync";
  entries.insert(entries.begin() + 1, named);
  return entries;
}

int run(const char* log, const std::filesystem::path& folder, std::size_t count, std::uint64_t seed, bool without) {
  std::ifstream file(log, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const auto entries = in_folder(parse_recording(bytes), folder);
  std::size_t begin = 0;
  while (begin < entries.size() && entries[begin].payload != "begin\n") ++begin;
  RecordedDisk::Random random(seed);
  auto disk = std::make_unique<RecordedDisk>(folder);
  Said said;
  std::size_t done = 0;
  for (auto cut : choose_cuts(entries, begin + 1, count, random)) {
    std::size_t last = cut, flushes = 0, unflushed = 0;
    while (last > 0 && entries[last - 1].header.what != What::flushed) --last;
    for (auto i = begin; i < cut; ++i) flushes += entries[i].header.what == What::flushed;
    for (auto i = last; i < cut; ++i) unflushed += entries[i].header.what == What::written;
    if (without) {
      disk = std::make_unique<RecordedDisk>(folder, last);
      said = {};
      done = 0;
    }
    for (; done < cut; ++done) {
      disk->apply(entries[done]);
      if (entries[done].header.what == What::said) said.hear(std::string(entries[done].payload));
    }
    auto loss = kLosses[std::uniform_int_distribution<std::size_t>(0, kLosses.size() - 1)(random)];
    disk->cut(folder, loss, random, kWholeBlocks);
    std::cout << "before entry " << cut << " of " << entries.size() << ", after flush " << flushes << " and "
              << unflushed << " more writes, " << name_of(loss) << '\n';
    for (const auto& line : said.again()) std::cout << line << '\n';
    std::cout << std::endl;
    if (std::string line; !std::getline(std::cin, line)) return 1;
    std::filesystem::remove(folder / "disk");
  }
  return 0;
}

}  // namespace block_replay
}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  if (argc != 5 && argc != 6) return 64;
  auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
  try {
    return penstock::block_replay::run(argv[1], argv[2], number(3), number(4), argc == 6);
  } catch (const std::exception& failure) {
    std::cerr << "block_replay: " << failure.what() << std::endl;
    return 1;
  }
}
