// Power cuts: records what processes that write a store do to its files (write_recorder), and opens what a disk could
// hold had the power failed in between (RecordedDisk). What is left must keep what was promised (promises.h).
//
// PENSTOCK_CUTS says how many states are looked at (300 in ctest, thousands in a soak), PENSTOCK_SEED repeats a run, as
// far as the victims do the same again. A state that fails is kept, with the recording, in power-cut-SEED.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "tests/catch.h"
#include "tests/crash/promises.h"
#include "tests/crash/recorded_disk.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace power_cut_test {

namespace fs = std::filesystem;
using Random = RecordedDisk::Random;
using Words = std::vector<std::string>;

constexpr std::uint64_t kSmall = std::uint64_t{1} << 20, kLarge = std::uint64_t{16} << 20;

std::uint64_t pick(Random& random, std::uint64_t low, std::uint64_t high) {
  return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
}

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* value = std::getenv(variable);
  return value != nullptr ? std::strtoull(value, nullptr, 10) : otherwise;
}

fs::path beside(const char* program) { return fs::read_symlink("/proc/self/exe").parent_path() / program; }

std::vector<char*> pointers(Words& words) {
  std::vector<char*> result;
  for (auto& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

struct Ended {
  int status = 0;  // as waitpid gives it
  std::string output;
};

Ended run(Words words, Words more_environment = {}) {
  int pipe_ends[2];
  REQUIRE(::pipe2(pipe_ends, O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
  for (char** variable = environ; *variable != nullptr; ++variable) more_environment.emplace_back(*variable);
  pid_t pid = 0;
  int spawned = ::posix_spawn(&pid, words[0].c_str(), &actions, nullptr, pointers(words).data(),
                              pointers(more_environment).data());
  posix_spawn_file_actions_destroy(&actions);
  ::close(pipe_ends[1]);
  INFO(words[0]);
  REQUIRE(spawned == 0);
  Ended ended;
  char chunk[65'536];
  for (ssize_t got; (got = ::read(pipe_ends[0], chunk, sizeof chunk)) > 0;) {
    ended.output.append(chunk, static_cast<std::size_t>(got));
  }
  ::close(pipe_ends[0]);
  REQUIRE(::waitpid(pid, &ended.status, 0) == pid);
  return ended;
}

/// What happened between two power cuts.
struct Recording {
  std::string bytes;
  std::vector<Entry> entries;  // they point into `bytes`
  Said before;                 // what had been said when it began
};

/// A folder in which victims run, one after the other, each on the store that the ones before have left.
class Machine {
 public:
  Machine(const fs::path& below, std::uint64_t capacity)
      : folder_(below), root_(folder_.path() / "disk"), log_(folder_.path() / "log"), capacity_(capacity) {
    fs::create_directory(root_);
  }

  const fs::path& root() const { return root_; }
  std::uint64_t capacity() const { return capacity_; }
  std::string log() const { return log_.string(); }

  void live(Random& random, std::uint64_t lives, std::uint64_t steps, Recording& recording) {
    fs::remove(log_);
    for (; lives > 0; --lives) {
      auto ended = run({beside("store_writer"), (root_ / "store").string(), std::to_string(random()),
                        std::to_string(capacity_), std::to_string(pick(random, 1, steps))},
                       {"LD_PRELOAD=" + beside("write_recorder.so").string(),
                        "PENSTOCK_RECORD_DIRECTORY=" + root_.string(), "PENSTOCK_RECORD_LOG=" + log_.string()});
      INFO("the victim says: " << ended.output.substr(ended.output.size() -
                                                      std::min<std::size_t>(200, ended.output.size())));
      REQUIRE(ended.status == 0);
    }
    std::ifstream file(log_, std::ios::binary);
    recording.bytes.assign(std::istreambuf_iterator<char>(file), {});
    recording.entries = parse_recording(recording.bytes);
  }

 private:
  TempDir folder_;
  fs::path root_, log_;
  std::uint64_t capacity_;
};

/// Plays a recording up to each of the cuts in turn.
class Replay {
 public:
  Replay(RecordedDisk disk, const Recording& recording)
      : disk_(std::move(disk)), recording_(recording), said_(recording.before) {}

  void up_to(std::size_t entries) {
    for (; done_ < entries; ++done_) {
      const auto& entry = recording_.entries[done_];
      disk_.apply(entry);
      if (entry.header.what == What::said) said_.hear(std::string(entry.payload));
    }
  }
  const RecordedDisk& disk() const { return disk_; }
  const Said& said() const { return said_; }

 private:
  RecordedDisk disk_;
  const Recording& recording_;
  Said said_;
  std::size_t done_ = 0;
};

/// Empty: the store that lies there is what it must be.
std::string look_at(const fs::path& root, std::uint64_t capacity, const Said& said) {
  Words words = {beside("store_check"), (root / "store").string(), std::to_string(capacity)};
  for (const auto& line : said.again()) words.push_back(line);
  auto ended = run(words);
  if (ended.status == 0 && ended.output == "ok\n") return {};
  if (WIFSIGNALED(ended.status)) return "ended by signal " + std::to_string(WTERMSIG(ended.status));
  return ended.output.empty() ? "status " + std::to_string(ended.status) : ended.output;
}

fs::path fresh(const fs::path& folder) {
  fs::remove_all(folder);
  fs::create_directory(folder);
  return folder;
}

std::string around(const std::vector<Entry>& entries, std::size_t cut) {
  static const char* const words[] = {"?",       "said", "written", "truncated", "flushed",
                                      "created", "made", "removed", "renamed",   "mapped"};
  std::ostringstream text;
  for (auto i = cut - std::min<std::size_t>(cut, 12); i < std::min(cut + 3, entries.size()); ++i) {
    const auto& entry = entries[i];
    text << (i == cut ? "  --- the cut\n" : "") << "  " << i << ' ' << words[static_cast<int>(entry.header.what)] << ' '
         << entry.name << ' ' << entry.header.offset << '+' << entry.header.length << ' ';
    if (entry.payload.size() < 60 && entry.header.what != What::written) text << entry.payload;
    text << (text.str().back() == '\n' ? "" : "\n");
  }
  return text.str();
}

struct Tally {
  std::size_t states = 0, cuts = 0, entries = 0;
  std::map<std::string, std::size_t> flushes;
};

/// Victims run on the machine, then the power fails: in `cuts` ways that are looked at, one of which is what the machine
/// has from now on. `said` is what had been said at the power cut before, and at this one.
void fail_power(Machine& machine, Said& said, std::uint64_t cuts_wanted, std::uint64_t seed, Random& random,
                Tally& tally) {
  RecordedDisk before(machine.root()), whole(machine.root());
  Recording recording;
  recording.before = said;
  machine.live(random, 3, 80, recording);
  for (const auto& entry : recording.entries) {
    if (auto name = flush_name(entry); !name.empty()) ++tally.flushes[name];
  }
  for (const auto& entry : recording.entries) whole.apply(entry);
  if (auto missed = whole.difference(machine.root()); !missed.empty()) FAIL(missed);

  Replay replay(std::move(before), recording);
  auto cuts = choose_cuts(recording.entries, 0, cuts_wanted, random);
  const auto survivor = pick(random, 0, cuts.size() - 1);
  TempDir scratch(fs::current_path());
  auto state = scratch.path() / "state", next = scratch.path() / "next";
  for (std::size_t i = 0; i < cuts.size(); ++i) {
    auto loss = kLosses[pick(random, 0, kLosses.size() - 1)];
    replay.up_to(cuts[i]);
    auto again = random;
    replay.disk().cut(fresh(state), loss, random);
    auto wrong = look_at(state, machine.capacity(), replay.said());
    ++tally.states;
    if (i == survivor || !wrong.empty()) {
      replay.disk().cut(fresh(next), loss, again);  // the same, untouched
      said = replay.said();
    }
    if (wrong.empty()) continue;
    auto kept = fs::current_path() / ("power-cut-" + std::to_string(seed));
    fs::remove_all(kept);
    fs::rename(next, kept);
    fs::copy_file(machine.log(), kept / "recording");
    FAIL("capacity " << machine.capacity() << ", power cut " << tally.cuts << ", before entry " << cuts[i] << " of "
                     << recording.entries.size() << ", " << name_of(loss) << ": " << wrong << '\n'
                     << around(recording.entries, cuts[i]) << "kept in " << kept);
  }
  fs::remove_all(machine.root());
  fs::rename(next, machine.root());
  tally.entries += recording.entries.size();
  ++tally.cuts;
}

TEST_CASE("a power cut at any instant takes nothing durable, and leaves a store that goes on", "[crash][store]") {
  const auto wanted = number_from("PENSTOCK_CUTS", 300);
  const auto seed = number_from("PENSTOCK_SEED", std::random_device()());
  constexpr std::uint64_t kStatesACut = 15;
  CAPTURE(seed);
  Random random(seed);
  Tally tally;
  for (std::uint64_t capacity : {kSmall, kLarge}) {
    Machine old(fs::current_path(), capacity);
    Said said;
    for (std::uint64_t left = wanted / 2; left > 0; left -= std::min(left, kStatesACut)) {
      if (pick(random, 0, 3) == 0) {  // a new one, again and again: making a store is cut as well
        Machine young(fs::current_path(), capacity);
        Said nothing;
        fail_power(young, nothing, std::min(left, kStatesACut), seed, random, tally);
      } else {
        fail_power(old, said, std::min(left, kStatesACut), seed, random, tally);
      }
    }
  }
  std::ostringstream flushes;
  for (const auto& [name, count] : tally.flushes) flushes << "\n  " << count << " times " << name;
  WARN(tally.states << " states at " << tally.cuts << " power cuts, " << tally.entries << " entries recorded, seed "
                    << seed << flushes.str());
  CHECK(tally.states == wanted / 2 * 2);
}

// The harness must notice a store that leaves out a flush: played without one that happened before the cut, the last of
// its kind, something durable is missing. A kind that can be left out without harm is named here, with the reason.
const std::map<std::string, std::string> kNotMissed = {
    {"fsync journal", "the store flushes the journal when it opens it, and before that writes nothing into it"}};

TEST_CASE("a store that left out one flush, of any kind, would be found out", "[crash][store]") {
  const auto seed = number_from("PENSTOCK_SEED", std::random_device()());
  CAPTURE(seed);
  Random random(seed);
  Machine machine(fs::current_path(), kSmall);
  Recording recording;
  machine.live(random, 4, 80, recording);
  fs::remove_all(machine.root() / "store");  // each replay begins with what was there: nothing
  std::set<std::string> names;
  for (const auto& entry : recording.entries) names.insert(flush_name(entry));
  names.erase("");
  TempDir scratch(fs::current_path());
  std::ostringstream found;
  for (const auto& name : names) {
    std::string wrong;
    std::size_t states = 0;
    for (int round = 0; wrong.empty() && round < 20; ++round) {
      for (auto cut : choose_cuts(recording.entries, 0, 20, random)) {
        std::size_t last = cut;
        while (last > 0 && flush_name(recording.entries[last - 1]) != name) --last;
        if (last == 0) continue;
        Replay replay(RecordedDisk(machine.root(), last), recording);
        replay.up_to(cut);
        auto state = fresh(scratch.path() / "state");
        replay.disk().cut(state, kLosses[pick(random, 0, kLosses.size() - 1)], random);
        ++states;
        if (wrong = look_at(state, machine.capacity(), replay.said()); !wrong.empty()) break;
      }
    }
    INFO("without " << name << ", after " << states << " states");
    auto known = kNotMissed.find(name);
    if (known == kNotMissed.end()) {
      CHECK(!wrong.empty());
    } else {
      CHECK(wrong.empty());
    }
    found << "\n  without " << name << ", state " << states << ": " << wrong.substr(0, wrong.find('\n'));
  }
  WARN("seed " << seed << found.str());
}

}  // namespace power_cut_test
}  // namespace
}  // namespace penstock
