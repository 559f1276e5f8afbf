// What the reporter `unity` is tried on; some of these fail on purpose. Run by tests/reporter/reporter_test.py alone.
#include <stdexcept>

#include "tests/catch.h"
#include "tests/skip.h"

namespace penstock {
namespace {
namespace samples {

TEST_CASE("a case that passes") { CHECK(1 + 1 == 2); }

TEST_CASE("a name: with a colon, \"quotes\" and a/slash") { SUCCEED(); }

TEST_CASE("a case that fails twice is reported at the first failure") {
  const int measured = 3;
  CHECK(measured == 4);
  CHECK(measured == 5);
}

TEST_CASE("a message over two lines stays one line") { FAIL("first\nsecond"); }

TEST_CASE("an exception is a failure") { throw std::runtime_error("the disk is gone"); }

TEST_CASE("a case that cannot run here") { return skip("there is no such device"); }

TEST_CASE("a case with sections is one test") {
  SECTION("one") { CHECK(true); }
  SECTION("two") { CHECK(true); }
}

}  // namespace samples
}  // namespace
}  // namespace penstock
