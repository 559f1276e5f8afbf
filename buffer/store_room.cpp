#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>

#include "buffer/bytes.h"
#include "buffer/store_inside.h"

namespace penstock {
namespace {

constexpr std::uint64_t kReservePages = 256;
constexpr std::uint64_t kEvictPages = 32;
constexpr std::uint64_t kFullDiskBytes = 4 << 20;
// Estimates may err by this much before a commit has to be packed twice.
constexpr double kCaution = 1.25;

}  // namespace

std::uint64_t Store::Inside::reserve_pages() const {
  return std::min(kReservePages, environment->pages().capacity / 8);
}

std::uint64_t Store::Inside::pages_on_disk() const {
  std::error_code none;
  auto bytes = std::filesystem::file_size(directory.path() / "data.mdb", none);
  return none ? 0 : std::min<std::uint64_t>(environment->pages().capacity, bytes / environment->page_bytes());
}

/// What is full, with the numbers that tell a full disk from a full store.
std::string Store::Inside::fullness() const {
  auto counts = environment->pages();
  auto text = fmt::format("{}: {} of {} pages and {} of {} bytes of the journal are in use", directory.path().string(),
                          counts.used, counts.capacity, journal->used_bytes(), journal->bytes());
  struct statvfs disk {};
  if (auto written = pages_on_disk(); written < counts.capacity && ::statvfs(directory.path().c_str(), &disk) == 0) {
    text += fmt::format("; the file has {} pages, the disk {} bytes left for more", written,
                        static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize);
  }
  return text;
}

/// Free besides `kept`, and on disk: a reserve that the disk has no room for would be none. A file that is not pre-written
/// so far yet grows, so that `wanted` are free if the disk can give them.
std::uint64_t Store::Inside::free_pages(std::uint64_t kept, std::uint64_t wanted) {
  const auto counts = environment->pages();
  const auto not_free = counts.used + kept;
  auto pages = pages_on_disk();
  if (auto all = std::min(counts.capacity, not_free + wanted); pages < all) {
    // Whatever keeps the file from growing, it has the pages it has.
    (void)prewrite_step((all - pages) * environment->page_bytes(), 0);
    pages = pages_on_disk();
  }
  return pages > not_free ? pages - not_free : 0;
}

std::uint64_t Store::Inside::available_pages(std::uint64_t wanted) { return free_pages(reserve_pages(), wanted); }

/// The estimate was too low for these records when this is false. They may take half of the reserve, not the rest of it.
bool Store::Inside::has_room_for(const Draft& draft) {
  auto needed = draft.blocks.size() + kOverheadPages;
  return free_pages(reserve_pages() / 2, needed) >= needed;
}

/// Roughly; a record larger than a page is taken to be incompressible.
double Store::Inside::pages_for(const Group& group) const {
  auto room = static_cast<double>(coder->room());
  double ratio = settings.compression_level == 0 ? 1.0 : std::min(1.0, kCaution * packers[number(group.lane)].ratio());
  double pages = 0;
  for (const auto& record : group.records) {
    auto bytes = static_cast<double>(record.bytes());
    if (bytes > static_cast<double>(settings.max_record_bytes)) continue;
    pages += bytes > 2 * room ? bytes / room + 1 : bytes * ratio / room;
  }
  return pages;
}

bool Store::Inside::empty() const {
  std::lock_guard lock(mutex);
  return std::all_of(state.lanes.begin(), state.lanes.end(), [](const LaneState& lane) {
    return std::max(lane.marks.delivered, lane.marks.dropped) >= lane.marks.last;
  });
}

bool Store::Inside::can_delete() const {
  std::lock_guard lock(mutex);
  return state.more_to_delete || std::any_of(state.lanes.begin(), state.lanes.end(), [](const LaneState& lane) {
           return lane.first_block != Sequence() && lane.first_block <= lane.marks.delivered &&
                  lane.tried < lane.marks.delivered;
         });
}

bool Store::Inside::disk_is_full(DatabaseCode code) const {
  if (code == ENOSPC || code == EDQUOT) return true;
  if (code != EIO) return false;  // LMDB says EIO for a write that was cut short
  struct statvfs disk {};
  if (::statvfs(directory.path().c_str(), &disk) != 0) return false;
  return static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize < kFullDiskBytes;
}

Result<std::vector<std::optional<Cause>>> Store::Inside::make_room(std::span<const Group> groups,
                                                                   std::uint64_t at_least) {
  std::vector<std::optional<Cause>> fates(groups.size());
  std::vector<double> pages;
  double sum = 0;
  for (const auto& group : groups) sum += pages.emplace_back(pages_for(group));
  auto estimate = sum == 0 ? 0.0 : sum + static_cast<double>(state.lanes.size() + kOverheadPages);
  auto need = std::max(at_least, static_cast<std::uint64_t>(estimate));
  if (available_pages(need) >= need) return fates;

  while (available_pages(need) < need && can_delete()) {  // what Kafka has goes before anything is given up
    Draft draft = begin_draft();
    auto outcome = write(draft);
    if (outcome == Outcome::broken) return failed();
    if (outcome == Outcome::no_room && !let_pages_ripen()) break;
  }
  bool evicts = settings.when_full == WhenFull::evict_oldest;
  while (evicts && available_pages(need) < need && evict()) {
  }
  if (!failure.empty()) return failed();
  auto available = static_cast<double>(available_pages(need));
  if (available >= static_cast<double>(need)) return fates;

  bool hopeless = empty();  // nothing more can leave: what does not fit now never will
  if (!hopeless && settings.when_full != WhenFull::reject_newest) {
    return full(fmt::format("{}, {} pages more are needed", fullness(), need));
  }
  // As many groups as fit, in order. When the estimate was proved wrong, by that factor.
  double factor = estimate > 0 ? std::max(1.0, static_cast<double>(need) / estimate) : 1.0;
  available -= static_cast<double>(state.lanes.size() + kOverheadPages);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].records.empty()) continue;
    double takes = factor * pages[i];
    if (takes <= available) {
      available -= takes;
    } else {
      fates[i] = hopeless ? Cause::too_large : Cause::refused;
    }
  }
  return fates;
}

bool Store::Inside::evict() {
  auto most = std::clamp<std::uint64_t>(environment->pages().capacity / 16, 1, kEvictPages);
  bool any = false;
  for (auto pages = most; pages > 0; pages /= 2) {
    auto outcome = evict_pages(pages, &any);
    if (outcome != Outcome::no_room) return any && outcome == Outcome::done;
  }
  return let_pages_ripen() && evict_pages(1, &any) == Outcome::done && any;
}

/// It has no more than its guaranteed share.
bool Store::Inside::is_guarded(const Draft& draft, Lane lane) const {
  auto pages = static_cast<double>(draft.pages[number(lane)]);
  auto share = state.lanes[number(lane)].share;
  return share > 0 && pages <= share * static_cast<double>(environment->pages().capacity);
}

/// The lane with the lowest priority, among equals the one with the oldest first block. One that has no more than its
/// guaranteed share comes only when all have no more.
std::optional<Lane> Store::Inside::next_victim(Transaction& transaction, const Draft& draft) const {
  std::optional<Lane> victim;
  bool guarded = true;
  int lowest = 0;
  std::int64_t oldest = 0;
  for (std::size_t i = 0; i < draft.marks.size(); ++i) {
    Lane lane{static_cast<std::uint16_t>(i)};
    bool has_no_more = is_guarded(draft, lane);
    if (victim && has_no_more && !guarded) continue;
    bool better = victim && guarded && !has_no_more;
    if (victim && !better && state.lanes[i].priority < lowest) continue;
    auto span = BlockWalk(transaction, lane).next();
    if (!span) continue;
    auto value = transaction.get(block_key(lane, span->first));
    auto wall = value && value->size() >= kBlockHeaderBytes ? load_little<std::int64_t>(value->data() + 104) : 0;
    if (victim && !better && state.lanes[i].priority == lowest && wall >= oldest) continue;
    victim = lane;
    guarded = has_no_more;
    lowest = state.lanes[i].priority;
    oldest = wall;
  }
  return victim;
}

Outcome Store::Inside::evict_pages(std::uint64_t pages, bool* any) {
  Draft draft = begin_draft();
  draft.suspects.clear();  // later, when there is room
  Transaction transaction(*environment, Transaction::Access::write);
  std::optional<int> priority;  // of all that goes: what follows may be spared by less
  while (pages > 0) {
    auto lane = next_victim(transaction, draft);
    if (!lane || (priority && *priority != state.lanes[number(*lane)].priority)) break;
    priority = state.lanes[number(*lane)].priority;
    auto& marks = draft.marks[number(*lane)];
    auto span = BlockWalk(transaction, *lane).next();
    if (!span) break;
    Sequence last = span->until(draft.sealed[number(*lane)]);
    marks.dropped = std::max(marks.dropped, last);
    give_up(draft, *lane, span->first, last, Cause::evicted);
    erase(transaction, draft, *lane, *span);
    pages -= std::min<std::uint64_t>(pages, span->pieces);
    *any = true;
  }
  if (!*any && transaction.code() == 0) return Outcome::done;
  return finish(transaction, draft);
}

/// Two commits that free next to nothing: then the pages freed before them can be used.
bool Store::Inside::let_pages_ripen() {
  for (int i = 0; i < 2; ++i) {
    Draft draft = begin_draft();
    draft.suspects.clear();
    Transaction transaction(*environment, Transaction::Access::write);
    if (finish(transaction, draft) != Outcome::done) return false;
  }
  return true;
}

}  // namespace penstock
