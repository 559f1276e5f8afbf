// Kills a process that writes a store, by SIGKILL at random instants, and looks at what it left.
//
// PENSTOCK_KILLS says how often (60 in ctest, hundreds in a soak). The store lives on from kill to kill.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <random>
#include <sstream>

#include "buffer/store.h"
#include "tests/catch.h"
#include "tests/crash/payload.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace store_kill_test {

using Clock = std::chrono::steady_clock;
using Counts = std::map<std::string, std::uint64_t>;

struct Said {
  Counts durable, delivered;
  std::string failure;
  std::size_t lines = 0;
};

/// Runs the writer until `deadline` after its first line, kills it, and gives everything it said.
Said run_and_kill(const std::string& directory, std::uint64_t seed, std::uint64_t capacity,
                  std::chrono::microseconds deadline) {
  auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "store_writer";
  int pipe_ends[2];
  REQUIRE(::pipe2(pipe_ends, O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
  std::string seed_text = std::to_string(seed), capacity_text = std::to_string(capacity);
  std::vector<std::string> words = {program.string(), directory, seed_text, capacity_text};
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t pid = 0;
  int spawned = ::posix_spawn(&pid, program.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(pipe_ends[1]);
  REQUIRE(spawned == 0);

  std::string text;
  bool killed = false;
  auto kill_at = Clock::now() + std::chrono::seconds(20);  // it never says anything: an end of that, too
  for (bool begun = false;;) {
    auto left = std::chrono::duration_cast<std::chrono::microseconds>(kill_at - Clock::now()).count();
    if (!killed && left <= 0) {
      ::kill(pid, SIGKILL);
      killed = true;
    }
    struct pollfd waiting {
      pipe_ends[0], POLLIN, 0
    };
    timespec timeout{left / 1'000'000, left % 1'000'000 * 1'000};
    if (::ppoll(&waiting, 1, killed ? nullptr : &timeout, nullptr) <= 0) continue;
    char chunk[65'536];
    auto got = ::read(pipe_ends[0], chunk, sizeof chunk);
    if (got <= 0) break;
    text.append(chunk, static_cast<std::size_t>(got));
    if (!begun) kill_at = Clock::now() + deadline;
    begun = true;
  }
  ::close(pipe_ends[0]);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  Said said;
  if (!WIFSIGNALED(status)) said.failure = "it ended by itself";

  std::istringstream lines(text);
  for (std::string word, lane, line; std::getline(lines, line); ++said.lines) {
    std::istringstream words_of_line(line);
    std::uint64_t sequence = 0;
    words_of_line >> word >> lane >> sequence;
    if (word == "durable") said.durable[lane] = sequence;
    if (word == "delivered") said.delivered[lane] = sequence;
    if (word == "failed") said.failure = line;
  }
  return said;
}

/// Everything above the delivered marks is there, in order, as it was put, or told to be evicted.
void check(Store& store, const Said& said, const Counts& delivered) {
  Counts next;
  for (const auto& row : store.status().lanes) {
    auto durable = said.durable.count(row.name) != 0 ? said.durable.at(row.name) : 0;
    if (row.last.value() < durable) FAIL(row.name << ": " << durable << " was durable, last is " << row.last.value());
    auto sent = delivered.count(row.name) != 0 ? delivered.at(row.name) : 0;
    if (row.delivered.value() > sent) FAIL(row.name << ": delivered beyond what was ever sent");
    auto state = store.state("writer", row.name);
    if (!state) FAIL(state.error().what);
    if (*state && **state != std::to_string(row.last.value())) {
      FAIL(row.name << ": the state of another commit: " << **state << ", last is " << row.last.value());
    }
    next[row.name] = row.delivered.value() + 1;
  }
  for (;;) {
    auto batch = store.read({});
    if (!batch) FAIL(batch.error().what);
    std::map<std::string, std::map<std::uint64_t, std::uint64_t>> ranges;
    for (const auto& stored : batch->records) {
      auto name = store.name_of(stored.lane);
      auto sequence = stored.sequence.value();
      if (stored.record.payload != payload_of(name, sequence)) FAIL(name << " " << sequence << " is not what was put");
      ranges[name][sequence] = sequence;
    }
    for (const auto& gap : batch->gaps) {
      auto name = store.name_of(gap.lane);
      if (gap.cause != Cause::evicted) FAIL(name << ": a gap by " << name_of(gap.cause));
      ranges[name][gap.first.value()] = gap.last.value();
    }
    for (const auto& [name, found] : ranges) {
      for (auto [first, last] : found) {
        if (first != next[name]) FAIL(name << ": expected " << next[name] << ", found " << first);
        next[name] = last + 1;
      }
    }
    if (batch->empty()) break;
    store.delivered(*batch);  // in RAM: it goes with this Store, unless a commit follows
  }
  for (const auto& row : store.status().lanes) {
    if (next[row.name] != row.last.value() + 1) FAIL(row.name << ": ends at " << next[row.name] - 1);
  }
}

TEST_CASE("no durable record is lost, doubled or out of order at kill -9", "[crash][store]") {
  const char* wanted = std::getenv("PENSTOCK_KILLS");
  int kills = wanted != nullptr ? std::atoi(wanted) : 60;
  const char* fixed = std::getenv("PENSTOCK_SEED");
  std::uint64_t seed = fixed != nullptr ? std::strtoull(fixed, nullptr, 10) : std::random_device()();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  TempDir folder(std::filesystem::current_path());
  std::size_t lines = 0, records = 0;
  for (std::uint64_t capacity : {std::uint64_t{1} << 20, std::uint64_t{16} << 20}) {
    auto directory = (folder.path() / std::to_string(capacity)).string();
    Counts delivered;
    for (int i = 0; i < kills / 2; ++i) {
      CAPTURE(capacity, i);
      auto deadline = std::chrono::microseconds(std::uniform_int_distribution<int>(0, 150'000)(random));
      auto said = run_and_kill(directory, random(), capacity, deadline);
      if (!said.failure.empty()) FAIL(said.failure);
      lines += said.lines;
      for (auto [lane, sequence] : said.delivered) delivered[lane] = std::max(delivered[lane], sequence);

      SystemClock clock;
      StoreSettings settings;
      settings.directory = directory;
      settings.agent = "crash";
      settings.capacity_bytes = capacity;
      settings.lanes = {{"telemetry", 1}, {"alarms", 0}};
      auto store = Store::open(settings, clock);
      if (!store) FAIL(store.error().what);
      check(**store, said, delivered);
      records = (*store)->status().lanes[0].last.value();
    }
  }
  WARN(kills << " kills, " << lines << " lines, " << records << " records in the last store, seed " << seed);
  CHECK(records > 0);
}

}  // namespace store_kill_test
}  // namespace
}  // namespace penstock
