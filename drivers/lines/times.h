// Times as files write them. Pure; any thread.
#pragma once

#include <string_view>

#include "buffer/clock.h"
#include "buffer/result.h"

namespace penstock {

enum class Zone { demanded, utc_when_missing };

/// RFC 3339 (2026-05-04T12:00:00.5+02:00; a space may stand for the T), or unix time, with a fraction or without: below
/// 1e11 it is in seconds, below 1e14 in milliseconds, below 1e17 in microseconds, else in nanoseconds. Finer than a
/// microsecond is cut off. `rejected`: neither; or 1970-01-01T00:00:00Z itself, which stands for "no time".
Result<WallTime> parse_time(std::string_view text, Zone zone = Zone::demanded);

}  // namespace penstock
