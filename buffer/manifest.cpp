#include "buffer/manifest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <utility>

namespace penstock {
namespace {

constexpr const char* kManifest = "manifest";
constexpr const char* kNew = "manifest.new";      // a store is being made
constexpr const char* kChanged = "manifest.tmp";  // a manifest is being replaced
constexpr std::size_t kMostManifestBytes = 4096;

Error system_error(const std::filesystem::path& path, std::string_view doing) {
  int code = errno;
  std::string what = fmt::format("{}: cannot {}: {}", path.string(), doing, std::strerror(code));
  if (code == ENOSPC || code == EDQUOT) return full(std::move(what));
  return code == EIO ? broken(std::move(what)) : rejected(std::move(what));
}

std::string as_text(const Manifest& manifest) {
  std::string text = fmt::format(
      "format = {}\nword_bits = {}\npage_bytes = {}\ncapacity = {}\njournal_bytes = {}\njournal_seed = {}\n",
      manifest.format, manifest.word_bits, manifest.page_bytes, manifest.capacity, manifest.journal_bytes,
      manifest.journal_seed);
  return text + fmt::format("check = {}\n", XXH3_64bits(text.data(), text.size()));
}

/// The last line is the XXH3-64 of those before it: a seed with one digit wrong would make the whole journal noise.
bool holds_check(std::string_view text, std::uint64_t check) {
  auto before = text.substr(0, text.rfind("check = "));
  return before.size() < text.size() && XXH3_64bits(before.data(), before.size()) == check;
}

/// Unknown names are left alone: a later version may add some without changing the format.
std::map<std::string, std::uint64_t> parse_lines(std::string_view text) {
  std::map<std::string, std::uint64_t> values;
  while (!text.empty()) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    auto equals = line.find(" = ");
    if (equals == std::string_view::npos) continue;
    auto digits = line.substr(equals + 3);
    std::uint64_t value = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) continue;
    values[std::string(line.substr(0, equals))] = value;
  }
  return values;
}

}  // namespace

Result<StoreDirectory> StoreDirectory::open(const std::filesystem::path& path) {
  if (::mkdir(path.c_str(), 0750) != 0 && errno != EEXIST) return system_error(path, "make the directory");
  StoreDirectory directory(path, Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
  int fd = directory.directory_.get();
  if (fd < 0) return system_error(path, "open the directory");
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return rejected(fmt::format("{}: the store is open in another process", path.string()));
    return system_error(path, "lock the directory");
  }
  if (::faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) != 0) return system_error(path, "write in the directory");
  return directory;
}

Result<bool> StoreDirectory::has_store() const {
  struct stat info {};
  if (::fstatat(directory_.get(), kManifest, &info, 0) == 0) return true;
  if (errno != ENOENT) return system_error(path_ / kManifest, "look at it");
  if (::fstatat(directory_.get(), kNew, &info, 0) == 0) return false;
  if (::fstatat(directory_.get(), "data.mdb", &info, 0) == 0) {
    return rejected(fmt::format("{}: there is a data.mdb of {} bytes but no manifest: not a store of this program",
                                path_.string(), info.st_size));
  }
  return false;
}

Result<void> StoreDirectory::begin_store(const Manifest& manifest) const {
  if (auto written = write(kNew, manifest); !written) return written;
  for (const char* name : {"data.mdb", "lock.mdb", "journal"}) {
    if (::unlinkat(directory_.get(), name, 0) != 0 && errno != ENOENT) return system_error(path_ / name, "remove it");
  }
  return {};
}

Result<void> StoreDirectory::finish_store() const {
  // The directory's own name, too: it may be as new as the store. One above that may be passed but not read
  // belongs to somebody else, who made ours.
  Descriptor above(::openat(directory_.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!above && errno != EACCES) return system_error(path_, "open the directory above");
  if (above && ::fsync(above.get()) != 0) return system_error(path_, "sync the directory above");
  return rename(kNew, kManifest);
}

Result<Manifest> StoreDirectory::read() const {
  std::filesystem::path path = path_ / kManifest;
  Descriptor file(::openat(directory_.get(), kManifest, O_RDONLY | O_CLOEXEC));
  if (!file) return system_error(path, "open it");
  std::string text(kMostManifestBytes, '\0');
  ssize_t length = ::read(file.get(), text.data(), text.size());
  if (length < 0) return system_error(path, "read it");
  text.resize(static_cast<std::size_t>(length));

  auto values = parse_lines(text);
  for (const char* name : {"format", "word_bits", "page_bytes", "capacity"}) {
    if (values.count(name) == 0) return rejected(fmt::format("{}: no line \"{} = <number>\"", path.string(), name));
  }
  Manifest manifest;
  if (values["format"] != kManifestFormat && values["format"] != kFormatWithoutJournal) {
    return rejected(fmt::format("{}: format {}, this program knows formats {} and {}", path.string(), values["format"],
                                kFormatWithoutJournal, kManifestFormat));
  }
  manifest.format = static_cast<std::uint32_t>(values["format"]);
  if (values["word_bits"] != manifest.word_bits) {
    return rejected(fmt::format("{}: a store of a {}-bit program cannot be opened by this {}-bit one", path.string(),
                                values["word_bits"], manifest.word_bits));
  }
  bool checked = values.count("check") != 0;
  if (checked ? !holds_check(text, values["check"]) : manifest.format != kFormatWithoutJournal) {
    return rejected(fmt::format("{}: damaged: its last line is not the check of the lines before it", path.string()));
  }
  manifest.page_bytes = values["page_bytes"];
  manifest.capacity = values["capacity"];
  manifest.journal_bytes = values["journal_bytes"];
  manifest.journal_seed = values["journal_seed"];
  return manifest;
}

Result<void> StoreDirectory::replace(const Manifest& manifest) const {
  if (auto written = write(kChanged, manifest); !written) return written;
  return rename(kChanged, kManifest);
}

Result<void> StoreDirectory::write(const char* name, const Manifest& manifest) const {
  std::string text = as_text(manifest);
  Descriptor file(::openat(directory_.get(), name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640));
  if (!file) return system_error(path_ / name, "make it");
  auto wrote = ::write(file.get(), text.data(), text.size());
  if (wrote >= 0) errno = ENOSPC;  // should it have been cut short
  if (wrote != static_cast<ssize_t>(text.size()) || ::fsync(file.get()) != 0)
    return system_error(path_ / name, "write it");
  if (::fsync(directory_.get()) != 0) return system_error(path_, "sync the directory");
  return {};
}

Result<void> StoreDirectory::rename(const char* from, const char* to) const {
  if (::fsync(directory_.get()) != 0)
    return system_error(path_, "sync the directory");  // the names of what was made meanwhile
  if (::renameat(directory_.get(), from, directory_.get(), to) != 0)
    return system_error(path_ / from, fmt::format("rename it to {}", to));
  if (::fsync(directory_.get()) != 0) return system_error(path_, "sync the directory");
  return {};
}

}  // namespace penstock
