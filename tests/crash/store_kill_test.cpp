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
#include <random>

#include "buffer/store.h"
#include "tests/catch.h"
#include "tests/crash/promises.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace store_kill_test {

using Clock = std::chrono::steady_clock;

/// Runs the writer until `deadline` after its first line, kills it, and hears everything it says.
void run_and_kill(const std::string& directory, std::uint64_t seed, std::uint64_t capacity,
                  std::chrono::microseconds deadline, Said& said) {
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
  said.hear(text);
  if (!WIFSIGNALED(status) && said.failure.empty()) said.failure = "it ended by itself";
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
    Said said;  // by all lives so far
    for (int i = 0; i < kills / 2; ++i) {
      CAPTURE(capacity, i);
      auto deadline = std::chrono::microseconds(std::uniform_int_distribution<int>(0, 150'000)(random));
      run_and_kill(directory, random(), capacity, deadline, said);
      if (!said.failure.empty()) FAIL(said.failure);

      SystemClock clock;
      auto store = Store::open(crash_settings(directory, capacity), clock);
      if (!store) FAIL(store.error().what);
      if (auto wrong = broken_promise(**store, said); !wrong.empty()) FAIL(wrong);
      records = (*store)->status().lanes[0].last.value();
    }
    lines += said.lines;
  }
  WARN(kills << " kills, " << lines << " lines, " << records << " records in the last store, seed " << seed);
  CHECK(records > 0);
}

}  // namespace store_kill_test
}  // namespace
}  // namespace penstock
