#include "drivers/lines/times.h"

#include <fmt/core.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

namespace penstock {
namespace {

using std::chrono::microseconds;

/// Takes exactly `count` digits off the text.
std::optional<int> take_digits(std::string_view& text, std::size_t count) {
  int value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (i >= text.size() || text[i] < '0' || text[i] > '9') return std::nullopt;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(count);
  return value;
}

bool take(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text[0]) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

/// ".5" in units of 10^-`places`; 0 when there is no point. Nothing: a point without digits.
std::optional<std::int64_t> take_fraction(std::string_view& text, int places) {
  std::int64_t value = 0;
  if (!take(text, ".")) return value;
  int digits = 0;
  while (auto digit = take_digits(text, 1)) {
    if (digits++ < places) value = value * 10 + *digit;
  }
  if (digits == 0) return std::nullopt;
  for (; digits < places; ++digits) value *= 10;
  return value;
}

std::optional<WallTime> unix_time(std::string_view text) {
  bool negative = take(text, "-");
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / 10 - 1;
  std::int64_t whole = 0;
  std::size_t digits = 0;
  while (auto digit = take_digits(text, 1)) {
    if (++digits > 1 && whole > kMost) return std::nullopt;
    whole = whole * 10 + *digit;
  }
  int places = whole < 100'000'000'000 ? 6 : whole < 100'000'000'000'000 ? 3 : 0;
  auto fraction = take_fraction(text, places);
  if (digits == 0 || !fraction || !text.empty()) return std::nullopt;
  for (int i = 0; i < places; ++i) whole *= 10;
  if (whole >= 100'000'000'000'000'000 && places == 0) whole /= 1000;  // nanoseconds
  std::int64_t value = whole + *fraction;
  return WallTime(microseconds(negative ? -value : value));
}

std::optional<WallTime> date_time(std::string_view text, Zone zone) {
  using namespace std::chrono;
  auto y = take_digits(text, 4);
  if (!y || !take(text, "-")) return std::nullopt;
  auto m = take_digits(text, 2);
  if (!m || !take(text, "-")) return std::nullopt;
  auto d = take_digits(text, 2);
  if (!d || !take(text, "Tt ")) return std::nullopt;
  auto hour = take_digits(text, 2);
  if (!hour || *hour > 23 || !take(text, ":")) return std::nullopt;
  auto minute = take_digits(text, 2);
  if (!minute || *minute > 59 || !take(text, ":")) return std::nullopt;
  auto second = take_digits(text, 2);  // 60: a leap second; it is the next minute's first
  auto fraction = second && *second <= 60 ? take_fraction(text, 6) : std::nullopt;
  if (!fraction) return std::nullopt;
  minutes offset{0};
  if (text.empty()) {
    if (zone == Zone::demanded) return std::nullopt;
  } else if (!take(text, "Zz")) {
    bool west = text.starts_with('-');
    if (!take(text, "+-")) return std::nullopt;
    auto hours_east = take_digits(text, 2);
    if (!hours_east || *hours_east > 23 || !take(text, ":")) return std::nullopt;
    auto minutes_east = take_digits(text, 2);
    if (!minutes_east || *minutes_east > 59) return std::nullopt;
    offset = minutes(*hours_east * 60 + *minutes_east) * (west ? -1 : 1);
  }
  year_month_day date{year(*y), month(static_cast<unsigned>(*m)), day(static_cast<unsigned>(*d))};
  if (!text.empty() || !date.ok()) return std::nullopt;
  return WallTime(sys_days(date)) + hours(*hour) + minutes(*minute) + seconds(*second) + microseconds(*fraction) -
         offset;
}

}  // namespace

Result<WallTime> parse_time(std::string_view text, Zone zone) {
  auto time = unix_time(text);
  if (!time) time = date_time(text, zone);
  if (!time) {
    std::string shown(text.substr(0, 60));
    if (zone == Zone::demanded && date_time(text, Zone::utc_when_missing)) {
      return rejected(fmt::format("the time \"{}\" does not say its zone", shown));
    }
    return rejected(fmt::format("\"{}\" is not a time, expected RFC 3339 (2026-05-04T12:00:00Z) or unix time", shown));
  }
  if (*time == WallTime{}) return rejected(fmt::format("the time {} stands for \"none\"", text));
  return *time;
}

}  // namespace penstock
