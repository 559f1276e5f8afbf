#include "tests/crash/promises.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <sstream>

namespace penstock {
namespace {

constexpr const char* kDriver = "writer";

std::string text(std::uint64_t number) { return std::to_string(number); }
std::string text(const Said::Name& name) { return name.first + ' ' + text(name.second); }

/// A retry holds what the record held that it first was, under a lower sequence.
bool is_what_was_put(const std::string& lane, std::uint64_t sequence, const Record& record) {
  if (!record.retried) return record.payload == payload_of(lane, sequence);
  if (record.payload.compare(0, lane.size() + 1, lane + ' ') != 0) return false;
  auto first = std::strtoull(record.payload.c_str() + lane.size(), nullptr, 10);
  return first < sequence && record.payload == payload_of(lane, first);
}

/// Of the record that `retry` was: <epoch>:<lane>:<sequence>.
Said::Name retried_name(const Record& retry) {
  const auto& value = retry.headers.back().value;
  auto first = value.find(':'), last = value.rfind(':');
  return {value.substr(first + 1, last - first - 1), std::strtoull(value.c_str() + last + 1, nullptr, 10)};
}

/// What is wrong with the dead letters, in the light of all that is to be sent.
std::string wrong_letters(Store& store, const Batch& batch, const Said& said) {
  auto letters = store.dead_letters(std::nullopt, {});
  if (!letters) return "dead letters: " + letters.error().what;
  if (letters->size() != store.status().dead_letters) {
    return text(letters->size()) + " dead letters, " + text(store.status().dead_letters) + " by the status";
  }
  std::set<Said::Name> listed, retried;
  for (const auto& letter : *letters) {
    Said::Name name{store.name_of(letter.stored.lane), letter.stored.sequence.value()};
    if (letter.damaged) return "the dead letter " + text(name) + " is damaged";
    if (!is_what_was_put(name.first, name.second, letter.stored.record)) {
      return "the dead letter " + text(name) + " is not what was put";
    }
    listed.insert(name);
  }
  for (const auto& stored : batch.records) {
    Said::Name name{store.name_of(stored.lane), stored.sequence.value()};
    if (listed.count(name) != 0) return text(name) + " is a dead letter and a record";
    if (said.letters.count(name) != 0) return text(name) + " was set aside and is a record again";
    if (!stored.record.retried) continue;
    auto before = retried_name(stored.record);
    if (listed.count(before) != 0) return text(before) + " was retried and is still a dead letter";
    if (!retried.insert(before).second) return text(before) + " was retried twice";
  }
  bool evicted = false, letters_evicted = false;
  for (const auto& gap : batch.gaps) {
    evicted = evicted || gap.cause == Cause::evicted;
    letters_evicted = letters_evicted || gap.cause == Cause::dead_letter_evicted;
  }
  for (const auto& [name, word] : said.letters) {
    bool there = listed.count(name) != 0;
    if (word == "gone" && there) return text(name) + " was taken out and is still a dead letter";
    if (word == "aside" && !there && !letters_evicted) return "the dead letter " + text(name) + " is gone";
    if (word == "retried" && !there && retried.count(name) == 0 && !evicted && !letters_evicted) {
      return text(name) + " is neither a dead letter nor a record again";
    }
  }
  for (const auto& gap : batch.gaps) {
    if (gap.cause != Cause::dead_letter || letters_evicted) continue;
    for (auto sequence = gap.first; sequence <= gap.last; sequence = sequence.next()) {
      Said::Name name{store.name_of(gap.lane), sequence.value()};
      if (listed.count(name) == 0 && said.letters.count(name) == 0) return text(name) + " is a gap and no dead letter";
    }
  }
  return {};
}

}  // namespace

StoreSettings crash_settings(const std::string& directory, std::uint64_t capacity_bytes) {
  StoreSettings settings;
  settings.directory = directory;
  settings.agent = "crash";
  settings.capacity_bytes = capacity_bytes;
  settings.journal_bytes = std::uint64_t{128} << 10;  // it comes round every few dozen commits
  settings.lanes = {{"telemetry", 1}, {"alarms", 0}};
  return settings;
}

std::string payload_of(const std::string& lane, std::uint64_t sequence) {
  std::uint64_t mixed = sequence * 0x9e37'79b9'7f4a'7c15 + lane.size();
  std::string payload = lane + ' ' + std::to_string(sequence) + ' ';
  std::size_t size = mixed % 97 == 0 ? 5'000 + mixed % 7'000 : mixed % 200;  // some need more than a page
  while (payload.size() < size) {
    mixed = mixed * 6'364'136'223'846'793'005 + 1'442'695'040'888'963'407;
    payload += static_cast<char>(mixed >> 56);
  }
  return payload;
}

std::vector<Group> next_groups(const Store& store, const Clock& clock, const std::function<std::uint64_t()>& count) {
  std::vector<Group> groups;
  for (const auto& row : store.status().lanes) {
    Group group;
    group.lane = row.lane;
    group.driver = kDriver;
    auto sequence = row.last.value();
    for (auto n = count(); n > 0; --n) {
      Record record;
      record.driver = kDriver;
      record.stream = row.name;
      record.time = clock.wall();
      record.payload = payload_of(row.name, ++sequence);
      group.records.push_back(std::move(record));
    }
    group.changes.push_back({row.name, std::to_string(sequence)});
    groups.push_back(std::move(group));
  }
  return groups;
}

void Said::hear(const std::string& said) {
  std::istringstream text_lines(said);
  for (std::string line; std::getline(text_lines, line); ++lines) {
    std::istringstream words(line);
    std::string word, lane;
    std::uint64_t sequence = 0;
    words >> word >> lane >> sequence;
    if (word == "durable") durable[lane] = std::max(durable[lane], sequence);
    if (word == "delivered") delivered[lane] = std::max(delivered[lane], sequence);
    if (word == "failed") failure = line;
    if (word == "begun") {
      for (auto& [name, last] : letters) last = last == "retried" || last == "discarded" ? "tried" : last;
    }
    for (const char* about : {"aside", "retried", "discarded", "gone", "tried"}) {
      if (word == about) letters[{lane, sequence}] = word;
    }
  }
}

std::vector<std::string> Said::again() const {
  std::vector<std::string> result;
  for (const auto& [lane, sequence] : durable) result.push_back("durable " + lane + ' ' + text(sequence));
  for (const auto& [lane, sequence] : delivered) result.push_back("delivered " + lane + ' ' + text(sequence));
  for (const auto& [name, word] : letters) result.push_back(word + ' ' + text(name));
  return result;
}

Result<void> refuse_some(Store& store, const std::function<std::uint64_t(std::uint64_t, std::uint64_t)>& pick,
                         const std::function<void(const std::string&)>& say) {
  constexpr std::uint64_t kMostPages = 6;  // before one more; the smallest store has room for 12
  const auto status = store.status();
  const auto what = pick(0, 7);
  auto told = [&](const char* word, const std::string& lane, Sequence sequence) {
    say(word + (' ' + lane) + ' ' + text(sequence.value()) + '\n');
  };
  if (what < 3) {
    const auto& lane = status.lanes[static_cast<std::size_t>(pick(0, status.lanes.size() - 1))];
    if (status.dead_letter_pages > kMostPages || lane.delivered == lane.durable) return {};
    Sequence sequence(pick(lane.delivered.value() + 1, lane.durable.value()));
    auto done = store.set_aside(lane.lane, sequence, "refused");
    if (!done && done.error().fault != Fault::rejected) return done;  // rejected: it was given up before
    if (store.status().dead_letters > status.dead_letters) told("aside", lane.name, sequence);
  } else if (what < 5 && status.dead_letters != 0) {
    auto letters = store.dead_letters(std::nullopt, {});
    if (!letters) return letters.error();
    const auto& letter = letters->at(static_cast<std::size_t>(pick(0, letters->size() - 1)));
    const auto lane = store.name_of(letter.stored.lane);
    const std::vector<DeadLetterId> ids{letter.id()};
    told(what == 3 ? "retried" : "discarded", lane, letter.stored.sequence);
    auto done = what == 3 ? store.retry(ids) : store.discard(ids);
    if (!done) return done.error();
    if (done->done == 1) told("gone", lane, letter.stored.sequence);
  }
  return {};
}

std::string broken_promise(Store& store, const Said& said) {
  if (store.mended()) return describe(*store.mended());  // no kill and no cut is damage
  Said::Counts next, known, states;
  for (const auto& row : store.status().lanes) known[row.name] = row.last.value();
  for (const auto& [lane, durable] : said.durable) {
    if (known.count(lane) == 0) return "the lane " + lane + " is gone, " + text(durable) + " was durable in it";
    if (known[lane] < durable) return lane + ": " + text(durable) + " was durable, last is " + text(known[lane]);
  }
  for (const auto& row : store.status().lanes) {
    auto sent = said.delivered.count(row.name) != 0 ? said.delivered.at(row.name) : 0;
    if (row.delivered.value() > sent) {
      return row.name + ": delivered is " + text(row.delivered.value()) + ", " + text(sent) + " was sent";
    }
    auto state = store.state(kDriver, row.name);
    if (!state) return "the state of " + row.name + ": " + state.error().what;
    if (row.last.value() != 0 && !*state) return row.name + ": no state, last is " + text(row.last.value());
    states[row.name] = *state ? std::strtoull((*state)->c_str(), nullptr, 10) : 0;
    if (states[row.name] > row.last.value()) {
      return row.name + ": the state of another commit: " + **state + ", last is " + text(row.last.value());
    }
    next[row.name] = row.delivered.value() + 1;
  }
  BatchLimits all;
  all.records = all.bytes = std::size_t{1} << 31;
  auto batch = store.read(all);  // not marked as delivered: what is looked at must stay as it is
  if (!batch) return "read: " + batch.error().what;
  std::map<std::string, std::map<std::uint64_t, std::uint64_t>> ranges;
  for (const auto& stored : batch->records) {
    auto name = store.name_of(stored.lane);
    auto sequence = stored.sequence.value();
    if (!is_what_was_put(name, sequence, stored.record)) return name + ": " + text(sequence) + " is not what was put";
    if (sequence > states[name] && !stored.record.retried) {  // a retry has no state of its own
      return name + ": the state of another commit: " + text(states[name]) + ", " + text(sequence) + " is there";
    }
    if (!ranges[name].emplace(sequence, sequence).second) return name + ": " + text(sequence) + " is there twice";
  }
  for (const auto& gap : batch->gaps) {
    auto name = store.name_of(gap.lane);
    if (gap.first == Sequence() && (gap.cause == Cause::discarded || gap.cause == Cause::dead_letter_evicted)) continue;
    if (gap.cause != Cause::evicted && gap.cause != Cause::dead_letter) {
      return name + ": a gap from " + text(gap.first.value()) + " to " + text(gap.last.value()) + " by " +
             name_of(gap.cause);
    }
    ranges[name][gap.first.value()] = gap.last.value();
  }
  for (const auto& [name, found] : ranges) {
    for (auto [first, last] : found) {
      if (first != next[name]) return name + ": expected " + text(next[name]) + ", found " + text(first);
      next[name] = last + 1;
    }
  }
  for (const auto& row : store.status().lanes) {
    if (next[row.name] != row.last.value() + 1) {
      return row.name + ": ends at " + text(next[row.name] - 1) + ", last is " + text(row.last.value());
    }
  }
  return wrong_letters(store, *batch, said);
}

std::string broken_promise(const std::string& directory, std::uint64_t capacity_bytes, const Said& said) {
  SystemClock clock;
  const auto settings = crash_settings(directory, capacity_bytes);
  Said now = said;
  {
    auto store = Store::open(settings, clock);
    if (!store) return "open: " + store.error().what;
    if (auto wrong = broken_promise(**store, said); !wrong.empty()) return wrong;
    for (int i = 0; i < 3; ++i) {
      if (auto done = (*store)->commit(next_groups(**store, clock, [] { return 5; })); !done) {
        return "commit " + std::to_string(i + 1) + " of 3: " + done.error().what;
      }
    }
    for (const auto& row : (*store)->status().lanes) now.durable[row.name] = row.durable.value();
  }
  auto store = Store::open(settings, clock);
  if (!store) return "open after three commits: " + store.error().what;
  auto wrong = broken_promise(**store, now);
  return wrong.empty() ? wrong : "after three commits: " + wrong;
}

}  // namespace penstock
