#include "agent/daemon/outlet.h"

#include <fmt/core.h>

#include <utility>

namespace penstock {
namespace {

std::uint64_t total_bytes(const std::vector<Record>& records) {
  std::uint64_t sum = 0;
  for (const auto& record : records) sum += record.bytes();
  return sum;
}

}  // namespace

void stamp(std::vector<Record>& records, const std::string& driver, const Clock& clock) {
  if (records.empty()) return;
  WallTime wall = clock.wall();
  BootTime boottime = clock.boottime();
  bool synchronised = clock.synchronised();
  for (auto& record : records) {
    if (record.driver.empty()) record.driver = driver;
    if (record.boottime == BootTime{}) record.boottime = boottime;
    if (record.time == WallTime{}) {
      record.time = wall;
      record.time_source = TimeSource::ours;
    }
    if (record.time_source == TimeSource::ours) record.synchronised = synchronised;
  }
}

DriverOutlet::DriverOutlet(Intake& intake, Writer& writer, const Disk& disk, const Clock& clock, Settings settings)
    : intake_(intake), writer_(writer), disk_(disk), clock_(clock), settings_(std::move(settings)) {
  writer_.attach(*this);
}

DriverOutlet::~DriverOutlet() { writer_.detach(*this); }

Result<Ticket> DriverOutlet::offer(std::vector<Record>& records, std::vector<StateChange>& changes,
                                   std::optional<std::uint64_t> sent_once) {
  if (!settings_.import) {
    for (auto& record : records) record.driver.clear();
  }
  stamp(records, settings_.driver, clock_);
  if (auto fine = check(records, changes); !fine) return fine.error();
  std::uint64_t count = records.size(), bytes = total_bytes(records);
  Packed packed = pack(records, changes, sent_once);
  auto ticket = intake_.offer(packed.group);
  if (!ticket) {
    take_back_event(packed);
    records = std::move(packed.group.records);
    changes = std::move(packed.group.changes);
  }
  return accepted(std::move(ticket), count, bytes);
}

Result<Ticket> DriverOutlet::put(std::vector<Record> records, std::vector<StateChange> changes, std::stop_token stop) {
  auto ticket = offer(records, changes);
  if (ticket || ticket.error().fault != Fault::full) return ticket;

  // The Intake waits for one stop; ours is either of two.
  std::stop_source either;
  std::stop_callback stopped(stop, [&] { either.request_stop(); });
  std::stop_callback closed(closing_.get_token(), [&] { either.request_stop(); });
  std::uint64_t count = records.size(), bytes = total_bytes(records);
  Packed packed = pack(records, changes, {});
  ticket = intake_.put(packed.group, either.get_token());
  if (!ticket) take_back_event(packed);
  return accepted(std::move(ticket), count, bytes);
}

Result<Ticket> DriverOutlet::give_up(Cause cause, std::uint64_t count) {
  if (closing_.stop_requested()) return transient("the outlet is closed");
  Group group{settings_.lane, settings_.driver, {}, {}, Refusal{cause, count}};
  auto ticket = accepted(intake_.offer(group), 0, 0);
  if (ticket) {
    std::lock_guard lock(mutex_);
    status_.given_up[cause] += count;
  }
  return ticket;
}

Result<void> DriverOutlet::check(const std::vector<Record>& records, const std::vector<StateChange>& changes) {
  if (closing_.stop_requested()) return transient("the outlet is closed");
  auto refuse = [this](std::string what) -> Result<void> {
    std::lock_guard lock(mutex_);
    status_.rejected += 1;
    return rejected(std::move(what));
  };
  for (const auto& record : records) {
    if (record.bytes() <= settings_.max_record_bytes) continue;
    return refuse(fmt::format("a record of stream \"{}\" has {} bytes, at most {} (max_record_bytes) are taken",
                              record.stream, record.bytes(), settings_.max_record_bytes));
  }
  for (const auto& change : changes) {
    if (change.name.size() + settings_.driver.size() > kMostStateNameBytes) {
      return refuse(fmt::format("a state's name has {} bytes, with the driver's at most {} are taken",
                                change.name.size(), kMostStateNameBytes));
    }
    if (change.value && change.value->size() > kMostStateValueBytes) {
      return refuse(fmt::format("state \"{}\" has {} bytes, at most {} are taken", change.name, change.value->size(),
                                kMostStateValueBytes));
    }
  }
  return {};
}

DriverOutlet::Packed DriverOutlet::pack(std::vector<Record>& records, std::vector<StateChange>& changes,
                                        std::optional<std::uint64_t> sent_once) {
  Packed packed{{settings_.lane,
                 settings_.driver,
                 std::move(records),
                 std::move(changes),
                 {},
                 sent_once.has_value(),
                 sent_once.value_or(0)}};
  if (!announcing_.load(std::memory_order_relaxed) || packed.group.records.empty()) return packed;
  std::lock_guard lock(mutex_);
  if (!event_) return packed;
  packed.group.records.push_back(std::move(*event_));
  if (sent_once) ++packed.group.sent_once;
  stamp(packed.group.records, settings_.driver, clock_);
  event_.reset();
  announcing_ = false;
  packed.announcing = true;
  return packed;
}

/// The group was not let in: the event waits for the next one.
void DriverOutlet::take_back_event(Packed& packed) {
  if (!packed.announcing) return;
  std::lock_guard lock(mutex_);
  event_ = std::move(packed.group.records.back());
  announcing_ = true;
  packed.group.records.pop_back();
}

Result<Ticket> DriverOutlet::accepted(Result<Ticket> ticket, std::uint64_t records, std::uint64_t bytes) {
  std::lock_guard lock(mutex_);
  if (ticket) {
    status_.records += records;
    status_.bytes += bytes;
    if (last_ < *ticket) last_ = *ticket;
  } else if (ticket.error().fault == Fault::full) {
    status_.full += 1;
  }
  return ticket;
}

void DriverOutlet::on_durable(std::function<void()> call) {
  std::lock_guard lock(call_mutex_);
  call_ = std::move(call);
}

void DriverOutlet::progressed() {
  std::lock_guard lock(call_mutex_);
  if (call_) call_();
}

Result<std::optional<std::string>> DriverOutlet::state(std::string_view name) const {
  return disk_.state(settings_.driver, name);
}

Result<std::vector<std::pair<std::string, std::string>>> DriverOutlet::states(std::string_view prefix) const {
  return disk_.states(settings_.driver, prefix);
}

void DriverOutlet::count(std::string_view event, std::uint64_t by) {
  std::lock_guard lock(mutex_);
  auto found = status_.events.find(event);
  if (found == status_.events.end()) found = status_.events.emplace(std::string(event), 0).first;
  found->second += by;
}

void DriverOutlet::say(std::string_view state) {
  std::lock_guard lock(mutex_);
  status_.state = state;
}

void DriverOutlet::close() { closing_.request_stop(); }

bool DriverOutlet::announce(std::optional<Record> event) {
  std::lock_guard lock(mutex_);
  bool waiting = event_.has_value();
  event_ = std::move(event);
  announcing_ = event_.has_value();
  return waiting;
}

OutletStatus DriverOutlet::status() const {
  std::lock_guard lock(mutex_);
  return status_;
}

}  // namespace penstock
