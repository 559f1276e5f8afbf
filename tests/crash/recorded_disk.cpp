#include "tests/crash/recorded_disk.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>

namespace penstock {
namespace {

std::uint64_t inode_of(const std::filesystem::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) throw std::runtime_error("cannot look at " + path.string());
  return info.st_ino;
}

std::string content_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return content;
}

}  // namespace

std::vector<Entry> parse_recording(std::string_view bytes) {
  std::vector<Entry> entries;
  auto take = [&](std::size_t size) {
    if (bytes.size() < size) throw std::runtime_error("the recording ends within an entry");
    auto part = bytes.substr(0, size);
    bytes.remove_prefix(size);
    return part;
  };
  while (!bytes.empty()) {
    Entry entry;
    std::memcpy(&entry.header, take(sizeof entry.header).data(), sizeof entry.header);
    if (entry.header.magic != EntryHeader::kMagic) throw std::runtime_error("not an entry of a recording");
    entry.name = take(entry.header.name_bytes);
    entry.payload = take(entry.header.payload_bytes);
    entries.push_back(entry);
  }
  return entries;
}

std::string flush_name(const Entry& entry) {
  if (entry.header.what == What::flushed) return std::string(entry.payload) + ' ' + std::string(entry.name);
  if (entry.header.what == What::written && entry.header.synced != 0) return "O_DSYNC " + std::string(entry.name);
  return {};
}

std::vector<std::size_t> choose_cuts(const std::vector<Entry>& entries, std::size_t first, std::size_t count,
                                     std::mt19937_64& random) {
  std::vector<std::size_t> anywhere, said, edges, cuts;
  for (std::size_t i = first; i < entries.size(); ++i) {
    auto what = entries[i].header.what;
    anywhere.push_back(i + 1);
    if (what == What::said) {
      said.push_back(i + 1);
    } else if (what != What::written || entries[i].header.synced != 0) {
      edges.push_back(i);
      edges.push_back(i + 1);
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    const auto& from = i % 3 == 0 ? anywhere : i % 3 == 1 ? said : edges;
    if (from.empty()) throw std::runtime_error("nothing was recorded, or nothing said");
    cuts.push_back(from[std::uniform_int_distribution<std::size_t>(0, from.size() - 1)(random)]);
  }
  std::sort(cuts.begin(), cuts.end());
  return cuts;
}

const char* name_of(Loss loss) {
  switch (loss) {
    case Loss::blocks: return "blocks";
    case Loss::sectors: return "sectors";
    case Loss::prefix: return "prefix";
  }
  return "?";
}

// --- what a file and a folder went through

const RecordedDisk::Version& RecordedDisk::File::newest(std::uint64_t block) const {
  static const Version zeros;
  auto found = blocks.find(block);
  return found == blocks.end() ? zeros : found->second.back();
}

void RecordedDisk::File::put(std::uint64_t block, Version version) {
  auto& versions = blocks[block];
  if (versions.empty()) versions.emplace_back();
  versions.push_back(std::move(version));
  unsafe.insert(block);
}

void RecordedDisk::File::make_safe(std::uint64_t block) {
  auto& versions = blocks[block];
  versions.erase(versions.begin(), versions.end() - 1);
  unsafe.erase(block);
}

std::map<std::string, RecordedDisk::Node> RecordedDisk::Folder::names(std::size_t changes_done) const {
  std::map<std::string, Node> names;
  for (std::size_t i = 0; i < changes_done; ++i) {
    const auto& change = changes[i];
    Node node = change.node;
    if (!change.remove.empty()) {
      if (!change.add.empty()) node = names.at(change.remove);
      names.erase(change.remove);
    }
    if (!change.add.empty()) names[change.add] = node;
  }
  return names;
}

RecordedDisk::RecordedDisk(const std::filesystem::path& root, std::uint64_t ignored)
    : ignored_(ignored), root_(load(root)) {}

std::shared_ptr<RecordedDisk::Folder> RecordedDisk::load(const std::filesystem::path& path) {
  auto folder = std::make_shared<Folder>();
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    Node node;
    if (entry.is_directory()) {
      node.folder = load(entry.path());
    } else {
      node.file = load_file(entry.path());
    }
    folder->changes.push_back({0, {}, entry.path().filename().string(), node});
  }
  folder->safe = folder->changes.size();
  nodes_[inode_of(path)] = {nullptr, folder};
  return folder;
}

std::shared_ptr<RecordedDisk::File> RecordedDisk::load_file(const std::filesystem::path& path) {
  auto file = std::make_shared<File>();
  auto content = content_of(path);
  for (std::size_t at = 0; at < content.size(); at += kBlockBytes) {
    auto part = std::string_view(content).substr(at, kBlockBytes);
    if (part.find_first_not_of('\0') == part.npos) continue;
    auto block = std::make_shared<Block>();
    block->fill(0);
    part.copy(block->data(), part.size());
    file->blocks[at / kBlockBytes].push_back({0, block});
  }
  file->sizes = {{0, content.size()}};
  nodes_[inode_of(path)] = {file, nullptr};
  return file;
}

void RecordedDisk::apply(const Entry& entry) {
  ++now_;
  const auto& header = entry.header;
  auto folder = [&]() -> Folder& {
    auto found = nodes_.find(header.folder);
    if (found == nodes_.end() || found->second.folder == nullptr) throw std::runtime_error("an unknown folder");
    return *found->second.folder;
  };
  auto file = [&]() -> File& {
    auto found = nodes_.find(header.file);
    if (found == nodes_.end() || found->second.file == nullptr) {
      throw std::runtime_error("an unknown file: " + std::string(entry.name));
    }
    return *found->second.file;
  };
  std::string name(entry.name);
  switch (header.what) {
    case What::said: break;
    case What::written: write(file(), entry); break;
    case What::truncated: truncate(file(), header.length); break;
    case What::flushed:
      if (now_ != ignored_) flush(header.file);
      break;
    case What::created:
      nodes_[header.file] = {std::make_shared<File>(), nullptr};
      folder().changes.push_back({now_, {}, name, nodes_[header.file]});
      break;
    case What::made:
      nodes_[header.file] = {nullptr, std::make_shared<Folder>()};
      folder().changes.push_back({now_, {}, name, nodes_[header.file]});
      break;
    case What::removed: folder().changes.push_back({now_, name, {}, {}}); break;
    case What::renamed: folder().changes.push_back({now_, name, std::string(entry.payload), {}}); break;
    case What::mapped: file().mapped = true; break;
  }
}

void RecordedDisk::write(File& file, const Entry& entry) {
  const std::uint64_t begin = entry.header.offset, end = begin + entry.header.length;
  const bool synced = entry.header.synced != 0 && now_ != ignored_;
  for (auto block = begin / kBlockBytes; block * kBlockBytes < end; ++block) {
    const std::uint64_t start = block * kBlockBytes;
    const std::uint64_t from = std::max(begin, start), to = std::min(end, start + kBlockBytes);
    const auto& before = file.newest(block).content;
    std::shared_ptr<Block> content;
    if (!entry.payload.empty() || before != nullptr) {
      content = before != nullptr ? std::make_shared<Block>(*before) : std::make_shared<Block>(Block{});
      if (entry.payload.empty()) {
        std::memset(content->data() + (from - start), 0, to - from);
      } else {
        std::memcpy(content->data() + (from - start), entry.payload.data() + (from - begin), to - from);
      }
    }
    file.put(block, {now_, content});
    if (synced) file.make_safe(block);
  }
  if (end > file.sizes.back().bytes) file.sizes.push_back({now_, end});
  if (synced) file.sizes.erase(file.sizes.begin(), file.sizes.end() - 1);
}

void RecordedDisk::truncate(File& file, std::uint64_t bytes) {
  if (bytes < file.sizes.back().bytes) {
    for (auto it = file.blocks.lower_bound(bytes / kBlockBytes); it != file.blocks.end(); ++it) {
      if (it->second.back().content == nullptr) continue;
      const std::uint64_t start = it->first * kBlockBytes;
      std::shared_ptr<Block> content;
      if (bytes > start) {
        content = std::make_shared<Block>(*it->second.back().content);
        std::fill(content->begin() + static_cast<std::ptrdiff_t>(bytes - start), content->end(), 0);
      }
      it->second.push_back({now_, content});
      file.unsafe.insert(it->first);
    }
  }
  if (bytes != file.sizes.back().bytes) file.sizes.push_back({now_, bytes});
}

void RecordedDisk::flush(std::uint64_t inode) {
  auto& node = nodes_.at(inode);
  if (node.folder != nullptr) {
    node.folder->safe = node.folder->changes.size();
    return;
  }
  auto& file = *node.file;
  auto blocks = std::move(file.unsafe);
  file.unsafe.clear();
  for (auto block : blocks) file.make_safe(block);
  file.sizes.erase(file.sizes.begin(), file.sizes.end() - 1);
}

// --- the cut

/// What one power cut makes of everything that was not safe.
struct RecordedDisk::Outcome {
  Loss loss;
  Random& random;
  std::uint64_t whole_blocks;
  Moment reached = 0;  // prefix: everything up to there

  std::uint64_t pick(std::uint64_t below) { return std::uniform_int_distribution<std::uint64_t>(0, below - 1)(random); }

  /// Of things that happened one after the other, the first of which is safe: the last that is on disk. `in_parts`: the
  /// one at the moment of the cut itself may be there or not.
  template <class Things>
  std::size_t last_of(const Things& things, bool in_parts) {
    if (loss != Loss::prefix) return pick(things.size());
    std::size_t last = 0;
    while (last + 1 < things.size() && things[last + 1].since <= reached) ++last;
    return in_parts && last != 0 && things[last].since == reached && pick(2) == 0 ? last - 1 : last;
  }
};

/// The moments at which anything happened that is not safe, and the beginning.
std::vector<RecordedDisk::Moment> RecordedDisk::unsafe_moments() const {
  std::set<Moment> moments = {0};
  for (const auto& [inode, node] : nodes_) {
    if (node.folder != nullptr) {
      const auto& changes = node.folder->changes;
      for (auto i = node.folder->safe; i < changes.size(); ++i) moments.insert(changes[i].since);
      continue;
    }
    for (auto block : node.file->unsafe) {
      const auto& versions = node.file->blocks.at(block);
      for (std::size_t i = 1; i < versions.size(); ++i) moments.insert(versions[i].since);
    }
    for (std::size_t i = 1; i < node.file->sizes.size(); ++i) moments.insert(node.file->sizes[i].since);
  }
  return {moments.begin(), moments.end()};
}

void RecordedDisk::cut(const std::filesystem::path& into, Loss loss, Random& random, std::uint64_t whole_blocks) const {
  Outcome outcome{loss, random, whole_blocks};
  if (loss == Loss::prefix) {
    auto moments = unsafe_moments();
    outcome.reached = moments[outcome.pick(moments.size())];
  }
  cut_folder(*root_, into, outcome);
}

void RecordedDisk::cut_folder(const Folder& folder, const std::filesystem::path& into, Outcome& outcome) const {
  std::size_t done = folder.safe;
  if (outcome.loss == Loss::prefix) {
    while (done < folder.changes.size() && folder.changes[done].since <= outcome.reached) ++done;
  } else {
    done += outcome.pick(folder.changes.size() - folder.safe + 1);
  }
  for (const auto& [name, node] : folder.names(done)) {
    if (node.file != nullptr) {
      cut_file(*node.file, into / name, outcome);
    } else {
      std::filesystem::create_directory(into / name);
      cut_folder(*node.folder, into / name, outcome);
    }
  }
}

void RecordedDisk::cut_file(const File& file, const std::filesystem::path& into, Outcome& outcome) const {
  std::ofstream stream(into, std::ios::binary);
  const std::uint64_t size = file.sizes[outcome.last_of(file.sizes, false)].bytes;
  for (const auto& [block, versions] : file.blocks) {
    const std::uint64_t start = block * kBlockBytes;
    if (start >= size) break;
    Block content{};
    if (outcome.loss == Loss::sectors && block >= outcome.whole_blocks) {
      for (std::size_t at = 0; at < kBlockBytes; at += kSectorBytes) {
        const auto& chosen = versions[outcome.last_of(versions, true)].content;
        if (chosen != nullptr) std::memcpy(content.data() + at, chosen->data() + at, kSectorBytes);
      }
    } else if (const auto& chosen = versions[outcome.last_of(versions, true)].content; chosen != nullptr) {
      content = *chosen;
    }
    if (std::all_of(content.begin(), content.end(), [](char byte) { return byte == 0; })) continue;  // a hole
    stream.seekp(static_cast<std::streamoff>(start));
    stream.write(content.data(), static_cast<std::streamsize>(std::min<std::uint64_t>(kBlockBytes, size - start)));
  }
  stream.close();
  if (!stream) throw std::runtime_error("cannot write " + into.string());
  std::filesystem::resize_file(into, size);
}

// --- that nothing was missed

std::string RecordedDisk::difference(const std::filesystem::path& root) const { return difference(*root_, root); }

std::string RecordedDisk::difference(const Folder& folder, const std::filesystem::path& path) const {
  auto names = folder.names(folder.changes.size());
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    auto name = entry.path().filename().string();
    auto found = names.find(name);
    if (found == names.end()) return entry.path().string() + " was not recorded";
    auto node = found->second;
    names.erase(found);
    bool is_folder = entry.is_directory();
    if (is_folder != (node.folder != nullptr)) return entry.path().string() + " is of another kind";
    auto wrong = is_folder ? difference(*node.folder, entry.path()) : difference(*node.file, entry.path());
    if (!wrong.empty()) return wrong;
  }
  return names.empty() ? std::string() : (path / names.begin()->first).string() + " was recorded and is not there";
}

std::string RecordedDisk::difference(const File& file, const std::filesystem::path& path) const {
  auto content = content_of(path);
  if (content.size() != file.sizes.back().bytes) {
    return path.string() + " has " + std::to_string(content.size()) + " bytes, recorded were " +
           std::to_string(file.sizes.back().bytes);
  }
  if (file.mapped) return path.filename() == "lock.mdb" ? std::string() : path.string() + " is written by a mapping";
  for (std::size_t at = 0; at < content.size(); at += kBlockBytes) {
    auto part = std::string_view(content).substr(at, kBlockBytes);
    const auto& known = file.newest(at / kBlockBytes).content;
    bool same = known != nullptr ? part == std::string_view(known->data(), part.size())
                                 : part.find_first_not_of('\0') == part.npos;
    if (!same) return path.string() + " differs from what was recorded at byte " + std::to_string(at);
  }
  return {};
}

}  // namespace penstock
