#include "buffer/mend.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>
#include <system_error>

#include "buffer/database.h"
#include "buffer/descriptor.h"
#include "buffer/journal.h"
#include "buffer/mend_child.h"
#include "buffer/page_check.h"
#include "buffer/salvage.h"
#include "buffer/suspect.h"

namespace penstock {
namespace {

constexpr const char* kDataName = "data.mdb";
constexpr const char* kLockName = "lock.mdb";
constexpr const char* kManifestName = "manifest";
constexpr const char* kDamagedName = "damaged.mdb";
constexpr const char* kJournalName = "journal";
constexpr const char* kDamagedJournalName = "damaged.journal";
constexpr const char* kSalvagedName = "salvaged";
constexpr const char* kCompleteName = "complete";
constexpr const char* kAnnouncedName = "complete.new";

Error mend_error(const std::filesystem::path& path, std::string_view doing, int code) {
  std::string what = fmt::format("{}: cannot {}: {}", path.string(), doing, std::strerror(code));
  if (code == ENOSPC || code == EDQUOT) return full(std::move(what));
  return code == EIO ? broken(std::move(what)) : rejected(std::move(what));
}

bool there_is(const std::filesystem::path& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0;
}

Result<void> sync_directory(const std::filesystem::path& path) {
  Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return mend_error(path, "sync the directory", errno);
  return {};
}

Result<void> take_away(const std::filesystem::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return mend_error(path, "remove it", errno);
  return {};
}

Result<void> move_to(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return mend_error(from, "rename it", errno);
  if (auto synced = sync_directory(to.parent_path()); !synced) return synced;
  return from.parent_path() == to.parent_path() ? Result<void>() : sync_directory(from.parent_path());
}

// --- what `complete` says: one `name value` a line, the reason last

std::string as_text(const Mended& mended, std::uint64_t page_bytes, std::uint64_t used_bytes) {
  return fmt::format(
      "page_bytes {}\nused_bytes {}\npages {}\nunreadable_pages {}\nblocks {}\nrecords {}\nlost {}\n"
      "newest_may_be_missing {}\nstates_may_be_old {}\nnew_epoch {}\nwhy {}\n",
      page_bytes, used_bytes, mended.pages, mended.unreadable_pages, mended.blocks, mended.records, mended.lost,
      mended.newest_may_be_missing ? 1 : 0, mended.states_may_be_old ? 1 : 0, mended.new_epoch ? 1 : 0, mended.why);
}

struct Completed {
  Mended mended;
  std::uint64_t page_bytes = 0, used_bytes = 0;
};

Completed read_completed(const std::filesystem::path& path) {
  Completed completed;
  completed.mended.outcome = Mended::Outcome::salvaged;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    auto space = line.find(' ');
    if (space == std::string::npos) continue;
    std::string name = line.substr(0, space), text = line.substr(space + 1);
    std::uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    auto& mended = completed.mended;
    if (name == "page_bytes") completed.page_bytes = value;
    if (name == "used_bytes") completed.used_bytes = value;
    if (name == "pages") mended.pages = value;
    if (name == "unreadable_pages") mended.unreadable_pages = value;
    if (name == "blocks") mended.blocks = value;
    if (name == "records") mended.records = value;
    if (name == "lost") mended.lost = value;
    if (name == "newest_may_be_missing") mended.newest_may_be_missing = value != 0;
    if (name == "states_may_be_old") mended.states_may_be_old = value != 0;
    if (name == "new_epoch") mended.new_epoch = value != 0;
    if (name == "why") mended.why = text;
  }
  return completed;
}

class Mending {
 public:
  Mending(const StoreDirectory& directory, const Manifest& manifest, const MendSettings& settings)
      : directory_(directory), manifest_(manifest), settings_(settings), path_(directory.path()) {}

  Result<std::optional<Mended>> run() {
    if (there_is(path_ / kSalvagedName / kCompleteName)) return finish_switch();
    if (auto cleared = clear_salvaged(); !cleared) return cleared.error();

    file_ = Descriptor(::open((path_ / kDataName).c_str(), O_RDONLY | O_CLOEXEC));
    if (!file_ && errno == ENOENT) return make_whole(FilePages(file_, system_page_bytes()), "data.mdb is missing");
    if (!file_) return mend_error(path_ / kDataName, "open it", errno);
    struct stat info {};
    if (::fstat(file_.get(), &info) != 0) return mend_error(path_ / kDataName, "look at it", errno);
    if (!S_ISREG(info.st_mode)) return rejected(fmt::format("{}: not a file", (path_ / kDataName).string()));

    FilePages pages(file_, page_bytes());
    const bool suspect = there_is(path_ / kSuspectName);
    auto check = check_pages(pages, suspect ? Depth::all : Depth::structure);
    if (check.newer_format) {
      return rejected(fmt::format("{}: made by a newer LMDB than this program knows", (path_ / kDataName).string()));
    }
    std::string damage = check.damage;
    if (suspect && damage.empty()) {
      auto walked =
          walk_in_child(path_, settings_.capacity_bytes, pages.count() * pages.page_bytes(), settings_.progress);
      if (!walked) return walked.error();
      damage = *walked;
    }
    if (!damage.empty()) return make_whole(pages, damage);
    if (!suspect) return std::optional<Mended>();
    Mended mended;
    mended.why = suspicion();
    mended.pages = pages.count();
    if (auto removed = take_away(path_ / kSuspectName); !removed) return removed.error();
    return std::optional<Mended>(mended);
  }

 private:
  /// As the file says itself, else as the manifest says.
  std::size_t page_bytes() const {
    auto sane = [](std::uint64_t bytes) { return bytes >= 512 && bytes <= 65536 && (bytes & (bytes - 1)) == 0; };
    std::string first(512, '\0');
    if (FilePages(file_, first.size()).read(0, first.data())) {
      auto meta = parse_meta_page(first, 0);
      if (meta && sane(meta->page_bytes)) return static_cast<std::size_t>(meta->page_bytes);
    }
    return sane(manifest_.page_bytes) ? static_cast<std::size_t>(manifest_.page_bytes) : system_page_bytes();
  }

  void progress() const {
    if (settings_.progress) settings_.progress();
  }

  std::string suspicion() const {
    std::string line;
    std::ifstream file(path_ / kSuspectName);
    std::getline(file, line);
    return line.empty() ? "it was marked" : line;
  }

  Result<void> clear_salvaged() const {
    for (const char* name : {kDataName, kLockName, kAnnouncedName}) {
      if (auto removed = take_away(path_ / kSalvagedName / name); !removed) return removed;
    }
    if (::rmdir((path_ / kSalvagedName).c_str()) != 0 && errno != ENOENT) {
      return mend_error(path_ / kSalvagedName, "remove it", errno);
    }
    return {};
  }

  Result<std::optional<Mended>> make_whole(const PageSource& pages, const std::string& damage) {
    progress();
    auto saved = save(pages);
    if (!saved && saved.error().fault == Fault::full && there_is(path_ / kDamagedName)) {
      if (auto removed = take_away(path_ / kDamagedName); !removed) return removed.error();  // of an earlier time
      saved = save(pages);
    }
    if (!saved) {
      (void)clear_salvaged();
      if (saved.error().fault == Fault::rejected && nothing_found_) {
        return begin_anew(damage, fmt::format("; {}", saved.error().what));
      }
      return Error{saved.error().fault,
                   fmt::format("{}: damaged ({}); {}", path_.string(), damage, saved.error().what)};
    }
    Mended mended;
    mended.outcome = Mended::Outcome::salvaged;
    mended.why = damage;
    mended.pages = saved->pages;
    mended.unreadable_pages = saved->unreadable_pages;
    mended.blocks = saved->blocks;
    mended.records = saved->records;
    mended.lost = saved->lost;
    mended.newest_may_be_missing = saved->newest_may_be_missing;
    mended.states_may_be_old = saved->states_may_be_old;
    mended.new_epoch = saved->new_epoch;
    auto text = as_text(mended, system_page_bytes(),
                        saved->used_pages < pages.count() ? saved->used_pages * pages.page_bytes() : 0);
    file_.reset();
    if (auto written = announce(text); !written) {
      (void)clear_salvaged();
      return written.error();
    }
    return finish_switch();
  }

  Result<Salvaged> save(const PageSource& pages) {
    if (auto cleared = clear_salvaged(); !cleared) return cleared.error();
    auto into = path_ / kSalvagedName;
    if (::mkdir(into.c_str(), 0750) != 0) return mend_error(into, "make the directory", errno);
    SalvageSettings settings;
    settings.directory = into;
    settings.capacity_bytes = settings_.capacity_bytes;
    settings.lanes = settings_.lanes;
    settings.now = settings_.now;
    settings.progress = settings_.progress;
    settings.format = manifest_.format;
    ask_journal(settings);
    auto saved = salvage(pages, settings, &nothing_found_);
    if (!saved) return saved.error();
    // What was written must be what LMDB can be given: else this disk does not keep what it is told.
    Descriptor file(::open((into / kDataName).c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return mend_error(into / kDataName, "open it", errno);
    auto check = check_pages(FilePages(file, system_page_bytes()), Depth::all);
    if (!check.damage.empty()) {
      return broken(
          fmt::format("{}: what was written is not what is read: {}", (into / kDataName).string(), check.damage));
    }
    if (::fsync(file.get()) != 0) return mend_error(into / kDataName, "sync it", errno);
    return saved;
  }

  /// The journal beside it may be whole, and then all that is not yet in LMDB is in it.
  void ask_journal(SalvageSettings& settings) const {
    if (manifest_.format == kFormatWithoutJournal) return;
    auto journal = Journal::open(path_ / kJournalName, manifest_.journal_seed);
    if (!journal) return;
    FrameReader reader(manifest_.journal_seed);
    std::string bytes;
    for (const auto& frame : (*journal)->recover(0, 0)) {
      auto read = (*journal)->read(frame.place, bytes);
      auto opened = read ? reader.open(bytes) : Result<FrameHeader>(read.error());
      auto rows = opened ? reader.rows() : Result<Rows>(opened.error());
      if (rows) settings.journal.push_back({frame.place.number, std::move(*rows)});
      if (settings.epochs.empty() || settings.epochs.back() != frame.header.epoch) {
        settings.epochs.push_back(frame.header.epoch);
      }
      for (const auto& span : frame.header.spans) {
        settings.lanes_seen = std::max<std::size_t>(settings.lanes_seen, number(span.lane) + std::size_t{1});
      }
    }
  }

  /// From here on the salvaged file is the store's.
  Result<void> announce(const std::string& text) const {
    auto into = path_ / kSalvagedName;
    auto temporary = into / kAnnouncedName;
    {
      Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640));
      bool written = file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
      if (!written || ::fsync(file.get()) != 0) {
        int code = errno;
        (void)take_away(temporary);
        return mend_error(temporary, "write it", code);
      }
    }
    if (auto synced = sync_directory(into); !synced) return synced;
    if (auto synced = sync_directory(path_); !synced) return synced;
    progress();
    return move_to(temporary, into / kCompleteName);
  }

  /// Each step may have been done before.
  Result<std::optional<Mended>> finish_switch() {
    auto from = path_ / kSalvagedName;
    auto completed = read_completed(from / kCompleteName);
    progress();
    if (there_is(from / kDataName)) {
      if (there_is(path_ / kDataName)) {
        if (auto moved = move_to(path_ / kDataName, path_ / kDamagedName); !moved) return moved.error();
        progress();
      }
      if (auto moved = move_to(from / kDataName, path_ / kDataName); !moved) return moved.error();
      progress();
    }
    if (completed.page_bytes != 0 && completed.page_bytes != manifest_.page_bytes) {
      Manifest changed = manifest_;
      changed.page_bytes = completed.page_bytes;
      if (auto replaced = directory_.replace(changed); !replaced) return replaced.error();
      progress();
    }
    if (auto kept = keep_damaged(completed.used_bytes, &completed.mended.kept_as); !kept) return kept.error();
    progress();
    for (const auto& path : {path_ / kLockName, path_ / kSuspectName, from / kLockName, from / kCompleteName}) {
      if (auto removed = take_away(path); !removed) return removed.error();
      progress();
    }
    if (auto cleared = clear_salvaged(); !cleared) return cleared.error();
    if (auto synced = sync_directory(path_); !synced) return synced.error();
    return std::optional<Mended>(completed.mended);
  }

  Result<std::optional<Mended>> begin_anew(const std::string& damage, std::string_view more) {
    file_.reset();
    Mended mended;
    mended.outcome = Mended::Outcome::begun_anew;
    mended.why = damage + std::string(more);
    progress();
    if (there_is(path_ / kDataName)) {
      if (auto moved = move_to(path_ / kDataName, path_ / kDamagedName); !moved) return moved.error();
      progress();
    }
    if (there_is(path_ / kJournalName)) {  // the newest records: a new store would write over them
      if (auto moved = move_to(path_ / kJournalName, path_ / kDamagedJournalName); !moved) return moved.error();
      progress();
    }
    if (auto kept = keep_damaged(0, &mended.kept_as); !kept) return kept.error();
    for (const char* name : {kLockName, kSuspectName, kManifestName}) {
      if (auto removed = take_away(path_ / name); !removed) return removed.error();
      progress();
    }
    if (auto synced = sync_directory(path_); !synced) return synced.error();
    return std::optional<Mended>(mended);
  }

  /// The damaged file stays while the disk has room for it and for all that the store may yet grow by.
  Result<void> keep_damaged(std::uint64_t used_bytes, std::string* kept_as) const {
    auto damaged = path_ / kDamagedName;
    if (!there_is(damaged)) return {};
    struct stat info {};
    if (used_bytes != 0 && ::stat(damaged.c_str(), &info) == 0 &&
        static_cast<std::uint64_t>(info.st_size) > used_bytes) {
      (void)!::truncate(damaged.c_str(), static_cast<off_t>(used_bytes));  // zeros that were written beforehand
    }
    std::uint64_t size = ::stat((path_ / kDataName).c_str(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
    std::uint64_t growth = settings_.capacity_bytes > size ? settings_.capacity_bytes - size : 0;
    struct statvfs disk {};
    if (::statvfs(path_.c_str(), &disk) == 0 && static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize < growth) {
      if (auto removed = take_away(path_ / kDamagedJournalName); !removed) return removed;
      return take_away(damaged);
    }
    *kept_as = damaged.string();
    return {};
  }

  const StoreDirectory& directory_;
  const Manifest& manifest_;
  const MendSettings& settings_;
  const std::filesystem::path path_;
  Descriptor file_;
  bool nothing_found_ = false;
};

}  // namespace

std::string describe(const Mended& mended) {
  std::string kept = mended.kept_as.empty() ? "" : fmt::format("; the damaged file is kept as {}", mended.kept_as);
  switch (mended.outcome) {
    case Mended::Outcome::found_whole:
      return fmt::format("the store was suspect ({}); all of its {} pages were examined and nothing is wrong",
                         mended.why, mended.pages);
    case Mended::Outcome::begun_anew:
      return fmt::format("the store was damaged ({}) and nothing of it could be kept; a new one begins{}", mended.why,
                         kept);
    case Mended::Outcome::salvaged: break;
  }
  std::string text = fmt::format(
      "the store was damaged ({}) and has been salvaged: {} records kept besides the journal's, {} lost, {} of {} "
      "pages unreadable",
      mended.why, mended.records, mended.lost, mended.unreadable_pages, mended.pages);
  if (mended.newest_may_be_missing) text += "; records of the last commits may be missing besides";
  if (mended.states_may_be_old) text += "; what drivers remembered may be that of an earlier commit";
  if (mended.new_epoch) text += "; undelivered records belong to a new epoch";
  return text + kept;
}

Result<std::optional<Mended>> mend(const StoreDirectory& directory, const Manifest& manifest,
                                   const MendSettings& settings) {
  return Mending(directory, manifest, settings).run();
}

}  // namespace penstock
