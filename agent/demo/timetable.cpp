#include "agent/demo/timetable.h"

namespace penstock {

Timetable::Timetable(Duration whole) : whole_(whole) {
  constexpr Duration kLongestRound = std::chrono::minutes(5);
  auto rounds = whole.count() <= 0 ? 0 : (whole + kLongestRound - Duration(1)) / kLongestRound;
  for (Duration::rep n = 0; n < rounds; ++n) {
    auto percent = [&](int of) { return whole * (100 * n + of) / (100 * rounds); };
    cuts_.push_back({percent(20), percent(40)});
    cuts_.push_back({percent(60), percent(70)});
  }
}

bool Timetable::up(Duration at) const {
  for (const auto& cut : cuts_) {
    if (cut.from <= at && at < cut.to) return false;
  }
  return true;
}

std::optional<Timetable::Duration> Timetable::until_change(Duration at) const {
  for (const auto& cut : cuts_) {
    if (at < cut.from) return cut.from - at;
    if (at < cut.to) return cut.to - at;
  }
  return std::nullopt;
}

}  // namespace penstock
