// Durations, sizes, rates and percentages as the configuration writes them: one whole number (a percentage may have a
// fraction) and its unit, nothing else. Printing gives the shortest text that reads back as the same value.
//
//   duration  us ms s m h d             "50ms" "90d"
//   size      B KiB MiB GiB TiB         "1GiB"; powers of 1,024 only, so that KB can mean nothing else
//   rate      a size a second           "256KiB/s"
//   percent   0 to 100                  "12.5%"
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace penstock {

std::optional<std::chrono::microseconds> parse_duration(std::string_view text);
std::optional<std::uint64_t> parse_size(std::string_view text);
std::optional<std::uint64_t> parse_rate(std::string_view text);
std::optional<double> parse_percentage(std::string_view text);

std::string print_duration(std::chrono::microseconds duration);
std::string print_size(std::uint64_t bytes);
std::string print_rate(std::uint64_t bytes_per_second);
std::string print_percentage(double percent);

}  // namespace penstock
