// What the commands about the queue share: where it is, how far they are, and being interrupted.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "agent/commands/command.h"
#include "agent/daemon/service.h"
#include "agent/queue/access.h"

namespace penstock {

struct QueuePlace {
  std::string config = kDefaultConfig;
  std::string socket;  // empty: found by the configuration
};
void add_place(CLI::App& app, QueuePlace& place);

/// The queue, or null: why was said on stderr, and `status` is what to end with.
std::unique_ptr<QueueAccess> open_queue(const QueuePlace& place, bool make, const char* command, int& status);

/// Has the store of a stopped agent examined, and mended where it is damaged; says what was found, and gives the status.
int repair_queue(const QueuePlace& place);

/// One line on stderr that is written again each second: on a terminal, or when it is asked for.
class ProgressLine {
 public:
  explicit ProgressLine(bool demanded);
  /// Takes the line away.
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  bool due() const;
  void show(const std::string& text);
  /// A line that stays.
  void say(const std::string& text);

 private:
  void wipe();
  bool wanted_, terminal_, shown_ = false;
  std::chrono::steady_clock::time_point last_;
};

/// A Ctrl-C came.
bool interrupted(Signals& signals);

}  // namespace penstock
