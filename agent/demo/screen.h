// Screen: shows the demo. On a terminal a view that is drawn in place, elsewhere a plain line once a second.
//
// One thread. With the object the terminal is as it was, with the last frame left standing.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <optional>

#include "agent/demo/timetable.h"
#include "agent/demo/view.h"

namespace penstock {

class Screen {
 public:
  /// `out` is a terminal if the system says so and $TERM is not dumb. Colours unless $NO_COLOR is set; line art if the
  /// locale is UTF-8.
  Screen(std::FILE* out, const Timetable& timetable);
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  bool terminal() const { return terminal_; }
  /// Draws; a plain line only when the last one is a second old. False when nobody reads it any more.
  bool show(const DemoSnapshot& snapshot);
  /// The last picture, whatever was shown last.
  void finish(const DemoSnapshot& snapshot);

 private:
  void draw_in_place(const DemoSnapshot& snapshot);

  std::FILE* out_;
  const Timetable& timetable_;
  bool terminal_ = false;
  DemoLook look_;
  std::size_t drawn_ = 0;  // lines of the frame that stands above the cursor
  std::optional<std::chrono::steady_clock::time_point> last_plain_;
};

}  // namespace penstock
