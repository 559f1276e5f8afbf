// What the commands under `penstock queue` share: their options, asking the queue, and showing a record. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "agent/commands/access.h"
#include "buffer/result.h"

namespace penstock {

using QueueJson = nlohmann::ordered_json;

struct QueueOptions {
  QueuePlace place;
  std::string lane;
  std::uint64_t from = 1, to = std::numeric_limits<std::uint64_t>::max(), count = 10;
  std::string output;
  std::vector<std::string> retried, discarded;
  bool retry_all = false;
  bool json = false, full = false, progress = false;
};

/// Complains, and gives the status to end with.
int queue_failed(const std::string& what);
/// `rejected`: what comes back is no answer.
Result<QueueJson> ask_queue(QueueAccess& queue, const QueueJson& request);
/// What queue.list answers.
Result<QueueJson> list_queue(QueueAccess& queue);
/// Of the lane asked for, or of all; in the order of their priority.
Result<std::vector<QueueJson>> lanes_of(const QueueJson& listed, const std::string& wanted);
/// Each record of a lane from `from` on, page by page, until the lane or `take` ends; what ended it.
Result<void> each_record(QueueAccess& queue, const std::string& lane, std::uint64_t from, std::uint64_t count,
                         const std::function<bool(const QueueJson&)>& take);

/// Of stdout; 0: it is no terminal, and lines may have any length.
std::size_t terminal_width();
/// In one line that does nothing to a terminal: what is not text to be seen is escaped. `width` 0: all of it.
std::string visible(const std::string& text, std::size_t width);
/// One that `queue.peek` answered, in two lines.
void show_record(const QueueJson& record, std::size_t width);

/// `penstock queue check`, in queue_check.cpp; its exit status.
int check_queue(QueueAccess& queue, const QueueOptions& options);
/// `penstock queue dead-letters`, in queue_dead_letters.cpp; its exit status.
int handle_dead_letters(QueueAccess& queue, const QueueOptions& options);

}  // namespace penstock
