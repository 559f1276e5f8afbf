#include "buffer/row_check.h"

#include <xxhash.h>

#include "buffer/bytes.h"

namespace penstock {
namespace {

std::uint64_t check_of(std::string_view key, std::string_view value) {
  return XXH3_64bits_withSeed(value.data(), value.size(), XXH3_64bits(key.data(), key.size()));
}

}  // namespace

bool is_small_row(std::string_view key) { return !key.empty() && key[0] == '\0'; }

std::string with_check(std::string_view key, std::string_view value) {
  std::string stored(value);
  append_big(stored, check_of(key, value));
  return stored;
}

std::optional<std::string_view> without_check(std::string_view key, std::string_view stored) {
  if (stored.size() < kRowCheckBytes) return std::nullopt;
  auto value = stored.substr(0, stored.size() - kRowCheckBytes);
  if (load_big<std::uint64_t>(stored.data() + value.size()) != check_of(key, value)) return std::nullopt;
  return value;
}

}  // namespace penstock
