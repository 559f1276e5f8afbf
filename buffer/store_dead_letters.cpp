// Records that Kafka refuses for good: set aside, listed, retried, discarded. docs/formats.md, "Dead letters".
#include <fmt/format.h>

#include <algorithm>

#include "buffer/store_inside.h"

namespace penstock {
namespace {

constexpr std::uint64_t kShareOfCapacity = 20;
constexpr std::size_t kMostReasonBytes = 512;
// What one transaction takes: values, and bytes of records.
constexpr std::uint64_t kLetterPiecesPerCommit = 256;
constexpr std::size_t kLetterBytesPerCommit = std::size_t{1} << 20;
constexpr std::size_t kLetterPiecesPerSnapshot = 64;
// Each attempt makes more room than the one before.
constexpr int kMostAsideAttempts = 64;

struct FoundLetter {
  DeadLetterId id;
  DeadLetterRow row;
  std::vector<std::string> pieces;
};

/// The rows after `after`, in order, as long as `take` wants more.
template <class Take>
void each_row(Transaction& transaction, const std::optional<DeadLetterId>& after, Take take) {
  const DeadLetterId none;
  std::string from = dead_letter_row_key(after.value_or(none));
  Cursor cursor(transaction);
  for (bool more = cursor.seek(from); more; more = cursor.next()) {
    auto id = parse_dead_letter_row_key(cursor.key());
    if (!id) break;
    if (after && *id == *after) continue;
    auto row = parse_dead_letter_row(cursor.value());
    if (row && !take(*id, *row)) break;
  }
}

std::optional<DeadLetterRow> row_of(Transaction& transaction, const DeadLetterId& id) {
  auto value = transaction.get(dead_letter_row_key(id));
  return value ? parse_dead_letter_row(*value) : std::nullopt;
}

void copy_pieces(Transaction& transaction, FoundLetter& letter) {
  for (std::uint32_t i = 0; i < letter.row.pieces; ++i) {
    auto value = transaction.get(dead_letter_key(letter.id, static_cast<std::uint16_t>(i)));
    if (!value) break;
    letter.pieces.emplace_back(*value);
  }
}

/// Nothing: it is damaged.
std::optional<StoredRecord> decode(const FoundLetter& letter, BlockReader& reader) {
  if (letter.pieces.size() != letter.row.pieces) return std::nullopt;
  std::vector<std::string_view> pieces(letter.pieces.begin(), letter.pieces.end());
  auto header = pieces.size() == 1 ? reader.open(pieces[0]) : reader.open(pieces);
  if (!header || !header->stamp.dead_letter) return std::nullopt;
  const auto& stamp = header->stamp;
  if (stamp.epoch != letter.id.epoch || stamp.lane != letter.id.lane || header->first != letter.id.sequence) {
    return std::nullopt;
  }
  StoredRecord stored{letter.id.lane, letter.id.sequence, letter.id.epoch, stamp.boot, {}};
  auto more = reader.next(stored.record);
  if (!more || !*more) return std::nullopt;
  return stored;
}

/// Each once, in the order they were named.
std::vector<DeadLetterId> once(std::span<const DeadLetterId> ids) {
  std::vector<DeadLetterId> result;
  std::set<DeadLetterId> seen;
  for (const auto& id : ids) {
    if (seen.insert(id).second) result.push_back(id);
  }
  return result;
}

Record again(Record record, const DeadLetterId& id, const std::string& lane) {
  if (record.retried) record.headers.pop_back();  // it was a retry itself
  record.headers.push_back({kRetryOf, fmt::format("{}:{}:{}", id.epoch.hex(), lane, id.sequence.value())});
  record.retried = true;
  return record;
}

}  // namespace

std::uint64_t Store::Inside::most_dead_letter_pages() const {
  return settings.capacity_bytes / environment->page_bytes() / kShareOfCapacity;
}

Result<void> Store::set_aside(Lane lane, Sequence sequence, const std::string& reason) {
  auto found = peek(lane, sequence, {1, 1});
  if (!found) return found.error();
  if (!found->empty() && found->front().sequence == sequence) return inside_->set_aside(found->front(), reason);
  const auto name = name_of(lane);
  Transaction snapshot(*inside_->environment, Transaction::Access::read);
  if (row_of(snapshot, {history().epoch_of(name, sequence), lane, sequence})) return {};
  if (snapshot.code() != 0) return inside_->distrust(snapshot.code(), "look for a dead letter");
  return rejected(
      fmt::format("lane \"{}\": record {} is not in the queue, so it cannot be set aside", name, sequence.value()));
}

Result<void> Store::Inside::set_aside(const StoredRecord& stored, const std::string& reason) {
  if (!failure.empty()) return failed();
  BlockBuilder record;
  record.append(stored.record);
  BlockStamp stamp{stored.epoch, state.runs.back().run, stored.boot, stored.lane, true};
  std::vector<std::string> pieces;
  if (auto encoded = coder->encode(stamp, stored.sequence, record); !encoded.value.empty()) {
    pieces.push_back(std::move(encoded.value));
  } else {
    pieces = coder->fragments(stamp, stored.sequence, record);
  }
  if (pieces.size() > most_dead_letter_pages()) pieces.clear();

  bool ripened = false;
  for (int attempt = 0; attempt < kMostAsideAttempts; ++attempt) {
    auto outcome = try_set_aside(stored, reason, pieces);
    if (outcome == Outcome::done) return {};
    if (outcome == Outcome::broken) return failed();
    if (can_delete()) {  // what Kafka has goes before anything is given up
      Draft deleting = begin_draft();
      deleting.suspects.clear();
      outcome = write(deleting);
      if (outcome == Outcome::broken) return failed();
      if (outcome == Outcome::done) continue;
    }
    if (!ripened && let_pages_ripen()) {
      ripened = true;
      continue;
    }
    if (!failure.empty()) return failed();
    if (settings.when_full == WhenFull::evict_oldest && evict()) {
      const auto& marks = state.lanes[number(stored.lane)].marks;
      if (marks.dropped >= stored.sequence) return {};  // it went itself, and the ledger says so
      continue;
    }
    if (!failure.empty()) return failed();
    // Nothing else may go. That nothing could be sent any more would be worse than to lose a dead letter.
    if (auto pages = state.dead_letters.pages; pages > 0) {
      if (trim_dead_letters(pages - std::min<std::uint64_t>(pages, pieces.size())) == Outcome::broken) return failed();
      ripened = false;
    } else {
      pieces.clear();
    }
  }
  return full(fmt::format("{}, no room to set a record aside", fullness()));
}

/// Without pieces it is given up at once.
Outcome Store::Inside::try_set_aside(const StoredRecord& stored, const std::string& reason,
                                     std::span<std::string> pieces) {
  Draft draft = begin_draft();
  draft.suspects.clear();
  if (draft.marks[number(stored.lane)].delivered >= stored.sequence) return Outcome::done;
  // Of the reserve three quarters, more than blocks: a record that Kafka refuses holds up all that follow.
  const auto needed = pieces.size() + kOverheadPages;
  if (!pieces.empty() && free_pages(reserve_pages() / 4, needed) < needed) return Outcome::no_room;
  Transaction transaction(*environment, Transaction::Access::write);
  give_up(draft, stored.lane, stored.sequence, stored.sequence, Cause::dead_letter);
  if (pieces.empty()) {
    count_refused(draft, stored.lane, Cause::dead_letter_evicted, 1);
  } else {
    evict_dead_letters(transaction, draft, most_dead_letter_pages() - pieces.size());
    const DeadLetterId id{stored.epoch, stored.lane, stored.sequence};
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      draft.letters.emplace_back(dead_letter_key(id, static_cast<std::uint16_t>(i)), pieces[i]);
    }
    auto& totals = draft.dead_letters;
    DeadLetterRow row{++totals.last_number, draft.now, static_cast<std::uint16_t>(pieces.size()),
                      reason.substr(0, kMostReasonBytes)};
    draft.letters.emplace_back(dead_letter_row_key(id), encode_dead_letter_row(row));
    ++totals.count;
    totals.pages += pieces.size();
  }
  if (state.run_stored) draft.store_run = false;
  return finish(transaction, draft);
}

bool Store::Inside::take_out(Transaction& transaction, Draft& draft, const DeadLetterId& id) {
  auto row = row_of(transaction, id);
  if (!row) return false;
  for (std::uint32_t i = 0; i < row->pieces; ++i) {
    draft.letters.emplace_back(dead_letter_key(id, static_cast<std::uint16_t>(i)), std::nullopt);
  }
  draft.letters.emplace_back(dead_letter_row_key(id), std::nullopt);
  --draft.dead_letters.count;
  draft.dead_letters.pages -= row->pieces;
  return true;
}

/// The oldest, until no more than `most_pages` are left.
void Store::Inside::evict_dead_letters(Transaction& transaction, Draft& draft, std::uint64_t most_pages) {
  if (draft.dead_letters.pages <= most_pages) return;
  std::vector<std::pair<std::uint64_t, DeadLetterId>> by_age;
  each_row(transaction, std::nullopt, [&](const DeadLetterId& id, const DeadLetterRow& row) {
    by_age.emplace_back(row.number, id);
    return true;
  });
  std::sort(by_age.begin(), by_age.end());
  for (const auto& [age, id] : by_age) {
    if (draft.dead_letters.pages <= most_pages) break;
    if (take_out(transaction, draft, id)) count_refused(draft, id.lane, Cause::dead_letter_evicted, 1);
  }
}

Outcome Store::Inside::trim_dead_letters(std::uint64_t most_pages) {
  Draft draft = begin_draft();
  draft.suspects.clear();
  Transaction transaction(*environment, Transaction::Access::write);
  evict_dead_letters(transaction, draft, most_pages);
  if (state.run_stored) draft.store_run = false;
  return finish(transaction, draft);
}

Result<DeadLettersDone> Store::retry(std::span<const DeadLetterId> ids) { return inside_->retry(ids); }
Result<DeadLettersDone> Store::discard(std::span<const DeadLetterId> ids) { return inside_->discard(ids); }

Result<DeadLettersDone> Store::Inside::retry(std::span<const DeadLetterId> ids) {
  if (!failure.empty()) return failed();
  DeadLettersDone result;
  const auto wanted = once(ids);
  for (std::size_t at = 0; at < wanted.size();) {
    Retry retry;
    std::vector<std::size_t> none_left;  // these groups do not come again
    std::size_t bytes = 0;
    {
      Transaction snapshot(*environment, Transaction::Access::read);
      for (; at < wanted.size() && retry.pages < kLetterPiecesPerCommit && bytes < kLetterBytesPerCommit; ++at) {
        const auto& id = wanted[at];
        auto row = row_of(snapshot, id);
        if (!row) {
          result.missing.push_back(id);
          continue;
        }
        FoundLetter letter{id, *row, {}};
        copy_pieces(snapshot, letter);
        auto stored = decode(letter, examiner);
        if (!stored) {
          result.damaged.push_back(id);
          continue;
        }
        if (retry.count != 0 && retry.boot != stored->boot) break;
        retry.boot = stored->boot;
        auto group = std::find_if(retry.groups.begin(), retry.groups.end(),
                                  [&](const Group& one) { return one.lane == id.lane; });
        if (group == retry.groups.end()) {
          retry.groups.emplace_back().lane = id.lane;
          group = std::prev(retry.groups.end());
        }
        bytes += stored->record.bytes();
        group->records.push_back(again(std::move(stored->record), id, state.lanes[number(id.lane)].name));
        for (std::uint32_t i = 0; i < row->pieces; ++i) {
          retry.erased.emplace_back(dead_letter_key(id, static_cast<std::uint16_t>(i)), std::nullopt);
        }
        retry.erased.emplace_back(dead_letter_row_key(id), std::nullopt);
        ++retry.count;
        retry.pages += row->pieces;
      }
      if (snapshot.code() != 0) return distrust(snapshot.code(), "read dead letters");
    }
    if (retry.count == 0) continue;
    if (auto done = commit_directly(retry.groups, none_left, &retry); !done) {
      if (done.error().fault != Fault::full) return done.error();
      result.no_room = done.error().what;
      return result;
    }
    result.done += retry.count;
  }
  return result;
}

Result<DeadLettersDone> Store::Inside::discard(std::span<const DeadLetterId> ids) {
  if (!failure.empty()) return failed();
  DeadLettersDone result;
  const auto wanted = once(ids);
  bool ripened = false;
  for (std::size_t at = 0; at < wanted.size();) {
    Draft draft = begin_draft();
    draft.suspects.clear();
    const std::uint64_t pages_before = draft.dead_letters.pages, count_before = draft.dead_letters.count;
    std::vector<DeadLetterId> missing;
    Transaction transaction(*environment, Transaction::Access::write);
    auto next = at;
    for (; next < wanted.size() && pages_before - draft.dead_letters.pages < kLetterPiecesPerCommit; ++next) {
      if (take_out(transaction, draft, wanted[next])) {
        count_refused(draft, wanted[next].lane, Cause::discarded, 1);
      } else {
        missing.push_back(wanted[next]);
      }
    }
    if (state.run_stored) draft.store_run = false;
    const auto taken = count_before - draft.dead_letters.count;
    auto outcome = taken == 0 && transaction.code() == 0 ? Outcome::done : finish(transaction, draft);
    if (outcome == Outcome::broken) return failed();
    if (outcome == Outcome::no_room) {
      if (!ripened && let_pages_ripen()) {
        ripened = true;
        continue;
      }
      if (!failure.empty()) return failed();
      result.no_room = fmt::format("{}, no room to discard dead letters", fullness());
      return result;
    }
    result.done += taken;
    result.missing.insert(result.missing.end(), missing.begin(), missing.end());
    at = next;
  }
  return result;
}

Result<std::vector<DeadLetter>> Store::dead_letters(const std::optional<DeadLetterId>& after,
                                                    const BatchLimits& limits) const {
  std::vector<DeadLetter> result;
  std::optional<DeadLetterId> position = after;
  BlockReader reader;
  std::size_t bytes = 0;
  for (bool more = true; more;) {
    std::vector<FoundLetter> found;
    {
      Transaction snapshot(*inside_->environment, Transaction::Access::read);
      std::size_t pieces = 0;
      more = false;
      each_row(snapshot, position, [&](const DeadLetterId& id, const DeadLetterRow& row) {
        more = pieces >= kLetterPiecesPerSnapshot;
        if (more) return false;
        pieces += row.pieces;
        copy_pieces(snapshot, found.emplace_back(FoundLetter{id, row, {}}));
        return true;
      });
      if (snapshot.code() != 0) return inside_->distrust(snapshot.code(), "read dead letters");
    }
    for (auto& letter : found) {
      auto stored = decode(letter, reader);
      DeadLetter row;
      row.reason = std::move(letter.row.reason);
      row.time = letter.row.time;
      row.damaged = !stored;
      row.stored =
          stored ? std::move(*stored) : StoredRecord{letter.id.lane, letter.id.sequence, letter.id.epoch, {}, {}};
      auto size = row.stored.record.bytes() + row.reason.size();
      if (!result.empty() && (result.size() >= limits.records || bytes + size > limits.bytes)) return result;
      bytes += size;
      position = letter.id;
      result.push_back(std::move(row));
    }
  }
  return result;
}

}  // namespace penstock
