#include <fmt/format.h>

#include <algorithm>

#include "buffer/store_inside.h"

namespace penstock {
namespace {

// Each attempt evicts or refuses more than the one before.
constexpr int kMostCommitAttempts = 64;
// No frame takes more than one part in so many of the journal: room is made for it in a few steps.
constexpr std::uint64_t kFrameShare = 4;
// Of dead letters, in one transaction: the list of freed pages then fits in one page.
constexpr std::uint64_t kMostTrimmedPages = 400;
// So many small rows are kept in RAM, and then moved to LMDB.
constexpr std::size_t kMostOverlay = 8192;

/// The first sequence of `lane` that belongs to the epoch.
Sequence epoch_begin(const EpochEntry& entry, const std::string& lane) {
  auto found = entry.first.find(lane);
  return found == entry.first.end() ? Sequence(1) : found->second;
}

}  // namespace

Error Store::Inside::failed() const { return broken(failure); }

Result<void> Store::Inside::check(std::span<const Group> groups) const {
  for (const auto& group : groups) {
    if (number(group.lane) >= state.lanes.size()) {
      return rejected(fmt::format("driver \"{}\": lane {} is not in the store", group.driver, number(group.lane)));
    }
    for (const auto& change : group.changes) {
      std::size_t name = group.driver.size() + change.name.size();
      std::size_t value = change.value ? change.value->size() : 0;
      if (name > kMostStateNameBytes || value > kMostStateValueBytes || group.driver.find('\0') != std::string::npos) {
        return rejected(
            fmt::format("driver \"{}\": a state of {} name bytes (at most {}) and {} value bytes (at most {})",
                        group.driver, name, kMostStateNameBytes, value, kMostStateValueBytes));
      }
    }
  }
  return {};
}

Draft Store::Inside::begin_draft() {
  Draft draft;
  draft.now = clock.wall();
  draft.sealed_frame = sealed_frame;
  draft.stamp = BlockStamp{state.epochs.back().epoch, state.runs.back().run, clock.boot(), Lane{}};
  {
    std::lock_guard lock(mutex);
    for (const auto& lane : state.lanes) {
      draft.marks.push_back(lane.marks);
      draft.sealed.push_back(lane.sealed);
      draft.first_block.push_back(lane.first_block);
      draft.pages.push_back(lane.pages);
    }
    draft.ledger = state.ledger;
    draft.struck = state.struck;
    draft.suspects = state.suspects;
    draft.more_to_delete = state.more_to_delete;
    draft.dead_letters = state.dead_letters;
    state.closed = std::max(state.closed, state.close_wanted);
  }
  draft.records.resize(draft.marks.size());
  for (auto entry : draft.struck) draft.ledger.strike(entry);
  for (std::size_t i = 0; i < draft.marks.size(); ++i) {
    draft.ledger.clip(Lane{static_cast<std::uint16_t>(i)}, draft.marks[i].delivered);
  }
  return draft;
}

Result<void> Store::Inside::commit(std::span<const Group> groups, std::vector<std::size_t>& left) {
  if (!failure.empty()) return failed();
  if (auto valid = check(groups); !valid) return valid;
  if (auto tended = tend(groups.empty()); !tended) return tended;

  std::vector<std::optional<Cause>> fates(groups.size());
  for (int attempt = 0; attempt < kMostCommitAttempts; ++attempt) {
    Draft draft = begin_draft();
    draft.suspects.clear();
    take_in(groups, fates, draft);
    left = draft.left;
    FrameContent content = frame_of(draft);
    if (content.parts.empty() && content.rows.empty()) return {};
    if (content.raw_bytes() > journal->bytes() / kFrameShare) return commit_directly(groups, left);
    switch (append(draft, content)) {
      case Outcome::done: {
        bool half_full = journal->used_bytes() > journal->bytes() / 2 && journal->used_bytes() >= seal_again_at;
        return half_full && seal_step() == Outcome::broken ? failed() : Result<void>();
      }
      case Outcome::broken: return failed();
      case Outcome::no_room: break;
    }
    auto before = journal->used_bytes();
    if (seal_step() == Outcome::broken) return failed();
    if (journal->used_bytes() < before) continue;
    // Nothing can leave the journal, because LMDB is full and the policy lets nothing go.
    if (content.parts.empty()) {
      auto outcome = write(draft);  // small rows have room in LMDB's reserve
      if (outcome == Outcome::done) return {};
      if (outcome == Outcome::broken) return failed();
      break;
    }
    if (settings.when_full != WhenFull::reject_newest) break;
    std::fill(fates.begin(), fates.end(), Cause::refused);
  }
  return full(fullness());
}

/// What is due in LMDB before a commit: damage to look at, records that are too old, delivered blocks to delete, small rows
/// that grow too many.
Result<void> Store::Inside::tend(bool idle) {
  if (const auto pages = state.dead_letters.pages; pages > most_dead_letter_pages()) {  // the capacity was lowered
    auto step = std::max(most_dead_letter_pages(), pages - std::min(pages, kMostTrimmedPages));
    if (trim_dead_letters(step) == Outcome::broken) return failed();
  }
  bool due = [&] {
    std::lock_guard lock(mutex);
    return !state.suspects.empty() || overlay.size() > kMostOverlay;
  }();
  const bool expires = expiry_is_due();
  due = due || expires || deletes_are_due() || (idle && can_delete());
  if (!due) return {};
  Draft draft = begin_draft();
  draft.expires = expires;
  auto outcome = write(draft);
  if (outcome == Outcome::no_room && let_pages_ripen()) {
    draft = begin_draft();
    draft.expires = expires;
    outcome = write(draft);
  }
  return failure.empty() ? Result<void>() : failed();
}

/// More than a frame should hold, or `retry`, whose groups they are: what is in the journal goes to LMDB, and then the
/// groups. A retry is done whole or not at all.
Result<void> Store::Inside::commit_directly(std::span<const Group> groups, std::vector<std::size_t>& left,
                                            const Retry* retry) {
  auto sealed = seal_everything();
  if (sealed == Outcome::broken) return failed();
  std::uint64_t at_least = 0;
  bool ripened = false;
  for (int attempt = 0; attempt < kMostCommitAttempts; ++attempt) {
    auto fates = make_room(groups, at_least);
    if (sealed == Outcome::no_room) {
      if (settings.when_full != WhenFull::reject_newest) return full(fullness());
      fates = std::vector<std::optional<Cause>>(groups.size(), Cause::refused);
    }
    if (!fates) return fates.error();
    if (retry != nullptr &&
        std::any_of(fates->begin(), fates->end(), [](const auto& fate) { return fate.has_value(); })) {
      return full(fullness());
    }
    Draft draft = begin_draft();
    take_in(groups, *fates, draft);
    left = draft.left;
    if (retry != nullptr) {
      draft.stamp.boot = retry->boot;
      draft.letters = retry->erased;
      draft.dead_letters.count -= retry->count;
      draft.dead_letters.pages -= retry->pages;
    }
    pack(draft);
    if (sealed != Outcome::no_room) {
      for (std::size_t i = 0; i < draft.sealed.size(); ++i) draft.sealed[i] = draft.marks[i].last;
    }

    // The estimate was too low for these records: make room for what it really takes.
    std::uint64_t needed = draft.blocks.size() + kOverheadPages;
    if (needed > at_least && !has_room_for(draft)) {
      at_least = needed;
      continue;
    }
    switch (write(draft)) {
      case Outcome::done: return {};
      case Outcome::broken: return failed();
      case Outcome::no_room: break;
    }
    // Pages freed by the last two commits cannot be used yet; if that was all, nothing need be given up.
    if (!ripened && let_pages_ripen()) {
      ripened = true;
      continue;
    }
    if (!failure.empty()) return failed();
    at_least = std::max(at_least, available_pages(0)) + 32;
  }
  return full(fmt::format("{}, no room after {} attempts", fullness(), kMostCommitAttempts));
}

void Store::Inside::take_in(std::span<const Group> groups, const std::vector<std::optional<Cause>>& fates,
                            Draft& draft) {
  std::set<std::string_view> waiting;  // drivers
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto& group = groups[i];
    // What comes again stays in order: behind one that is left nothing of its driver is taken.
    if (group.comes_again && (fates[i] == Cause::refused || waiting.contains(group.driver))) {
      waiting.insert(group.driver);
      draft.left.push_back(i);
      continue;
    }
    if (fates[i]) {
      count_refused(draft, group.lane, *fates[i], group.records.size());
    } else {
      for (const auto& record : group.records) {
        if (record.bytes() > settings.max_record_bytes && !record.retried) {
          count_refused(draft, group.lane, Cause::too_large, 1);
        } else {
          draft.records[number(group.lane)].records.push_back(&record);
        }
      }
    }
    if (group.refusal) count_refused(draft, group.lane, group.refusal->cause, group.refusal->count);
    for (const auto& change : group.changes) {
      draft.changes.emplace_back(state_key(group.driver, change.name), change.value);
    }
  }
  for (std::size_t i = 0; i < draft.records.size(); ++i) {
    auto& fresh = draft.records[i];
    if (fresh.records.empty()) continue;
    auto& last = draft.marks[i].last;
    fresh.first = last.next();
    last = Sequence(last.value() + fresh.records.size());
    draft.store_run = true;
  }
  if (state.run_stored) draft.store_run = false;
}

void Store::Inside::count_refused(Draft& draft, Lane lane, Cause cause, std::uint64_t count) {
  if (count == 0) return;
  LedgerEntry entry{cause, lane, {}, {}, count, draft.now};
  draft.ledger.add_count(entry, state.closed);
  draft.given_up[static_cast<std::size_t>(cause)] += count;
  draft.store_run = true;  // a checkpoint that carries it must name a run we know again
}

/// What of first..last is not delivered, and not given up before, goes to the ledger, cut where one epoch ends and the
/// next begins.
void Store::Inside::give_up(Draft& draft, Lane lane, Sequence first, Sequence last, Cause cause) {
  const auto& name = state.lanes[number(lane)].name;
  first = std::max(first, draft.marks[number(lane)].delivered.next());
  const Sequence end_of_all = last;
  while (first <= end_of_all) {
    if (auto* known = draft.ledger.covering(lane, first)) {
      first = known->last.next();
      continue;
    }
    last = end_of_all;
    if (auto* next = draft.ledger.following(lane, first)) last = std::min(last, next->first.previous());
    Sequence begin(1), end = last;
    for (std::size_t i = 1; i < state.epochs.size(); ++i) {
      Sequence at = epoch_begin(state.epochs[i], name);
      if (at <= first) {
        begin = at;
        end = last;  // a newer epoch that begins before ends the older ones
      } else {
        end = std::min(end, at.previous());
      }
    }
    draft.ledger.add_range({cause, lane, first, end, 0, draft.now}, begin);
    draft.given_up[static_cast<std::size_t>(cause)] += count_between(first, end);
    first = end.next();
  }
}

Result<void> Store::Inside::settle(const Settlement& settlement) {
  if (!failure.empty()) return failed();
  for (int attempt = 0; attempt < 3; ++attempt) {
    Draft draft = begin_draft();
    if (!settlement.fork) {
      auto entries = draft.ledger.entries();
      for (const auto& [entry, content] : entries) {
        if (entry <= settlement.ledger) draft.ledger.strike(entry);
      }
    }
    EpochEntry fork{settlement.fork ? draw<Epoch>() : Epoch{}, {}, settlement.forked_from};
    for (std::size_t i = 0; i < draft.marks.size(); ++i) {
      auto& marks = draft.marks[i];
      Lane lane{static_cast<std::uint16_t>(i)};
      marks.delivered = std::max(marks.delivered, std::min(at(settlement.delivered, state.lanes[i].name), marks.last));
      draft.ledger.clip(lane, marks.delivered);
      fork.first[state.lanes[i].name] = marks.delivered.next();
      if (settlement.fork) draft.closing.insert(lane);
    }
    if (settlement.fork) draft.fork = std::move(fork);

    auto outcome = write(draft);
    if (outcome == Outcome::broken) return failed();
    if (outcome == Outcome::done) {
      if (!settlement.fork) {
        std::lock_guard lock(mutex);
        state.ledger_sent = std::max(state.ledger_sent, settlement.ledger);
      }
      return {};
    }
    if (!let_pages_ripen()) break;
  }
  if (!failure.empty()) return failed();
  return full(fmt::format("{}, no room to settle with the checkpoint", fullness()));
}

}  // namespace penstock
