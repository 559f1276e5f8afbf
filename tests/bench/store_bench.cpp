// bench_store: the store beside what the disk can do. Each command prints facts (measure.h); tests/bench/run judges them.
//
//   bench_store duel    DIR GROUP SECONDS          commit time beside the plain logs, slices of commits in random order
//   bench_store counts  DIR GROUP COMMITS WHO      device bytes and flushes: prewritten, growing (logs), healthy,
//                                                 outage, fresh (an outage, not pre-written)
//   bench_store backlog DIR RECORDS GROUP          stored bytes, opening, reading, and the commits after the drain
//   bench_store steady  DIR RECORDS                the file beside the live data after many records came and went
//   bench_store fill    DIR RECORDS                a backlog for the other parts
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/bench/measure.h"
#include "tests/bench/plain_log.h"
#include "tests/bench/queue.h"
#include "tests/bench/samples.h"

namespace penstock::bench {
namespace {

using Path = std::filesystem::path;
using nlohmann::json;
constexpr std::uint64_t kMiB = 1 << 20;

/// Ready-made commits, used round and round, so that making records costs nobody anything.
struct Supply {
  std::vector<std::vector<Record>> records;
  std::vector<std::vector<Group>> groups;
  std::uint64_t payload = 0;  // bytes per round
  std::size_t at = 0;

  Supply(const Queue& queue, std::size_t group, std::size_t commits) {
    Samples samples;
    for (std::size_t i = 0; i < commits; ++i) {
      records.push_back(samples.next(group));
      groups.push_back({queue.group(records.back())});
      payload += payload_bytes(records.back());
    }
  }
  std::size_t next() { return at++ % records.size(); }
  double payload_per_commit() const { return static_cast<double>(payload) / static_cast<double>(records.size()); }
};

// --- duel

struct Contender {
  std::function<void(std::size_t)> commit;
  std::vector<double> seconds;  // per commit, of each slice
  double cpu = 0;
  std::uint64_t commits = 0;
};

void duel(const Path& folder, std::size_t group, double seconds) {
  Queue queue(folder, 64 * kMiB);
  const char* prewritten_by = queue.prewrite();
  PlainLog prewritten(folder / "prewritten.log", PlainLog::Shape::prewritten, 32 * kMiB);
  PlainLog growing(folder / "growing.log", PlainLog::Shape::growing, 0);
  Supply supply(queue, group, std::max<std::size_t>(4, 4000 / group));

  std::array<Contender, 3> contenders;
  contenders[0].commit = [&](std::size_t i) { queue.commit(supply.groups[i]); };
  contenders[1].commit = [&](std::size_t i) { prewritten.commit(supply.records[i]); };
  contenders[2].commit = [&](std::size_t i) { growing.commit(supply.records[i]); };
  const std::size_t slice = group >= 1000 ? 4 : 8;
  std::array<std::size_t, 3> order = {0, 1, 2};
  std::minstd_rand random(7);
  std::uint64_t rose = 0;

  auto round = [&] {
    std::shuffle(order.begin(), order.end(), random);
    for (std::size_t which : order) {
      auto& contender = contenders[which];
      std::uint64_t mark = queue.frames();
      double cpu_before = cpu(), began = now();
      for (std::size_t i = 0; i < slice; ++i) contender.commit(supply.next());
      double took = now() - began;
      contender.seconds.push_back(took / static_cast<double>(slice));
      contender.cpu += cpu() - cpu_before;
      contender.commits += slice;
      if (which == 0) rose += queue.frames() - mark;
    }
    while (queue.deliver(50'000) > 0) {  // Kafka keeps up: what is durable is delivered, and later commits delete it
    }
  };
  for (int warm = 0; warm < 3; ++warm) round();
  rose = 0;
  for (auto& contender : contenders) contender = {contender.commit, {}, 0, 0};

  double until = now() + seconds;
  while (now() < until || contenders[0].seconds.size() < 10) round();
  if (rose != contenders[0].commits) {
    give_up(fmt::format("{} commits, but the durable mark rose by {}", contenders[0].commits, rose));
  }

  auto ratios = [&](std::size_t limit) {
    std::vector<double> values;
    for (std::size_t i = 0; i < contenders[0].seconds.size(); ++i) {
      values.push_back(contenders[limit].seconds[i] / contenders[0].seconds[i]);
    }
    return values;
  };
  auto told = [&](const Contender& contender) {
    double commit = median(contender.seconds);
    return json{{"commit_us", 1e6 * commit},
                {"commit_p25_us", 1e6 * percentile(contender.seconds, 0.25)},
                {"commits_per_s", 1 / commit},
                {"records_per_s", static_cast<double>(group) / commit},
                {"cpu_us_per_record", 1e6 * contender.cpu / static_cast<double>(contender.commits * group)}};
  };
  json values = {{"group", group},
                 {"rounds", contenders[0].seconds.size()},
                 {"prewritten_by", prewritten_by},
                 {"payload_per_commit", supply.payload_per_commit()},
                 {"store", told(contenders[0])},
                 {"prewritten", told(contenders[1])},
                 {"growing", told(contenders[2])}};
  for (auto [name, limit] : {std::pair{"to_prewritten", 1}, std::pair{"to_growing", 2}}) {
    auto all = ratios(static_cast<std::size_t>(limit));
    values[name] = {{"median", median(all)}, {"p25", percentile(all, 0.25)}, {"p75", percentile(all, 0.75)}};
  }
  fact("duel", values);
}

// --- counts

struct Counted {
  double device_bytes = 0, flushes = 0;  // per commit; negative: no device to ask
};

/// Device writes of `commits` calls, the filesystem's own included.
Counted count(const Path& folder, std::uint64_t commits, const std::function<void()>& commit) {
  sync_filesystem(folder);
  auto before = device_counters(folder);
  for (std::uint64_t i = 0; i < commits; ++i) commit();
  auto flushed = device_counters(folder);
  sync_filesystem(folder);
  auto after = device_counters(folder);
  if (!before || !flushed || !after) return {-1, -1};
  auto per = [&](std::uint64_t difference) { return static_cast<double>(difference) / static_cast<double>(commits); };
  return {per(after->bytes_written - before->bytes_written), per(flushed->flushes - before->flushes)};
}

/// Commits in the healthy state: Kafka is up to ten commits behind, and later commits delete what it has.
Counted count_healthy(Queue& queue, Supply& supply, std::uint64_t commits) {
  std::uint64_t done = 0;
  auto commit = [&] {
    queue.commit(supply.groups[supply.next()]);
    if (++done % 10 == 0) {
      while (queue.deliver(50'000) > 0) {
      }
    }
  };
  for (int warm = 0; warm < 50; ++warm) commit();
  return count(queue.folder(), commits, commit);
}

json told(const Counted& counted, double payload) {
  return {{"device_bytes_per_commit", counted.device_bytes},
          {"flushes_per_commit", counted.flushes},
          {"device_bytes_per_payload", counted.device_bytes / payload}};
}

void counts(const Path& folder, std::size_t group, std::uint64_t commits, const std::string& who) {
  Queue queue(folder, 128 * kMiB, "bench", 4 * kMiB);
  Supply supply(queue, group, std::max<std::size_t>(4, 4000 / group));
  Counted counted;
  if (who == "healthy" || who == "outage" || who == "fresh") {
    if (who != "fresh") queue.prewrite();
    if (who == "healthy") {
      counted = count_healthy(queue, supply, commits);
    } else {
      // From the time on when the journal moves into data.mdb as fast as it fills.
      auto commit = [&] { queue.commit(supply.groups[supply.next()]); };
      while (queue.status().seals < 3) commit();
      commits = std::max<std::uint64_t>(commits, 2'000);
      counted = count(folder, commits, commit);
    }
  } else {
    PlainLog log(folder / "plain.log", who == "growing" ? PlainLog::Shape::growing : PlainLog::Shape::prewritten,
                 32 * kMiB);
    auto commit = [&] { log.commit(supply.records[supply.next()]); };
    for (int warm = 0; warm < 50; ++warm) commit();
    counted = count(folder, commits, commit);
  }
  json values = told(counted, supply.payload_per_commit());
  values.update(json{{"group", group}, {"commits", commits}, {"who", who}});
  fact("counts", values);
}

// --- backlog

/// A backlog in commits of `group` records.
std::uint64_t fill(Queue& queue, std::uint64_t records, std::size_t group) {
  Supply supply(queue, group, 100);
  std::uint64_t payload = 0, done = 0;
  while (done < records) {
    std::size_t i = supply.next();
    queue.commit(supply.groups[i]);
    payload += payload_bytes(supply.records[i]);
    done += group;
  }
  return payload;
}

double open_seconds(const Path& folder, std::uint64_t capacity, int times) {
  std::vector<double> all;
  for (int i = 0; i < times; ++i) {
    forget_cached(folder / "queue" / "data.mdb");
    double began = now();
    Queue queue(folder, capacity);
    all.push_back(now() - began);
  }
  return median(all);
}

std::uint64_t capacity_for(std::uint64_t records) { return std::max<std::uint64_t>(256 * kMiB, records * 50); }

void backlog(const Path& folder, std::uint64_t records, std::size_t group) {
  const std::uint64_t capacity = capacity_for(records);
  json values = {{"records", records}, {"group", group}};
  Counted before;
  double payload_per_commit = 0;
  {
    Queue queue(folder, capacity);
    queue.prewrite();
    Supply supply(queue, 100, 40);
    payload_per_commit = supply.payload_per_commit();
    before = count_healthy(queue, supply, 300);
    while (queue.deliver(50'000) > 0) {
    }
    queue.tidy();
    std::uint64_t used = queue.used_bytes();
    double began = now(), cpu_before = cpu();
    std::uint64_t payload = fill(queue, records, group);
    values["fill"] = {{"seconds", now() - began},
                      {"cpu_us_per_record", 1e6 * (cpu() - cpu_before) / static_cast<double>(records)}};
    values["journal_used_mib"] = static_cast<double>(queue.status().journal_used_bytes) / static_cast<double>(kMiB);
    values["payload"] = payload;
    values["used_before"] = used;
  }
  {
    Queue queue(folder, capacity);  // the orderly end has moved the journal's share there, too
    values["stored_per_payload"] =
        static_cast<double>(queue.used_bytes() - values["used_before"].get<std::uint64_t>()) /
        static_cast<double>(values["payload"].get<std::uint64_t>());
  }
  values["open_ms"] = 1e3 * open_seconds(folder, capacity, 7);
  {
    Queue queue(folder, capacity);
    double began = now(), cpu_before = cpu();
    std::uint64_t read = 0, turns = 0;
    while (std::uint64_t got = queue.deliver(50'000)) {
      read += got;
      if (++turns % 4 == 0) queue.commit(std::vector<Group>{});
    }
    double took = now() - began, cpu_took = cpu() - cpu_before;
    if (read < records) give_up(fmt::format("only {} of {} records could be read back", read, records));
    values["drain"] = {{"seconds", took},
                       {"records_per_s", static_cast<double>(read) / took},
                       {"cpu_us_per_record", 1e6 * cpu_took / static_cast<double>(read)}};
    values["peak_rss_mib"] = peak_rss_mib();
    queue.tidy();
    Supply supply(queue, 100, 40);
    auto after = count_healthy(queue, supply, 300);
    values["before"] = told(before, payload_per_commit);
    values["after_drain"] = told(after, payload_per_commit);
  }
  fact("backlog", values);
}

// --- steady

void steady(const Path& folder, std::uint64_t records) {
  constexpr std::uint64_t kBehind = 100'000;  // Kafka stays so far behind
  // Not pre-written: the file is as long as it ever had to be. A small journal, so that all of it goes through the file.
  Queue queue(folder, 256 * kMiB, "bench", kMiB);
  Supply supply(queue, 500, 40);
  std::uint64_t live = 0, waiting = 0;
  for (std::uint64_t done = 0; done < records; done += 500) {
    queue.commit(supply.groups[supply.next()]);
    waiting += 500;
    if (waiting >= kBehind + 5'000) waiting -= queue.deliver(5'000);
    live = std::max(live, queue.used_bytes());
  }
  fact("steady", {{"records", records},
                  {"live_bytes", live},
                  {"file_bytes", queue.file_bytes_in_use()},
                  {"ratio", static_cast<double>(queue.file_bytes_in_use()) / static_cast<double>(live)}});
}

void main_of(const std::vector<std::string>& words) {
  auto number = [&](std::size_t i) { return std::stoull(words.at(i)); };
  const std::string& command = words.at(0);
  const Path folder = words.at(1);
  if (command == "duel") return duel(folder, number(2), std::stod(words.at(3)));
  if (command == "counts") return counts(folder, number(2), number(3), words.at(4));
  if (command == "backlog") return backlog(folder, number(2), number(3));
  if (command == "steady") return steady(folder, number(2));
  if (command == "fill") {
    Queue queue(folder, capacity_for(number(2)));
    fill(queue, number(2), 1000);
    return fact("fill", {{"records", number(2)}, {"used_bytes", queue.used_bytes()}});
  }
  give_up("no such command: " + command);
}

}  // namespace
}  // namespace penstock::bench

int main(int count, char** words) {
  try {
    penstock::bench::main_of({words + 1, words + count});
  } catch (const std::exception& wrong) {
    fmt::print(stderr, "bench: {}\n", wrong.what());
    return 64;
  }
}
