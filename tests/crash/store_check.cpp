// Looks at a store that was cut off: store_check DIRECTORY CAPACITY [LINE...], each LINE as a victim said it (promises.h).
//
// Prints "ok" and ends with 0, or what is wrong and 1. A process of its own, as a store that is not what it should be
// may crash the library that reads it, or keep it busy for ever: it ends by a signal then, SIGALRM after 60 s.
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "tests/crash/promises.h"

int main(int argc, char** argv) {
  if (argc < 3) return 64;
  ::alarm(60);
  penstock::Said said;
  for (int i = 3; i < argc; ++i) said.hear(std::string(argv[i]) + '\n');
  auto wrong = penstock::broken_promise(argv[1], std::strtoull(argv[2], nullptr, 10), said);
  std::cout << (wrong.empty() ? "ok" : wrong) << std::endl;
  return wrong.empty() ? 0 : 1;
}
