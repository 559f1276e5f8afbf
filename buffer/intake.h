// Intake: the bounded hall between the drivers and the writer.
//
// Any number of threads put; one thread, the writer, takes. RAM is bounded by `capacity_bytes` and one group: a group
// larger than the whole hall is let in when the hall is empty, so that a record of max_record_bytes always passes.
// A crash loses what is in here; nothing in here has been acknowledged to anybody.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <stop_token>
#include <vector>

#include "buffer/record.h"
#include "buffer/result.h"

namespace penstock {

class Intake {
 public:
  explicit Intake(std::size_t capacity_bytes);

  // --- drivers
  /// Takes the group whole and gives its ticket, or leaves it untouched: `full` when there is no room now,
  /// `transient` when the Intake is closed.
  Result<Ticket> offer(Group& group);
  /// The same, waiting for room; `transient` when closed or stopped before there was any.
  Result<Ticket> put(Group& group, std::stop_token stop);

  // --- the writer
  struct Taken {
    std::vector<Group> groups;  // in the order of their tickets
    Ticket last = 0;            // the ticket of the last of them
  };
  /// Waits for a first group (at most `idle`), then until `ripe_at` has come or `ripe_bytes` wait or the Intake is
  /// closed, and takes at most about `most_bytes`. Empty: nothing came within `idle`, or closed and drained.
  Taken take(std::chrono::nanoseconds idle, std::chrono::steady_clock::time_point ripe_at, std::size_t ripe_bytes,
             std::size_t most_bytes);
  /// Ends the waiting of take() early, as a new group would.
  void wake();

  // --- anyone
  /// From now on nothing is let in; what is inside can still be taken.
  void close();
  bool closed() const;
  std::size_t bytes() const;
  std::size_t capacity_bytes() const { return capacity_; }
  /// How many groups were ever let in: the last ticket given.
  Ticket accepted() const;

 private:
  struct Waiting {
    Group group;
    std::size_t bytes;
  };
  bool room_for(std::size_t bytes) const;
  Ticket admit(Group& group, std::size_t bytes);

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable_any room_;   // something was taken
  std::condition_variable_any ready_;  // something came
  std::deque<Waiting> waiting_;
  std::size_t bytes_ = 0;
  Ticket accepted_ = 0;
  bool woken_ = false;
  bool closed_ = false;
};

}  // namespace penstock
