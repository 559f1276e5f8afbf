#include "tests/crash/promises.h"

#include <algorithm>
#include <sstream>

namespace penstock {
namespace {

constexpr const char* kDriver = "writer";

std::string text(std::uint64_t number) { return std::to_string(number); }

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
  }
}

std::string broken_promise(Store& store, const Said& said) {
  if (store.mended()) return describe(*store.mended());  // no kill and no cut is damage
  Said::Counts next, known;
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
    if (*state && **state != text(row.last.value())) {
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
    if (stored.record.payload != payload_of(name, sequence))
      return name + ": " + text(sequence) + " is not what was put";
    if (!ranges[name].emplace(sequence, sequence).second) return name + ": " + text(sequence) + " is there twice";
  }
  for (const auto& gap : batch->gaps) {
    auto name = store.name_of(gap.lane);
    if (gap.cause != Cause::evicted) {
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
  return {};
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
