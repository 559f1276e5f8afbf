// A full store that goes on for long: steady_store FOLDER WHO CAPACITY RECORDS STEPS SEED
//
// FOLDER is empty and on a disk of its own, whose counters are thus the store's. The store gets CAPACITY MiB and the policy
// evict_oldest, and 100 JSON readings a commit. When something has been given up for the first time it is full; from then
// on RECORDS more go through, in STEPS steps, and each says what it cost the disk and what the process holds. WHO:
//
//   nobody   takes anything: every record that comes pushes out an old one.
//   a-link   that comes and goes, twice in a step: away, then it takes three records for two that come. So there is both,
//            deleting what is delivered and giving up.
//
// A step ends with the transaction of LMDB that follows its last record: so each has whole rounds of filling the journal and
// emptying it. At the end everything is read, and each record that was put must be accounted for.
//
// Prints a table, then PASS or FAIL for each claim. Exit status 1: one of them does not hold.
#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/bench/measure.h"
#include "tests/bench/queue.h"
#include "tests/bench/samples.h"

namespace penstock {
namespace {
namespace steady_store {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::size_t kGroup = 100;
constexpr double kFlat = 0.10;
// What one transaction of LMDB takes for a moment, 2 MiB of records unpacked and packed, the heap may keep or give back. A
// leak of a tenth of a byte a record would be as much after 20 million.
constexpr double kMostGrowthMiB = 2;
// Of the file system's own, for the extents of two files.
constexpr std::uint64_t kExtentBytes = 64 << 10;

using bench::give_up;

struct Files {
  std::uint64_t bytes = 0, allocated = 0;
};

/// What one step saw; per commit where it says so.
struct Step {
  std::uint64_t commits = 0, evicted = 0, delivered = 0;
  double bytes = 0, flushes = 0;  // per commit
  double seconds = 0;
  double resident_mib = 0, anonymous_mib = 0;
  Files files;  // the most of any commit
};

class Life {
 public:
  Life(const std::filesystem::path& folder, std::uint64_t capacity, std::uint32_t seed)
      : samples_(seed), queue_(folder, capacity, "steady", std::min(16 * kMiB, capacity / 8)) {
    queue_.prewrite();
  }

  std::uint64_t put = 0, taken = 0;

  void commit() {
    queue_.commit(samples_.next(kGroup));
    put += kGroup;
  }

  /// As Kafka would: at most so many records, each of them what was put under its number.
  bool take(std::size_t most) {
    BatchLimits limits;
    limits.records = most;
    auto batch = queue_.store().read(limits);
    if (!batch) give_up("read: " + batch.error().what);
    if (batch->empty()) return false;
    std::map<std::uint64_t, std::uint64_t> gaps;
    for (const auto& gap : batch->gaps) {
      if (gap.cause != Cause::evicted) {
        give_up(fmt::format("{}..{} given up as {}", gap.first.value(), gap.last.value(), name_of(gap.cause)));
      }
      gaps[gap.first.value()] = gap.last.value();
      gaps_ += gap.count;
    }
    auto pass_gap = [&] {
      for (auto gap = gaps.find(next_); gap != gaps.end(); gap = gaps.find(next_)) {
        next_ = gap->second + 1;
        gaps.erase(gap);
      }
    };
    for (const auto& stored : batch->records) {
      pass_gap();
      if (stored.sequence.value() != next_) give_up(fmt::format("{} follows {}", stored.sequence.value(), next_ - 1));
      if (!stored.record.payload.ends_with(fmt::format(R"("number":{}}})", next_))) {
        give_up(fmt::format("{} is not what was put: {}", next_, stored.record.payload));
      }
      ++next_;
    }
    pass_gap();
    if (!gaps.empty()) give_up(fmt::format("a gap at {}, where {} is next", gaps.begin()->first, next_));
    taken += batch->records.size();
    queue_.store().delivered(batch->after);
    return true;
  }

  /// Everything out.
  void drain() {
    while (take(50'000) || queue_.store().wants_commit()) queue_.commit(std::vector<Group>{});
  }

  std::uint64_t seen() const { return next_ - 1; }
  std::uint64_t gaps() const { return gaps_; }
  std::uint64_t evicted() const { return given_up(true); }
  std::uint64_t given_up_otherwise() const { return given_up(false); }
  std::uint64_t still_there() const { return queue_.status().lanes.at(0).records; }
  std::uint64_t seals() const { return queue_.status().seals; }

  Files files() const {
    Files sum;
    for (const auto* name : {"data.mdb", "journal"}) {
      auto path = queue_.folder() / "queue" / name;
      struct stat about {};
      if (::stat(path.c_str(), &about) != 0) give_up("cannot stat " + path.string());
      sum.bytes += static_cast<std::uint64_t>(about.st_size);
      sum.allocated += static_cast<std::uint64_t>(about.st_blocks) * 512;
    }
    return sum;
  }

 private:
  std::uint64_t given_up(bool evicted) const {
    std::uint64_t sum = 0;
    for (auto [cause, count] : queue_.status().given_up) sum += (cause == Cause::evicted) == evicted ? count : 0;
    return sum;
  }

  bench::Samples samples_;
  bench::Queue queue_;
  std::uint64_t next_ = 1, gaps_ = 0;
};

bench::DeviceCounters counters(const std::filesystem::path& folder) {
  auto found = bench::device_counters(folder);
  if (!found) give_up(folder.string() + " lies on no block device");
  return *found;
}

Step take_step(Life& life, const std::filesystem::path& folder, std::uint64_t records, bool with_link) {
  bench::sync_filesystem(folder);
  const auto before = counters(folder);
  const auto evicted = life.evicted(), taken = life.taken;
  const double began = bench::now();
  Step step;
  std::uint64_t done = 0, seals = 0;
  for (; done < records || (life.seals() == seals && done < 2 * records); done += kGroup) {
    seals = life.seals();
    life.commit();
    bool link = with_link && done % (records / 2) >= records / 4;
    if (link && done % (10 * kGroup) == 0) life.take(15 * kGroup);
    auto files = life.files();
    step.files.bytes = std::max(step.files.bytes, files.bytes);
    step.files.allocated = std::max(step.files.allocated, files.allocated);
  }
  step.seconds = bench::now() - began;
  step.commits = done / kGroup;
  auto per_commit = [&](std::uint64_t number) {
    return static_cast<double>(number) / static_cast<double>(step.commits);
  };
  step.flushes = per_commit(counters(folder).flushes - before.flushes);
  bench::sync_filesystem(folder);
  step.bytes = per_commit(counters(folder).bytes_written - before.bytes_written);
  step.evicted = life.evicted() - evicted;
  step.delivered = life.taken - taken;
  step.resident_mib = bench::memory_mib("VmRSS");
  step.anonymous_mib = bench::memory_mib("RssAnon");
  return step;
}

void print_head() {
  fmt::print("{:>4} {:>10} {:>12} {:>12} {:>9} {:>9} {:>7} {:>7} {:>9} {:>8} {:>8}\n", "step", "records",
             "bytes/commit", "flush/commit", "commits/s", "files MiB", "on disk", "VmRSS", "RssAnon", "evicted",
             "taken");
}

void print(std::size_t number, std::uint64_t put, const Step& step) {
  auto mib = [](std::uint64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(kMiB); };
  fmt::print("{:>4} {:>10} {:>12.0f} {:>12.3f} {:>9.0f} {:>9.2f} {:>7.2f} {:>7.1f} {:>9.2f} {:>8} {:>8}\n", number, put,
             step.bytes, step.flushes, static_cast<double>(step.commits) / step.seconds, mib(step.files.bytes),
             mib(step.files.allocated), step.resident_mib, step.anonymous_mib, step.evicted, step.delivered);
  std::fflush(stdout);
}

class Judge {
 public:
  explicit Judge(std::string who) : who_(std::move(who)) {}
  void claim(bool holds, const std::string& what) {
    fmt::print("{}: {}: {}\n", holds ? "PASS" : "FAIL", who_, what);
    failed_ = failed_ || !holds;
  }
  /// Every step as the first one, but for a part of it.
  void flat(const std::vector<Step>& steps, double Step::*what, const std::string& name) {
    auto of = [&](const Step& step) { return step.*what; };
    auto change = [&](const Step& step) { return of(step) / of(steps.front()) - 1; };
    auto worst = *std::max_element(steps.begin(), steps.end(), [&](const Step& one, const Step& other) {
      return std::abs(change(one)) < std::abs(change(other));
    });
    claim(
        std::abs(change(worst)) <= kFlat,
        fmt::format("{} a commit: {:.3f} in the first step, {:.3f} in the last ({:+.2f} %), {:.3f} in the one furthest "
                    "off ({:+.2f} %, at most {:.0f})",
                    name, of(steps.front()), of(steps.back()), 100 * change(steps.back()), of(worst),
                    100 * change(worst), 100 * kFlat));
  }
  /// No step more than the first one, but for so much.
  void bounded(const std::vector<Step>& steps, double Step::*what, const std::string& name) {
    double first = steps.front().*what, most = first;
    for (const auto& step : steps) most = std::max(most, step.*what);
    claim(most <= first + kMostGrowthMiB,
          fmt::format(
              "{}: {:.2f} MiB after the first step, {:.2f} after the last, {:.2f} at most ({:+.2f}, at most {:.0f})",
              name, first, steps.back().*what, most, most - first, kMostGrowthMiB));
  }
  bool failed() const { return failed_; }

 private:
  std::string who_;
  bool failed_ = false;
};

int run(const std::filesystem::path& folder, const std::string& who, std::uint64_t capacity, std::uint64_t records,
        std::size_t steps, std::uint32_t seed) {
  Life life(folder, capacity, seed);
  while (life.evicted() == 0) life.commit();
  fmt::print("{}: full at {} records of {} MiB; step 1 begins\n", who, life.put, capacity / kMiB);
  print_head();

  Judge judge(who);
  std::vector<Step> all;
  std::uint64_t unaccounted = 0;
  const auto begin = life.put;
  for (std::size_t i = 1; i <= steps; ++i) {
    const auto wanted = begin + records / steps * i;
    all.push_back(take_step(life, folder, wanted > life.put ? wanted - life.put : kGroup, who == "a-link"));
    print(i, life.put, all.back());
    auto known = life.still_there() + life.evicted() + life.given_up_otherwise() + life.taken;
    unaccounted = std::max(unaccounted, std::max(known, life.put) - std::min(known, life.put));
  }
  const auto evicted = life.evicted(), taken = life.taken, there = life.still_there();
  life.drain();

  judge.flat(all, &Step::bytes, "device bytes");
  judge.flat(all, &Step::flushes, "device flushes");
  judge.bounded(all, &Step::resident_mib, "VmRSS");
  judge.bounded(all, &Step::anonymous_mib, "RssAnon");
  Files most;
  for (const auto& step : all) {
    most.bytes = std::max(most.bytes, step.files.bytes);
    most.allocated = std::max(most.allocated, step.files.allocated);
  }
  judge.claim(most.bytes <= capacity && most.allocated <= capacity + kExtentBytes,
              fmt::format("files: at most {} bytes long and {} on the disk at any commit, of {} (and {} for extents)",
                          most.bytes, most.allocated, capacity, kExtentBytes));
  judge.claim(
      unaccounted == 0 && there + evicted + taken == life.put,
      fmt::format("{} records put = {} still there + {} evicted + {} taken; at most {} amiss at the end of any step",
                  life.put, there, evicted, taken, unaccounted));
  judge.claim(
      life.seen() == life.put && life.gaps() == life.evicted() && life.taken + life.gaps() == life.put,
      fmt::format("read to the end: {} records as they were put and gaps of {}, up to number {}; {} evicted, {} "
                  "given up otherwise",
                  life.taken, life.gaps(), life.seen(), life.evicted(), life.given_up_otherwise()));
  auto idle = std::count_if(all.begin(), all.end(), [&](const Step& step) {
    return step.evicted == 0 || (step.delivered == 0) == (who == "a-link");
  });
  judge.claim(idle == 0, fmt::format("each step gave up records{}: {} of {} did not",
                                     who == "a-link" ? " and delivered some" : " and delivered none", idle, steps));
  return judge.failed() ? 1 : 0;
}

}  // namespace steady_store
}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  if (argc != 7) return 64;
  auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
  return penstock::steady_store::run(argv[1], argv[2], number(3) << 20, number(4), number(5),
                                     static_cast<std::uint32_t>(number(6)));
}
