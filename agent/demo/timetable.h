// Timetable: when the demo's link is cut. A pure function of the time since the start; no clock, no threads.
//
// A demo of up to five minutes has one round, a longer one several of equal length. In each round the link is cut from
// 20 % to 40 % and from 60 % to 70 % of it: never for more than a minute, because the stand-in for Kafka keeps only a
// few megabytes and what waits in the queue reaches it at once when the link is back.
#pragma once

#include <chrono>
#include <optional>
#include <vector>

namespace penstock {

class Timetable {
 public:
  using Duration = std::chrono::milliseconds;
  /// The link is down at every t with from <= t < to.
  struct Cut {
    Duration from, to;
    bool operator==(const Cut&) const = default;
  };

  explicit Timetable(Duration whole);

  Duration whole() const { return whole_; }
  const std::vector<Cut>& cuts() const { return cuts_; }
  bool up(Duration at) const;
  /// How long the link stays as it is; none: to the end.
  std::optional<Duration> until_change(Duration at) const;

 private:
  Duration whole_;
  std::vector<Cut> cuts_;  // in order, apart from each other
};

}  // namespace penstock
