#include "config/units.h"

#include <string>

#include "tests/catch.h"

namespace penstock {
namespace {
namespace units_test {

using namespace std::chrono_literals;

TEST_CASE("a printed duration, size, rate or percentage reads back as itself") {
  std::uint64_t number = 1;
  for (int i = 0; i < 2'000; ++i) {
    number = number * 6364136223846793005ull + 1442695040888963407ull;  // Knuth's generator: the same every time
    auto value = number >> (1 + i % 63);
    INFO("value " << value);
    auto duration = std::chrono::microseconds(static_cast<std::int64_t>(value));
    CHECK(parse_duration(print_duration(duration)) == duration);
    CHECK(parse_size(print_size(value)) == value);
    CHECK(parse_rate(print_rate(value)) == value);
    auto percent = static_cast<double>(value % 100'001) / 1'000;
    CHECK(parse_percentage(print_percentage(percent)) == percent);
  }
}

TEST_CASE("printing takes the largest unit that divides") {
  CHECK(print_duration(0us) == "0s");
  CHECK(print_duration(50ms) == "50ms");
  CHECK(print_duration(1500ms) == "1500ms");
  CHECK(print_duration(90 * 24h) == "90d");
  CHECK(print_size(0) == "0B");
  CHECK(print_size(1'000) == "1000B");
  CHECK(print_size(1 << 20) == "1MiB");
  CHECK(print_rate(256 << 10) == "256KiB/s");
  CHECK(print_percentage(12.5) == "12.5%");
}

TEST_CASE("each unit means what it says") {
  CHECK(parse_duration("7us") == 7us);
  CHECK(parse_duration("7ms") == 7ms);
  CHECK(parse_duration("7s") == 7s);
  CHECK(parse_duration("7m") == 7min);
  CHECK(parse_duration("7h") == 7h);
  CHECK(parse_duration("7d") == 168h);
  CHECK(parse_size("7B") == 7);
  CHECK(parse_size("7KiB") == 7u << 10);
  CHECK(parse_size("7MiB") == 7u << 20);
  CHECK(parse_size("7GiB") == 7ull << 30);
  CHECK(parse_size("7TiB") == 7ull << 40);
  CHECK(parse_rate("7KiB/s") == 7u << 10);
  CHECK(parse_percentage("7%") == 7.0);
}

TEST_CASE("anything else is no duration, size, rate or percentage") {
  for (std::string text : {"", "5", "s", "-5s", "+5s", " 5s", "5 s", "5s ", "5S", "1.5s", "1h30m", "0x5s", "5w",
                           "5month", "106751992d", "99999999999999999999s"}) {
    INFO(text);
    CHECK_FALSE(parse_duration(text));
  }
  for (std::string text : {"", "5", "-5B", "5b", "5KB", "5kiB", "1.5GiB", "5GiB/s", "8388608TiB"}) {
    INFO(text);
    CHECK_FALSE(parse_size(text));
  }
  for (std::string text : {"", "5", "5KiB", "5/s", "5KiB/m", "KiB/s"}) {
    INFO(text);
    CHECK_FALSE(parse_rate(text));
  }
  for (std::string text : {"", "%", "5", "-5%", "-0%", "100.1%", "1e1%", "nan%", "inf%", "5 %", "+5%"}) {
    INFO(text);
    CHECK_FALSE(parse_percentage(text));
  }
}

}  // namespace units_test
}  // namespace
}  // namespace penstock
