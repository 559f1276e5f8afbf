// Writes a store: store_writer DIRECTORY SEED CAPACITY [STEPS]. The victim of the tests in this folder.
//
// Without STEPS it writes until it is killed. With them it ends after so many: by the seed in an orderly way, or as if
// it were killed. What it says on stdout is in promises.h; each line is written whole, by one write(2), after its step.
#include <unistd.h>

#include <cstdlib>
#include <limits>
#include <random>
#include <string>

#include "buffer/store.h"
#include "tests/crash/promises.h"

namespace penstock {
namespace {
namespace store_writer {

void say(const std::string& line) {
  if (::write(STDOUT_FILENO, line.data(), line.size()) != static_cast<ssize_t>(line.size())) std::_Exit(3);
}

[[noreturn]] void fail(const Error& error) {
  say("failed " + error.what + '\n');
  std::_Exit(1);
}

int run(const std::string& directory, std::uint64_t seed, std::uint64_t capacity, std::uint64_t steps) {
  std::mt19937_64 random(seed);
  auto pick = [&](std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
  };
  SystemClock clock;
  auto opened = Store::open(crash_settings(directory, capacity), clock);
  if (!opened) fail(opened.error());
  auto& store = **opened;

  say("begun life 0\n");

  std::uint64_t delivers = pick(0, 3);  // 0: nobody reads in this life, and the store fills up
  for (; steps > 0; --steps) {
    auto done = store.commit(next_groups(store, clock, [&] { return pick(0, 60); }));
    if (!done) fail(done.error());
    if (auto more = store.prewrite_step(pick(1, 200'000)); !more) fail(more.error());
    for (const auto& row : store.status().lanes) {
      say("durable " + row.name + ' ' + std::to_string(row.durable.value()) + '\n');
    }
    if (auto refused = refuse_some(store, pick, say); !refused) fail(refused.error());
    if (pick(0, 3) >= delivers) continue;
    BatchLimits limits;
    limits.records = pick(1, 300);
    auto batch = store.read(limits);
    if (!batch) fail(batch.error());
    for (const auto& [lane, sequence] : batch->after.delivered) {
      say("delivered " + lane + ' ' + std::to_string(sequence.value()) + '\n');
    }
    store.delivered(batch->after);
  }
  if (pick(0, 1) == 0) std::_Exit(0);
  return 0;
}

}  // namespace store_writer
}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) return 64;
  auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
  auto steps = argc == 5 ? number(4) : std::numeric_limits<std::uint64_t>::max();
  return penstock::store_writer::run(argv[1], number(2), number(3), steps);
}
