// View: what the demo shows while it runs. A pure function from a snapshot to lines, so that a test can read them.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/demo/timetable.h"

namespace penstock {

struct DemoSnapshot {
  struct LaneRow {
    std::string name;
    std::uint64_t durable = 0, delivered = 0, waiting = 0;
  };
  struct DriverRow {
    std::string name, state;
    std::uint64_t records = 0;
  };
  enum class Stage { running, emptying };

  Stage stage = Stage::running;
  std::chrono::milliseconds at{0};
  bool link_up = true;
  std::vector<LaneRow> lanes;
  std::vector<DriverRow> drivers;
  std::uint64_t sent = 0, received = 0, own = 0, repeats = 0;
  double sent_rate = 0, received_rate = 0;  // records a second, of late
  std::uint64_t stored_bytes = 0, capacity_bytes = 0, memory_bytes = 0;
  std::vector<std::uint64_t> backlog;  // so far, equally spaced over `at`
  std::vector<std::string> messages;   // the newest of the log

  std::uint64_t waiting() const;
};

struct DemoLook {
  std::size_t columns = 80;
  bool colour = true;
  bool unicode = true;
};

/// One frame for a terminal; no line is longer than `look.columns` (colours not counted).
std::vector<std::string> draw(const DemoSnapshot& snapshot, const Timetable& timetable, const DemoLook& look);

/// The same as one line of text, for a log or a pipe.
std::string plain_line(const DemoSnapshot& snapshot, const Timetable& timetable);

/// 1234567 as 1,234,567.
std::string grouped(std::uint64_t number);
/// 3670016 as 3.5 MiB.
std::string in_bytes(std::uint64_t bytes);
/// 83 s as 01:23, an hour as 1:00:00.
std::string on_the_clock(std::chrono::milliseconds time);

}  // namespace penstock
