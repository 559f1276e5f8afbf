#include "agent/demo/timetable.h"
#include "tests/catch.h"

namespace penstock {
namespace {
namespace demo_timetable_test {

using namespace std::chrono_literals;

TEST_CASE("the demo's link is cut twice, and up at the beginning and at the end") {
  Timetable timetable(30s);
  CHECK(timetable.cuts() == std::vector<Timetable::Cut>{{6s, 12s}, {18s, 21s}});
  CHECK(timetable.up(0s));
  CHECK(timetable.up(5999ms));
  CHECK_FALSE(timetable.up(6s));
  CHECK_FALSE(timetable.up(11999ms));
  CHECK(timetable.up(12s));
  CHECK_FALSE(timetable.up(20s));
  CHECK(timetable.up(21s));
  CHECK(timetable.up(30s));
}

TEST_CASE("the demo knows how long its link stays as it is") {
  Timetable timetable(30s);
  CHECK(timetable.until_change(0s) == 6s);
  CHECK(timetable.until_change(6s) == 6s);
  CHECK(timetable.until_change(20s) == 1s);
  CHECK_FALSE(timetable.until_change(21s));
}

TEST_CASE("a long demo has several rounds, and no cut is over a minute") {
  for (auto whole : {5s, 60s, 300s, 301s, 1000s, 3600s}) {
    Timetable timetable(whole);
    std::chrono::milliseconds end{0};
    for (const auto& cut : timetable.cuts()) {
      CHECK(cut.from > end);
      CHECK(cut.to - cut.from <= 60s);
      CHECK(cut.to > cut.from);
      end = cut.to;
    }
    CHECK(end < whole);
  }
  CHECK(Timetable(1h).cuts().size() == 24);
  CHECK(Timetable(301s).cuts().size() == 4);
}

}  // namespace demo_timetable_test
}  // namespace
}  // namespace penstock
