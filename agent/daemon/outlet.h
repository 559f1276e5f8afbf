// DriverOutlet: what a driver sees of the agent. Stamps records, checks sizes, hands them to the Intake, counts.
//
// Threads: any thread of the driver may call the Outlet's functions; the supervisor the others.
// The writer, the Intake and the disk outlive it. A crash loses what was put and is not durable.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "agent/daemon/disk.h"
#include "agent/daemon/writer.h"
#include "buffer/clock.h"
#include "buffer/intake.h"
#include "drivers/driver.h"

namespace penstock {

/// What a driver has done so far, for status and metrics.
struct OutletStatus {
  std::string state;  // its own words
  std::uint64_t records = 0, bytes = 0;
  std::uint64_t full = 0;      // offers and puts that found the Intake full
  std::uint64_t rejected = 0;  // puts with a record over the limit
  std::map<Cause, std::uint64_t> given_up;
  std::map<std::string, std::uint64_t, std::less<>> events;
};

/// Fills in what the driver left open: driver, and time and boottime where they are zero, as of now.
void stamp(std::vector<Record>& records, const std::string& driver, const Clock& clock);

class DriverOutlet final : public Outlet, private Writer::Listener {
 public:
  struct Settings {
    std::string driver;  // the table's name
    Lane lane{};
    std::size_t max_record_bytes = std::size_t{1} << 20;
    bool import = false;  // of an import: a record that names a driver keeps it
  };

  DriverOutlet(Intake& intake, Writer& writer, const Disk& disk, const Clock& clock, Settings settings);
  ~DriverOutlet() override;

  // --- the driver
  Result<Ticket> offer(std::vector<Record>& records, std::vector<StateChange>& changes,
                       std::optional<std::uint64_t> sent_once = {}) override;
  Result<Ticket> put(std::vector<Record> records, std::vector<StateChange> changes, std::stop_token stop) override;
  Result<Ticket> give_up(Cause cause, std::uint64_t count) override;
  Ticket durable() const override { return writer_.durable().value(); }
  bool wait_durable(Ticket ticket, std::stop_token stop) const override { return writer_.durable().wait(ticket, stop); }
  void on_durable(std::function<void()> call) override;
  Result<std::optional<std::string>> state(std::string_view name) const override;
  Result<std::vector<std::pair<std::string, std::string>>> states(std::string_view prefix) const override;
  std::size_t max_record_bytes() const override { return settings_.max_record_bytes; }
  void count(std::string_view event, std::uint64_t by = 1) override;
  void say(std::string_view state) override;

  // --- the supervisor
  /// From now on every put is refused, and one that waits is given back.
  void close();
  /// The ticket of the last put.
  Ticket last() const { return last_; }
  /// With the next records this driver puts goes `event`, in the same commit; empty takes it back. True if the one
  /// before was still waiting.
  bool announce(std::optional<Record> event);
  bool announcing() const { return announcing_; }
  OutletStatus status() const;

 private:
  void progressed() override;
  Result<void> check(const std::vector<Record>& records, const std::vector<StateChange>& changes);
  struct Packed {
    Group group;
    bool announcing = false;  // its last record is the event
  };
  Packed pack(std::vector<Record>& records, std::vector<StateChange>& changes, std::optional<std::uint64_t> sent_once);
  void take_back_event(Packed& packed);
  Result<Ticket> accepted(Result<Ticket> ticket, std::uint64_t records, std::uint64_t bytes);

  Intake& intake_;
  Writer& writer_;
  const Disk& disk_;
  const Clock& clock_;
  const Settings settings_;
  std::stop_source closing_;
  std::atomic<Ticket> last_{0};

  mutable std::mutex mutex_;  // status_, event_
  OutletStatus status_;
  std::optional<Record> event_;
  std::atomic<bool> announcing_{false};

  std::mutex call_mutex_;
  std::function<void()> call_;
};

}  // namespace penstock
