// UTF-8 as Unicode defines it (table 3-7: no overlong forms, no surrogates), without NUL. Pure functions.
#pragma once

#include <cstddef>
#include <string_view>

namespace penstock {

/// The length of the well-formed character at the start of `text`, 0 when there is none.
std::size_t utf8_character(std::string_view text);
bool is_utf8(std::string_view text);

}  // namespace penstock
