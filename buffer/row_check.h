// RowCheck: eight bytes behind the value of every small row, so that no bit of it can turn without being noticed.
// (A block has a checksum of its own.) docs/formats.md, "The store".
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace penstock {

inline constexpr std::size_t kRowCheckBytes = 8;

/// True for the keys under `00`.
bool is_small_row(std::string_view key);
std::string with_check(std::string_view key, std::string_view value);
/// The value that was stored; nothing if this is not what with_check() made for the key.
std::optional<std::string_view> without_check(std::string_view key, std::string_view stored);

}  // namespace penstock
