// The one place that knows which Catch2 this is: Debian 12 ships version 2, Debian 13 version 3. Tests are written as
// for version 2. Neither is safe in threads: CHECK and REQUIRE belong in the thread of the test case.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>

namespace Catch {
using Matchers::EndsWith;
using Matchers::Equals;
using Matchers::StartsWith;
inline auto Contains(const std::string& part) { return Matchers::ContainsSubstring(part); }
}  // namespace Catch
#else
#include <catch2/catch.hpp>
#endif
