// Writes a store until it is killed: store_writer DIRECTORY SEED CAPACITY. The victim of store_kill_test.
//
// One line on stdout after each step, each written whole by one write(2):
//   durable LANE SEQUENCE       the store said so
//   delivered LANE SEQUENCE     a batch up to there is with the reader of these lines; said before the store is told
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "buffer/store.h"
#include "tests/crash/payload.h"

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

int run(const std::string& directory, std::uint64_t seed, std::uint64_t capacity) {
  std::mt19937_64 random(seed);
  auto pick = [&](std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
  };
  SystemClock clock;
  StoreSettings settings;
  settings.directory = directory;
  settings.agent = "crash";
  settings.capacity_bytes = capacity;
  settings.lanes = {{"telemetry", 1}, {"alarms", 0}};
  auto opened = Store::open(settings, clock);
  if (!opened) fail(opened.error());
  auto& store = **opened;

  std::uint64_t delivers = pick(0, 3);  // 0: nobody reads in this life, and the store fills up
  for (;;) {
    std::vector<Group> groups;
    for (auto row : store.status().lanes) {
      Group group;
      group.lane = row.lane;
      group.driver = "writer";
      auto sequence = row.last.value();
      for (auto n = pick(0, 60); n > 0; --n) {
        Record record;
        record.driver = "writer";
        record.stream = row.name;
        record.time = clock.wall();
        record.payload = payload_of(row.name, ++sequence);
        group.records.push_back(std::move(record));
      }
      group.changes.push_back({row.name, std::to_string(sequence)});
      groups.push_back(std::move(group));
    }
    auto step = pick(0, 9);
    auto done = step == 0 ? store.sync() : store.commit(groups);
    if (!done) fail(done.error());
    if (auto more = store.prewrite_step(pick(1, 200'000)); !more) fail(more.error());
    for (const auto& row : store.status().lanes) {
      say("durable " + row.name + ' ' + std::to_string(row.durable.value()) + '\n');
    }
    if (pick(0, 3) >= delivers) continue;
    BatchLimits limits;
    limits.records = pick(1, 300);
    auto batch = store.read(limits);
    if (!batch) fail(batch.error());
    for (const auto& [lane, sequence] : batch->after.delivered) {
      say("delivered " + lane + ' ' + std::to_string(sequence.value()) + '\n');
    }
    store.delivered(*batch);
  }
}

}  // namespace store_writer
}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  if (argc != 4) return 64;
  return penstock::store_writer::run(argv[1], std::strtoull(argv[2], nullptr, 10), std::strtoull(argv[3], nullptr, 10));
}
