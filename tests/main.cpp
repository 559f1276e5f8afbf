// The main() of every Catch2 test binary: the tally, skipping, and the reporter `unity`.
#define CATCH_CONFIG_RUNNER
#include <cstdlib>
#include <iostream>

#include "tests/catch.h"
#include "tests/reporter/unity_reporter.h"
#include "tests/skip.h"
#include "tests/tally.h"

namespace penstock {

Tally& tally() {
  static Tally only;
  return only;
}

void skip(const std::string& why) {
  if (std::getenv("PENSTOCK_DEMAND_E2E") != nullptr) {  // NOLINT(concurrency-mt-unsafe): nothing sets variables
    FAIL("this test is demanded here and cannot run: " << why);
  }
  tally().skip(why);
  std::cerr << "SKIPPED: " << tally().name() << ": " << why << std::endl;
}

namespace {

#if CATCH_VERSION_MAJOR >= 3
using ListenerBase = Catch::EventListenerBase;
#else
using ListenerBase = Catch::TestEventListenerBase;
#endif

class TallyListener : public ListenerBase {
 public:
  using ListenerBase::ListenerBase;
  void testCaseStarting(const Catch::TestCaseInfo& info) override { tally().begin(info.name); }
  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    tally().end(stats.totals.assertions.allOk() && stats.totals.testCases.failed == 0);
  }
};

CATCH_REGISTER_LISTENER(TallyListener)
CATCH_REGISTER_REPORTER("unity", UnityReporter)

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  const int status = Catch::Session().run(argc, argv);
  if (std::getenv("PENSTOCK_TALLY") != nullptr) {  // NOLINT(concurrency-mt-unsafe): nothing sets variables
    std::cout << '\n' << penstock::tally().line() << std::endl;
  }
  return status;
}
