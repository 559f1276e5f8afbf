#include "drivers/lines/times.h"

#include "tests/catch.h"

namespace penstock {
namespace {
namespace times_test {

std::int64_t at(std::string_view text, Zone zone = Zone::demanded) {
  auto time = parse_time(text, zone);
  if (!time) FAIL(time.error().what);
  return time->time_since_epoch().count();
}

TEST_CASE("RFC 3339 with fractions and offsets") {
  CHECK(at("2026-05-04T12:00:00Z") == 1'777'896'000'000'000);
  CHECK(at("2026-05-04T12:00:00.123456Z") == 1'777'896'000'123'456);
  CHECK(at("2026-05-04t12:00:00.5z") == 1'777'896'000'500'000);
  CHECK(at("2026-05-04 14:00:00.1234567890+02:00") == 1'777'896'000'123'456);
  CHECK(at("2026-05-04T06:30:00-05:30") == 1'777'896'000'000'000);
  CHECK(at("2016-12-31T23:59:60Z") == at("2017-01-01T00:00:00Z"));
  CHECK(at("1969-12-31T23:59:59Z") == -1'000'000);
  CHECK(at("2026-05-04T12:00:00", Zone::utc_when_missing) == 1'777'896'000'000'000);
}

TEST_CASE("unix time in seconds, milliseconds, microseconds and nanoseconds, by its size") {
  CHECK(at("1777896000") == 1'777'896'000'000'000);
  CHECK(at("1777896000.25") == 1'777'896'000'250'000);
  CHECK(at("1777896000123") == 1'777'896'000'123'000);
  CHECK(at("1777896000123.4567") == 1'777'896'000'123'456);
  CHECK(at("1777896000123456") == 1'777'896'000'123'456);
  CHECK(at("1777896000123456789") == 1'777'896'000'123'456);
  CHECK(at("-1.5") == -1'500'000);
  CHECK(at("99999999999") == 99'999'999'999'000'000);
  CHECK(at("100000000000") == 100'000'000'000'000);
}

TEST_CASE("what is no time is told, and what a missing zone would need") {
  for (auto wrong : {"", "-", "x", "12:00", "2026-05-04", "2026-13-04T12:00:00Z", "2026-02-30T12:00:00Z",
                     "2026-05-04T24:00:00Z", "2026-05-04T12:00Z", "2026-05-04T12:00:00.Z", "2026-05-04T12:00:00+2",
                     "2026-05-04T12:00:00Zx", "1777896000.", ".5", "1e9", " 1", "99999999999999999999", "0", "0.0"}) {
    INFO(wrong);
    CHECK_FALSE(parse_time(wrong, Zone::utc_when_missing).ok());
  }
  CHECK(parse_time("2026-05-04 12:00:00").error().what == "the time \"2026-05-04 12:00:00\" does not say its zone");
}

}  // namespace times_test
}  // namespace
}  // namespace penstock
