// Driver: reads one source of data and puts records into its Outlet. What every driver is, and all that it sees.
//
// Threads: run() is called in a thread of the driver's own; it returns when a stop is asked for or when it cannot go on.
// The supervisor logs the error, waits (1 s doubling to 60 s, with jitter) and calls run() again, on the same object.
// A crash loses what was put and is not durable; a source that can resend is answered only when its ticket is durable.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "buffer/clock.h"
#include "buffer/record.h"
#include "buffer/result.h"

namespace penstock {

/// A driver's only way into the agent. Any thread of the driver may call it.
class Outlet {
 public:
  virtual ~Outlet() = default;

  /// Hands over records and state changes: all of it in one commit or nothing. The Outlet fills in driver, and time and
  /// boottime where they are zero. Does not wait: `full` when there is no room now (nothing was taken, `records` and
  /// `changes` are untouched). `rejected`: a record is over max_record_bytes (nothing was taken; `what` says which).
  /// `transient`: the agent is stopping, or this Outlet was closed.
  ///
  /// With `sent_once`: the source sends all of it again while it is not answered, except for so many of the records. Then
  /// nothing is refused because the queue is full: the ticket waits until there is room.
  virtual Result<Ticket> offer(std::vector<Record>& records, std::vector<StateChange>& changes,
                               std::optional<std::uint64_t> sent_once = {}) = 0;

  /// The same, waiting for room.
  virtual Result<Ticket> put(std::vector<Record> records, std::vector<StateChange> changes, std::stop_token stop) = 0;

  /// Says that `count` records were given up before they could be numbered; goes to the ledger in a commit.
  /// Does not wait: `full` as with offer.
  virtual Result<Ticket> give_up(Cause cause, std::uint64_t count) = 0;

  /// Every put with a ticket up to this one is on disk.
  virtual Ticket durable() const = 0;
  /// Waits until durable() has reached the ticket; false when stopped before.
  virtual bool wait_durable(Ticket ticket, std::stop_token stop) const = 0;
  /// `call` runs in the writer's thread whenever durable() has risen or room was made; it must be quick (write an
  /// eventfd). Replaces the one before; an empty function takes it away, and returns only when none is running.
  virtual void on_durable(std::function<void()> call) = 0;

  /// What this driver remembered with a StateChange.
  virtual Result<std::optional<std::string>> state(std::string_view name) const = 0;
  virtual Result<std::vector<std::pair<std::string, std::string>>> states(std::string_view prefix) const = 0;

  /// The largest Record::bytes() that will be taken.
  virtual std::size_t max_record_bytes() const = 0;

  /// Counts something worth a metric: penstock_driver_events_total{driver=...,event=...}.
  virtual void count(std::string_view event, std::uint64_t by = 1) = 0;
  /// One line for `penstock status`: what the driver is doing now ("connected to broker:1883").
  virtual void say(std::string_view state) = 0;
};

class Driver {
 public:
  virtual ~Driver() = default;
  /// Returns without error only after a stop was asked for. Any other return is an error that says what is wrong.
  virtual Result<void> run(Outlet& outlet, const Clock& clock, std::stop_token stop) = 0;
};

}  // namespace penstock
