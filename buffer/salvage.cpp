#include "buffer/salvage.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "buffer/block.h"
#include "buffer/bytes.h"
#include "buffer/database.h"
#include "buffer/meta.h"
#include "buffer/page_scan.h"

namespace penstock {
namespace {

constexpr std::size_t kPagesPerCommit = 256;

/// A block, or all fragments of a record.
struct Unit {
  Sequence first, last;
  Lane lane{};
  bool current = false;
  std::uint32_t run_order = 0;  // the higher the newer
  std::size_t begin = 0;        // in the list of found values
  std::uint16_t pieces = 1;
  std::uint64_t records() const { return count_between(first, last); }
};

/// A dead letter: what is said about it, and its values.
struct Letter {
  std::optional<DeadLetterRow> row;
  std::uint16_t fragments = 0;                  // values that it must have; 0: none was found
  std::map<std::uint16_t, std::size_t> pieces;  // by fragment; in the list of found values
};

std::optional<std::uint64_t> number_behind(const std::string& key, std::string_view name, std::size_t bytes) {
  if (key.size() != 1 + name.size() + bytes || key.compare(1, name.size(), name) != 0) return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = key.size() - bytes; i < key.size(); ++i) value = value << 8 | static_cast<unsigned char>(key[i]);
  return value;
}

class Salvaging {
 public:
  Salvaging(const PageSource& pages, const SalvageSettings& settings)
      : pages_(pages), settings_(settings), page_(pages.page_bytes(), '\0') {}

  Result<Salvaged> run(bool* nothing) {
    *nothing = false;
    scan_ = scan_pages(pages_, settings_.progress);
    result_.pages = scan_.pages;
    result_.unreadable_pages = scan_.unreadable;
    result_.used_pages = scan_.used;
    result_.newest_may_be_missing = result_.states_may_be_old = !scan_.rows_complete;
    take_rows_of_journal();
    read_rows();
    if (epochs_.empty() && scan_.blocks.empty() && scan_.dead_letters.empty() && settings_.epochs.empty()) {
      *nothing = true;
      return rejected(fmt::format("none of {} pages holds anything of a store", scan_.pages));
    }
    auto units = find_units();
    settle_lanes(units);
    find_dead_letters();
    choose(std::move(units));
    if (auto written = write(); !written) return written.error();
    return result_;
  }

 private:
  void take_rows_of_journal() {
    if (settings_.journal.empty()) return;
    // From where on it has every frame: what is older may have been changed by one that is missing.
    auto unbroken = settings_.journal.size() - 1;
    while (unbroken > 0 && settings_.journal[unbroken - 1].frame + 1 == settings_.journal[unbroken].frame) --unbroken;
    const std::uint64_t whole_from = settings_.journal[unbroken].frame;
    auto& rows = scan_.rows;
    const auto said = rows.find(meta_key("sealed"));
    auto sealed = said == rows.end() ? Sealed() : parse_sealed(said->second.value).value_or(Sealed());
    const std::uint64_t taken = said != rows.end() && said->second.current ? sealed.rows : 0;  // by the newest snapshot
    for (const auto& [frame, changes] : settings_.journal) {
      if (frame <= taken && (scan_.rows_complete || frame < whole_from)) continue;
      for (const auto& [key, value] : changes) {
        auto row = rows.find(key);
        if (frame <= taken && row != rows.end() && row->second.current) continue;
        if (value) {
          rows[key] = {*value, false};
        } else if (row != rows.end()) {
          rows.erase(row);
        }
      }
    }
    sealed.rows = std::max(sealed.rows, settings_.journal.back().frame);
    rows[meta_key("sealed")].value = encode_sealed(sealed);
  }

  void read_rows() {
    for (const auto& [key, row] : scan_.rows) {
      if (auto lane = number_behind(key, "lane", 2)) lanes_[Lane{static_cast<std::uint16_t>(*lane)}] = row.value;
      if (auto lane = number_behind(key, "marks", 2)) {
        if (auto marks = parse_marks(row.value)) marks_[Lane{static_cast<std::uint16_t>(*lane)}] = *marks;
      }
      if (auto index = number_behind(key, "epoch", 4)) {
        if (auto epoch = parse_epoch(row.value)) epochs_[*index] = *epoch;
      }
      if (auto index = number_behind(key, "run", 4)) {
        if (auto run = parse_run(row.value)) runs_[*index] = *run;
      }
      if (auto number = number_behind(key, "ledger", 8)) {
        if (auto entry = parse_ledger_entry(row.value)) ledger_[*number] = *entry;
      }
      if (auto id = parse_dead_letter_row_key(key)) {
        if (auto letter = parse_dead_letter_row(row.value)) letters_[*id].row = *letter;
      }
      if (key == meta_key("ledger_last") && row.value.size() == 8) {
        last_entry_ = load_big<std::uint64_t>(row.value.data());
      }
    }
    if (!ledger_.empty()) last_entry_ = std::max(last_entry_, ledger_.rbegin()->first);
    chain_whole_ = !epochs_.empty() && epochs_.rbegin()->first + 1 == epochs_.size();
    if (!scan_.rows_complete) {  // then a block of an epoch that no row names tells of a row that was lost
      for (const auto& epoch : scan_.epochs) chain_whole_ = chain_whole_ && names(epoch);
      for (const auto& epoch : settings_.epochs) chain_whole_ = chain_whole_ && names(epoch);
    }
    // Of the runs only those without a hole up to the newest: a chain with a link missing says nothing.
    std::optional<std::uint64_t> after;
    for (auto it = runs_.rbegin(); it != runs_.rend(); ++it) {
      if (after && it->first + 1 != *after) {
        runs_.erase(runs_.begin(), it.base());
        break;
      }
      after = it->first;
    }
  }

  Marks& marks(Lane lane) { return marks_[lane]; }
  Sequence gone(Lane lane) { return std::max(marks(lane).delivered, marks(lane).dropped); }

  bool names(const Epoch& epoch) const {
    return std::any_of(epochs_.begin(), epochs_.end(), [&](const auto& e) { return e.second.epoch == epoch; });
  }
  bool is_ours(const FoundBlock& block) const { return !chain_whole_ || names(scan_.epochs[block.epoch]); }

  std::vector<Unit> find_units() {
    std::vector<std::uint32_t> order(scan_.runs.size());
    for (const auto& [index, row] : runs_) {
      for (std::size_t i = 0; i < scan_.runs.size(); ++i) {
        if (scan_.runs[i] == row.run) order[i] = static_cast<std::uint32_t>(index + 1);
      }
    }
    auto& blocks = scan_.blocks;
    std::erase_if(blocks, [&](const FoundBlock& block) { return !is_ours(block); });
    // All pieces of one record together, each once; what the newest snapshot holds first.
    auto place = [](const FoundBlock& b) { return std::tuple(b.lane, b.first, b.run, b.fragments, b.fragment); };
    std::sort(blocks.begin(), blocks.end(), [&](const FoundBlock& a, const FoundBlock& b) {
      return std::tuple(place(a), !a.current, b.last) < std::tuple(place(b), !b.current, a.last);
    });
    blocks.erase(
        std::unique(blocks.begin(), blocks.end(), [&](const auto& a, const auto& b) { return place(a) == place(b); }),
        blocks.end());

    std::vector<Unit> units;
    for (std::size_t i = 0; i < blocks.size();) {
      const auto& head = blocks[i];
      Unit unit{head.first, head.last, head.lane, head.current, order[head.run], i, 1};
      std::size_t end = i + 1;
      if (head.fragments != 0) {
        while (end < blocks.size() && blocks[end].lane == head.lane && blocks[end].first == head.first &&
               blocks[end].run == head.run && blocks[end].fragments == head.fragments) {
          unit.current = unit.current && blocks[end].current;
          ++end;
        }
        unit.pieces = head.fragments;
      }
      bool complete = head.fragments == 0 || end - i == head.fragments;  // all or nothing
      if (complete) units.push_back(unit);
      i = end;
    }
    return units;
  }

  /// Every lane that anything speaks of gets a name and marks; every number that was ever given lies at or below its last.
  void settle_lanes(const std::vector<Unit>& units) {
    std::size_t count = settings_.lanes_seen;
    auto known = [&](Lane lane) { count = std::max<std::size_t>(count, number(lane) + std::size_t{1}); };
    auto rise = [&](Lane lane, Sequence last) { marks(lane).last = std::max(marks(lane).last, last); };
    for (const auto& [lane, name] : lanes_) known(lane);
    for (const auto& [id, letter] : letters_) {
      known(id.lane);
      rise(id.lane, id.sequence);
    }
    for (const auto& block : scan_.dead_letters) {
      if (!is_ours(block)) continue;
      known(block.lane);
      rise(block.lane, block.first);
    }
    for (const auto& unit : units) {
      known(unit.lane);
      rise(unit.lane, unit.last);
    }
    for (const auto& [n, entry] : ledger_) {
      known(entry.lane);
      rise(entry.lane, entry.last);
    }
    for (auto& [lane, marks] : marks_) {
      known(lane);
      marks.last = std::max({marks.last, marks.delivered, marks.dropped});
    }
    // A new store numbers its lanes in the order of the configuration. Where the names that are left say that it is still
    // that order, it gives those that are lost.
    bool in_order = true;
    std::set<std::string> taken;
    for (const auto& [lane, name] : lanes_) {
      taken.insert(name);
      in_order = in_order && number(lane) < settings_.lanes.size() && settings_.lanes[number(lane)] == name;
    }
    for (std::size_t i = 0; i < count; ++i) {
      Lane lane{static_cast<std::uint16_t>(i)};
      if (lanes_.count(lane) != 0) continue;
      std::string name = in_order && i < settings_.lanes.size() ? settings_.lanes[i] : fmt::format("lane-{}", i);
      while (!taken.insert(name).second) name += "-lost";
      lanes_[lane] = name;
    }
    if (!chain_whole_) lose_chain();
  }

  /// The epochs that are known, or that blocks speak of, and after them a new one for all that is not delivered.
  void lose_chain() {
    std::vector<EpochRow> chain;
    auto found = scan_.epochs;
    found.insert(found.end(), settings_.epochs.begin(), settings_.epochs.end());
    for (const auto& epoch : found) {
      auto listed = [&](const EpochRow& row) { return row.epoch == epoch; };
      if (!names(epoch) && std::none_of(chain.begin(), chain.end(), listed)) chain.push_back({epoch, Digest{}, {}});
    }
    for (const auto& [index, row] : epochs_) chain.push_back(row);
    EpochRow fresh{draw<Epoch>(), Digest{}, {}};
    for (const auto& [lane, name] : lanes_) fresh.first[lane] = marks(lane).delivered.next();
    chain.push_back(std::move(fresh));
    epochs_.clear();
    for (std::size_t i = 0; i < chain.size(); ++i) epochs_[i] = chain[i];
    result_.new_epoch = true;
  }

  /// What was set aside is never a record again: when the ledger's row of that is lost, it is entered anew.
  void stay_aside(const DeadLetterId& id) {
    bool told = std::any_of(ledger_.begin(), ledger_.end(), [&](const auto& entry) {
      const auto& range = entry.second;
      return range.ranged() && range.lane == id.lane && range.first <= id.sequence && id.sequence <= range.last;
    });
    if (told || id.sequence <= marks(id.lane).delivered) return;
    ledger_[++last_entry_] = LedgerEntry{Cause::dead_letter, id.lane, id.sequence, id.sequence, 1, settings_.now};
  }

  /// The values that belong to the rows, and the rows that belong to the values. A row without all of its values is a loss
  /// that is told.
  void find_dead_letters() {
    std::uint64_t last = 0;
    for (const auto& [id, letter] : letters_) last = std::max(last, letter.row ? letter.row->number : 0);
    for (std::size_t i = 0; i < scan_.dead_letters.size(); ++i) {
      const auto& block = scan_.dead_letters[i];
      const DeadLetterId id{scan_.epochs[block.epoch], block.lane, block.first};
      // When every row was read, one that is not there was erased.
      if (letters_.count(id) == 0 && (scan_.rows_complete || !names(id.epoch))) continue;
      auto& letter = letters_[id];
      letter.fragments = std::max<std::uint16_t>(block.fragments, 1);
      letter.pieces[block.fragment] = i;
    }
    for (auto it = letters_.begin(); it != letters_.end();) {
      auto& [id, letter] = *it;
      bool whole = letter.fragments != 0 && letter.pieces.size() == letter.fragments;
      if (whole || letter.row) stay_aside(id);
      if (whole && !letter.row) letter.row = DeadLetterRow{++last, settings_.now, 1, "not known any more"};
      if (whole) {
        letter.row->pieces = letter.fragments;
        ++it;
        continue;
      }
      if (letter.row) {
        ledger_[++last_entry_] = LedgerEntry{Cause::damaged, id.lane, {}, {}, 1, settings_.now};
        ++result_.lost;
      }
      it = letters_.erase(it);
    }
  }

  /// The best first; what overlaps something better is left out.
  void choose(std::vector<Unit> units) {
    std::sort(units.begin(), units.end(), [](const Unit& a, const Unit& b) {
      return std::tuple(b.current, b.run_order, b.records(), a.first) <
             std::tuple(a.current, a.run_order, a.records(), b.first);
    });
    for (const auto& unit : units) {
      if (unit.last <= gone(unit.lane) || given_up(unit)) continue;
      auto& lane = chosen_[unit.lane];
      auto next = lane.lower_bound(unit.first);
      if (next != lane.end() && next->second.first <= unit.last) continue;
      if (next != lane.begin() && std::prev(next)->second.last >= unit.first) continue;
      lane.emplace(unit.first, unit);
    }
  }

  bool given_up(const Unit& unit) const {
    return std::any_of(ledger_.begin(), ledger_.end(), [&](const auto& entry) {
      const auto& range = entry.second;
      return range.ranged() && range.lane == unit.lane && range.first <= unit.first && unit.last <= range.last;
    });
  }

  std::string value_of(const FoundBlock& block) {
    if (!pages_.read(block.page, page_.data())) return {};
    return page_.substr(block.offset, block.length);
  }

  /// Where the epoch that holds `first` ends in the lane, if that is before `last`.
  Sequence end_of_epoch(Lane lane, Sequence first, Sequence last) const {
    for (const auto& [index, row] : epochs_) {
      auto begin = row.first.find(lane);
      if (index > 0 && begin != row.first.end() && begin->second > first)
        last = std::min(last, begin->second.previous());
    }
    return last;
  }

  void lose(Lane lane, Sequence first, Sequence last) {
    while (first <= last) {
      Sequence end = end_of_epoch(lane, first, last);
      LedgerEntry entry{Cause::damaged, lane, first, end, count_between(first, end), settings_.now};
      ledger_[++last_entry_] = entry;
      result_.lost += entry.count;
      first = end.next();
    }
  }

  /// Whatever lies above the marks, before something that is kept, and was not given up before.
  void find_holes(Lane lane) {
    std::vector<std::pair<Sequence, Sequence>> covered;
    for (const auto& [first, unit] : chosen_[lane]) covered.emplace_back(first, unit.last);
    for (const auto& [n, entry] : ledger_) {
      if (entry.ranged() && entry.lane == lane) covered.emplace_back(entry.first, entry.last);
    }
    std::sort(covered.begin(), covered.end());
    Sequence position = marks(lane).delivered;
    const Sequence end = chosen_[lane].empty() ? Sequence() : chosen_[lane].rbegin()->second.last;
    for (const auto& [first, last] : covered) {
      if (first > end) break;  // of the journal's records the ledger may tell, too
      if (first > position.next()) lose(lane, position.next(), first.previous());
      position = std::max(position, last);
    }
    // What is missing behind the last block may be in the journal. If it is not, the store will find that out by reading.
  }

  Result<void> write() {
    // It may be more than the capacity, which the configuration may have lowered; the store then gives up by its policy.
    std::uint64_t values = 0;
    for (const auto& [lane, units] : chosen_) {
      for (const auto& [first, unit] : units) values += unit.pieces;
    }
    for (const auto& [id, letter] : letters_) values += letter.fragments;
    std::uint64_t needed = (values + values / 16 + 1024) * pages_.page_bytes();
    auto opened = Environment::open(settings_.directory, std::max(settings_.capacity_bytes, needed));
    if (!opened) return opened.error();
    auto& environment = **opened;
    {
      Transaction rows(environment, Transaction::Access::write);
      put_rows(rows);
      if (auto code = rows.commit(); code != 0) return write_error(code);
    }
    std::size_t waiting = 0;
    auto transaction = std::make_unique<Transaction>(environment, Transaction::Access::write);
    for (const auto& [lane, units] : chosen_) {
      for (const auto& [first, unit] : units) {
        for (std::size_t i = 0; i < unit.pieces; ++i) {
          transaction->put(fragment_key(lane, first, static_cast<std::uint16_t>(i)),
                           value_of(scan_.blocks[unit.begin + i]));
        }
        ++result_.blocks;
        result_.records += count_between(std::max(first, gone(lane).next()), unit.last);
        waiting += unit.pieces;
        if (waiting < kPagesPerCommit) continue;
        waiting = 0;
        if (auto code = transaction->commit(); code != 0) return write_error(code);
        transaction = std::make_unique<Transaction>(environment, Transaction::Access::write);
        if (settings_.progress) settings_.progress();
      }
    }
    for (const auto& [id, letter] : letters_) {
      for (const auto& [fragment, index] : letter.pieces) {
        transaction->put(dead_letter_key(id, fragment), value_of(scan_.dead_letters[index]));
      }
      transaction->put(dead_letter_row_key(id), encode_dead_letter_row(*letter.row));
      waiting += letter.fragments;
      if (waiting < kPagesPerCommit) continue;
      waiting = 0;
      if (auto code = transaction->commit(); code != 0) return write_error(code);
      transaction = std::make_unique<Transaction>(environment, Transaction::Access::write);
      if (settings_.progress) settings_.progress();
    }
    if (auto code = transaction->commit(); code != 0) return write_error(code);
    if (auto code = environment.sync(); code != 0) return write_error(code);
    return {};
  }

  Error write_error(DatabaseCode code) const {
    std::string what =
        fmt::format("{}: cannot write what was salvaged: {}", settings_.directory.string(), text_of(code));
    return map_is_full(code) || may_be_full_disk(code) ? full(std::move(what)) : broken(std::move(what));
  }

  void put_rows(Transaction& transaction) {
    for (const auto& [key, row] : scan_.rows) {
      bool replaced = number_behind(key, "marks", 2) || number_behind(key, "epoch", 4) ||
                      number_behind(key, "run", 4) || number_behind(key, "ledger", 8) ||
                      key == meta_key("ledger_last") || parse_dead_letter_row_key(key);
      if (!replaced) transaction.put(key, row.value);
    }
    if (scan_.rows.count(meta_key("format")) == 0) {
      std::string format;
      append_big(format, settings_.format);
      transaction.put(meta_key("format"), format);
    }
    for (const auto& [lane, name] : lanes_) transaction.put(lane_key(lane), name);
    for (const auto& [index, row] : epochs_) {
      transaction.put(epoch_key(static_cast<std::uint32_t>(index)), encode_epoch(row));
    }
    for (const auto& [index, row] : runs_) transaction.put(run_key(static_cast<std::uint32_t>(index)), encode_run(row));
    for (const auto& [lane, name] : lanes_) find_holes(lane);
    for (const auto& [lane, name] : lanes_) {
      auto kept = marks(lane);
      const auto& units = chosen_[lane];
      Sequence before = units.empty() ? kept.last : units.begin()->first.previous();
      kept.dropped = std::max(kept.dropped, std::min(gone(lane), before));
      if (kept != Marks{}) transaction.put(marks_key(lane), encode_marks(kept));
    }
    for (const auto& [n, entry] : ledger_) {
      if (!entry.ranged() || entry.last > marks(entry.lane).delivered) {
        transaction.put(ledger_key(n), encode_ledger_entry(entry));
      }
    }
    if (last_entry_ != 0) {
      std::string last;
      append_big(last, last_entry_);
      transaction.put(meta_key("ledger_last"), last);
    }
  }

  const PageSource& pages_;
  const SalvageSettings& settings_;
  std::string page_;
  PageScan scan_;
  Salvaged result_;
  std::map<Lane, std::string> lanes_;
  std::map<Lane, Marks> marks_;
  std::map<std::uint64_t, EpochRow> epochs_;
  std::map<std::uint64_t, RunRow> runs_;
  std::map<std::uint64_t, LedgerEntry> ledger_;
  std::map<DeadLetterId, Letter> letters_;
  std::uint64_t last_entry_ = 0;
  bool chain_whole_ = false;
  std::map<Lane, std::map<Sequence, Unit>> chosen_;
};

}  // namespace

Result<Salvaged> salvage(const PageSource& pages, const SalvageSettings& settings, bool* nothing) {
  return Salvaging(pages, settings).run(nothing);
}

}  // namespace penstock
