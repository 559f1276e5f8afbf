// Fixed-width integers in byte strings: little-endian in blocks, big-endian in keys and meta values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace penstock {

template <class Int>
void store_little(char* at, Int value) {
  auto bits = static_cast<std::make_unsigned_t<Int>>(value);
  for (std::size_t i = 0; i < sizeof(Int); ++i) at[i] = static_cast<char>(static_cast<std::uint64_t>(bits) >> (8 * i));
}

template <class Int>
Int load_little(const char* at) {
  std::uint64_t value = 0;
  for (std::size_t i = sizeof(Int); i-- > 0;) value = value << 8 | static_cast<unsigned char>(at[i]);
  return static_cast<Int>(value);
}

template <class Int>
void append_big(std::string& to, Int value) {
  auto bits = static_cast<std::uint64_t>(static_cast<std::make_unsigned_t<Int>>(value));
  for (std::size_t i = sizeof(Int); i-- > 0;) to += static_cast<char>(bits >> (8 * i));
}

template <class Int>
Int load_big(const char* at) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(Int); ++i) value = value << 8 | static_cast<unsigned char>(at[i]);
  return static_cast<Int>(value);
}

}  // namespace penstock
