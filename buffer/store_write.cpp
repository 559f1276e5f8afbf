#include <fmt/format.h>

#include <algorithm>

#include "buffer/store_inside.h"

namespace penstock {
namespace {

// Each attempt evicts or refuses more than the one before.
constexpr int kMostAttempts = 64;
// Pages that a commit may need besides its blocks: tree, free list, small rows.
constexpr std::uint64_t kOverheadPages = 8;

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
  {
    std::lock_guard lock(mutex);
    draft.commit = state.committed + 1;
    for (const auto& lane : state.lanes) draft.marks.push_back(lane.marks);
    draft.ledger = state.ledger;
    draft.struck = state.struck;
    draft.suspects = state.suspects;
    state.closed = std::max(state.closed, state.close_wanted);
  }
  for (auto entry : draft.struck) draft.ledger.strike(entry);
  for (std::size_t i = 0; i < draft.marks.size(); ++i) {
    draft.ledger.clip(Lane{static_cast<std::uint16_t>(i)}, draft.marks[i].delivered);
  }
  return draft;
}

Result<void> Store::Inside::commit(std::span<const Group> groups) {
  if (!failure.empty()) return failed();
  if (auto valid = check(groups); !valid) return valid;

  std::uint64_t at_least = 0;
  bool ripened = false;
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    auto fates = make_room(groups, at_least);
    if (!fates) return fates.error();
    Draft draft = begin_draft();
    take_in(groups, *fates, draft);

    // The estimate was too low for these records: make room for what it really takes.
    std::uint64_t needed = draft.rows.size() + kOverheadPages;
    if (needed > kOverheadPages + 1 && needed > at_least && available_pages() + reserve_pages() / 2 < needed) {
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
    if (groups.empty()) return full(fmt::format("{}: no room for a commit", directory.path().string()));
    at_least = std::max(at_least, available_pages()) + 32;
  }
  return full(fmt::format("{}: no room after {} attempts", directory.path().string(), kMostAttempts));
}

void Store::Inside::take_in(std::span<const Group> groups, const std::vector<std::optional<Cause>>& fates,
                            Draft& draft) {
  std::vector<std::vector<const Record*>> records(draft.marks.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto& group = groups[i];
    if (fates[i] && group.comes_again) continue;
    if (fates[i]) {
      count_refused(draft, group.lane, *fates[i], group.records.size());
    } else {
      for (const auto& record : group.records) {
        if (record.bytes() > settings.max_record_bytes) {
          count_refused(draft, group.lane, Cause::too_large, 1);
        } else {
          records[number(group.lane)].push_back(&record);
        }
      }
    }
    if (group.refusal) count_refused(draft, group.lane, group.refusal->cause, group.refusal->count);
    for (const auto& change : group.changes) {
      draft.changes.emplace_back(state_key(group.driver, change.name), change.value);
    }
  }

  for (std::size_t i = 0; i < records.size(); ++i) {
    if (records[i].empty()) continue;
    Lane lane{static_cast<std::uint16_t>(i)};
    auto& marks = draft.marks[i];
    auto& packer = packers[i];
    // All of it is in Kafka: rather a small new block than the old one again.
    if (packer.open() && packer.open_last() <= marks.delivered) packer.close();
    BlockStamp stamp{state.epochs.back().epoch, state.runs.back().run, clock.boot(), lane};
    packer.pack(records[i], marks.last.next(), stamp, *coder, draft.rows);
    marks.last = Sequence(marks.last.value() + records[i].size());
    draft.packed.push_back(lane);
    draft.store_run = true;
  }
  if (state.run_stored) draft.store_run = false;
}

void Store::Inside::count_refused(Draft& draft, Lane lane, Cause cause, std::uint64_t count) {
  if (count == 0) return;
  LedgerEntry entry{cause, lane, {}, {}, count, draft.now, draft.commit};
  draft.ledger.add_count(entry, state.closed);
  draft.given_up[static_cast<std::size_t>(cause)] += count;
  draft.store_run = true;  // a checkpoint that carries it must name a run we know again
}

/// What of first..last is not delivered goes to the ledger, cut where one epoch ends and the next begins.
void Store::Inside::give_up(Draft& draft, Lane lane, Sequence first, Sequence last, Cause cause) {
  const auto& name = state.lanes[number(lane)].name;
  first = std::max(first, draft.marks[number(lane)].delivered.next());
  while (first <= last) {
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
    draft.ledger.add_range({cause, lane, first, end, 0, draft.now, draft.commit}, begin);
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
      return sync();
    }
    if (!let_pages_ripen()) break;
  }
  if (!failure.empty()) return failed();
  return full(fmt::format("{}: no room to settle with the checkpoint", directory.path().string()));
}

Result<void> Store::Inside::sync() {
  if (!failure.empty()) return failed();
  if (durable.value() >= state.committed) return {};
  if (auto code = environment->sync(); code != 0) {
    failure = fmt::format("{}: cannot sync: {}", directory.path().string(), text_of(code));
    return failed();
  }
  {
    std::lock_guard lock(mutex);
    for (auto& lane : state.lanes) lane.durable = lane.marks.last;
    ++state.syncs;
  }
  durable.raise(state.committed);
  return {};
}

}  // namespace penstock
