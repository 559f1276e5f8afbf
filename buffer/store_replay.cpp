#include <fmt/format.h>

#include <algorithm>

#include "buffer/store_inside.h"

namespace penstock {

/// The small rows as LMDB has them, and over them what newer frames of the journal say. Nothing is written: a full disk
/// must not keep the agent from starting.
Result<SmallRows> Store::Inside::replay() {
  SmallRows rows;
  Sealed sealed;
  Transaction snapshot(*environment, Transaction::Access::read);
  state.snapshot = snapshot.snapshot();
  {
    Cursor cursor(snapshot);
    const std::string states = meta_key("state"), after_states = meta_key("statf");
    bool more = cursor.seek(meta_key(""));
    while (more && cursor.key().substr(0, 1) == meta_key("")) {
      if (cursor.key().substr(0, states.size()) == states) {
        more = cursor.seek(after_states);
        continue;
      }
      if (parse_dead_letter_row_key(cursor.key())) {  // counted, not kept in RAM
        if (auto row = parse_dead_letter_row(cursor.value())) {
          auto& totals = state.dead_letters;
          ++totals.count;
          totals.pages += row->pieces;
          totals.last_number = std::max(totals.last_number, row->number);
        }
        more = cursor.next();
        continue;
      }
      rows.emplace(cursor.key(), cursor.value());
      more = cursor.next();
    }
  }
  if (auto value = snapshot.get(meta_key("sealed"))) sealed = parse_sealed(*value).value_or(Sealed{});
  if (snapshot.code() != 0) {
    return distrust(snapshot.code(), directory.path().string());
  }

  recovered = journal->recover(sealed.records, sealed.rows);
  sealed_frame = sealed.records;
  std::uint64_t expected = sealed.records + 1;
  std::string bytes;
  for (const auto& frame : recovered) {
    state.frames_lost += frame.place.number - expected;
    expected = frame.place.number + 1;
    if (frame.place.number <= sealed.rows) continue;
    if (auto read = journal->read(frame.place, bytes); !read) return read.error();
    auto opened = frame_examiner->open(bytes);
    auto changed = opened ? frame_examiner->rows() : Result<Rows>(opened.error());
    if (!changed) return changed.error();
    for (auto& [key, value] : *changed) {
      if (value) {
        rows[key] = *value;
      } else {
        rows.erase(key);
      }
      overlay[key] = std::move(value);
    }
  }
  state.journal_used = journal->used_bytes();
  return rows;
}

/// Where each lane's records lie that are not in LMDB.
void Store::Inside::place_frames() {
  unsealed.resize(state.lanes.size());
  for (const auto& frame : recovered) {
    for (const auto& span : frame.header.spans) {
      if (number(span.lane) >= unsealed.size()) continue;
      auto& spans = unsealed[number(span.lane)];
      if (span.last() > state.lanes[number(span.lane)].marks.last) continue;
      if (!spans.empty() && span.first <= spans.back().last) continue;
      spans.push_back({span.first, span.last(), frame.place});
    }
  }
  recovered = {};
  Transaction snapshot(*environment, Transaction::Access::read);
  for (std::size_t i = 0; i < unsealed.size(); ++i) {
    auto& lane = state.lanes[i];
    if (!unsealed[i].empty()) lane.sealed = unsealed[i].front().first.previous();
    // Counted only where somebody asks for it: it reads every key.
    bool any_share = std::any_of(state.lanes.begin(), state.lanes.end(), [](const auto& one) { return one.share > 0; });
    BlockWalk walk(snapshot, Lane{static_cast<std::uint16_t>(i)});
    auto block = walk.next();
    if (block) lane.first_block = block->first;
    for (; any_share && block; block = walk.next()) lane.pages += block->pieces;
  }
}

}  // namespace penstock
