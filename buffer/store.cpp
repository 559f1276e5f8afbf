#include "buffer/store.h"

#include <algorithm>

#include "buffer/store_inside.h"

namespace penstock {

Result<std::unique_ptr<Store>> Store::open(const StoreSettings& settings, const Clock& clock) {
  auto inside = Inside::open(settings, clock);
  if (!inside) return inside.error();
  return std::unique_ptr<Store>(new Store(std::move(*inside)));
}

Store::Store(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}

Store::~Store() {
  if (inside_->failure.empty()) (void)inside_->seal_everything(Store::Inside::MayEvict::no);
}

Result<void> Store::commit(std::span<const Group> groups, std::vector<std::size_t>* left) {
  std::vector<std::size_t> none;
  return inside_->commit(groups, left != nullptr ? *left : none);
}
Result<void> Store::settle(const Settlement& settlement) { return inside_->settle(settlement); }
Result<bool> Store::prewrite_step(std::uint64_t most_bytes) {
  return inside_->prewrite_step(most_bytes, std::uint64_t{64} << 20);
}

bool Store::wants_commit() const {
  if (inside_->can_delete() || inside_->expiry_is_due()) return true;
  std::lock_guard lock(inside_->mutex);
  const auto& state = inside_->state;
  if (!state.struck.empty() || !state.suspects.empty() || state.close_wanted > state.closed) return true;
  return std::any_of(state.lanes.begin(), state.lanes.end(),
                     [](const LaneState& lane) { return lane.marks.delivered > lane.stored_delivered; });
}

Result<Batch> Store::read(const BatchLimits& limits, const Checkpoint* sent) const {
  return inside_->read(limits, sent);
}
void Store::delivered(const Checkpoint& after) { inside_->delivered(after); }

Watermark& Store::durable() { return inside_->durable; }

const std::optional<Mended>& Store::mended() const { return inside_->mended; }

History Store::history() const {
  std::lock_guard lock(inside_->mutex);
  return inside_->state.history();
}

StoreStatus Store::status() const {
  StoreStatus status;
  auto pages = inside_->environment->pages();
  status.page_bytes = inside_->environment->page_bytes();
  status.used_pages = pages.used;
  status.free_pages = pages.free;
  status.capacity_pages = pages.capacity;

  std::lock_guard lock(inside_->mutex);
  const auto& state = inside_->state;
  for (std::size_t i = 0; i < state.lanes.size(); ++i) {
    const auto& lane = state.lanes[i];
    const auto& marks = lane.marks;
    LaneStatus row{Lane{static_cast<std::uint16_t>(i)},
                   lane.name,
                   lane.priority,
                   marks.dropped,
                   marks.delivered,
                   marks.last,
                   marks.last,
                   0};
    auto gone = std::max(marks.delivered, marks.dropped);
    row.records = gone < marks.last ? count_between(gone.next(), marks.last) : 0;
    status.lanes.push_back(std::move(row));
  }
  status.epoch = state.epochs.back().epoch;
  status.run = state.runs.back().run;
  status.commits = state.committed;
  status.seals = state.seals;
  status.frames_lost = state.frames_lost;
  status.journal_cut_off = state.journal_cut_off;
  status.dead_letters = state.dead_letters.count;
  status.dead_letter_pages = state.dead_letters.pages;
  status.journal_bytes = inside_->journal->bytes();
  status.journal_used_bytes = state.journal_used;
  for (const auto& [entry, content] : state.ledger.entries()) {
    if (state.struck.count(entry) == 0) ++status.ledger_entries;
  }
  for (std::size_t cause = 1; cause < state.given_up.size(); ++cause) {
    if (state.given_up[cause] != 0) status.given_up.emplace_back(static_cast<Cause>(cause), state.given_up[cause]);
  }
  return status;
}

std::optional<Lane> Store::lane(std::string_view name) const {
  std::lock_guard lock(inside_->mutex);
  const auto& lanes = inside_->state.lanes;
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    if (lanes[i].name == name) return Lane{static_cast<std::uint16_t>(i)};
  }
  return std::nullopt;
}

std::string Store::name_of(Lane lane) const {
  std::lock_guard lock(inside_->mutex);
  const auto& lanes = inside_->state.lanes;
  return number(lane) < lanes.size() ? lanes[number(lane)].name : std::string();
}

Result<std::optional<std::string>> Store::state(std::string_view driver, std::string_view name) const {
  auto key = state_key(driver, name);
  {
    std::lock_guard lock(inside_->mutex);
    if (auto found = inside_->overlay.find(key); found != inside_->overlay.end()) return found->second;
  }
  Transaction snapshot(*inside_->environment, Transaction::Access::read);
  std::optional<std::string> result;
  if (auto value = snapshot.get(key)) result = std::string(*value);
  if (snapshot.code() != 0) return inside_->distrust(snapshot.code(), "read state");
  return result;
}

Result<std::vector<std::pair<std::string, std::string>>> Store::states(std::string_view driver,
                                                                       std::string_view prefix) const {
  std::string from = state_key(driver, prefix);
  auto is_wanted = [&](std::string_view key) { return key.substr(0, from.size()) == from; };
  std::map<std::string, std::optional<std::string>> newer, found;
  {
    std::lock_guard lock(inside_->mutex);
    for (auto it = inside_->overlay.lower_bound(from); it != inside_->overlay.end() && is_wanted(it->first); ++it) {
      newer.insert(*it);
    }
  }
  Transaction snapshot(*inside_->environment, Transaction::Access::read);
  {
    Cursor cursor(snapshot);
    for (bool more = cursor.seek(from); more && is_wanted(cursor.key()); more = cursor.next()) {
      found.emplace(cursor.key(), cursor.value());
    }
  }
  if (snapshot.code() != 0) return inside_->distrust(snapshot.code(), "read states");
  for (auto& [key, value] : newer) found[key] = std::move(value);
  std::vector<std::pair<std::string, std::string>> result;
  const std::size_t name_at = from.size() - prefix.size();
  for (auto& [key, value] : found) {
    if (value) result.emplace_back(key.substr(name_at), std::move(*value));
  }
  return result;
}

}  // namespace penstock
