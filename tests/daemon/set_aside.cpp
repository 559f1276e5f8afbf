// set_aside DIRECTORY AGENT CAPACITY LANE REASON SEQUENCE...: makes dead letters of records in a stopped agent's store.
#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>

#include "buffer/store.h"

int main(int argc, char** argv) {
  using namespace penstock;
  if (argc < 7) {
    fmt::print(stderr, "usage: set_aside DIRECTORY AGENT CAPACITY LANE REASON SEQUENCE...\n");
    return 64;
  }
  StoreSettings settings;
  settings.directory = argv[1];
  settings.agent = argv[2];
  settings.capacity_bytes = std::strtoull(argv[3], nullptr, 10);
  settings.lanes = {{argv[4], 0}};
  SystemClock clock;
  auto store = Store::open(settings, clock);
  if (!store) {
    fmt::print(stderr, "{}\n", store.error().what);
    return 1;
  }
  auto lane = (*store)->lane(argv[4]);
  for (int i = 6; lane && i < argc; ++i) {
    auto done = (*store)->set_aside(*lane, Sequence(std::strtoull(argv[i], nullptr, 10)), argv[5]);
    if (done) continue;
    fmt::print(stderr, "{}\n", done.error().what);
    return 1;
  }
  return lane ? 0 : 1;
}
