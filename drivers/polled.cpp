#include "drivers/polled.h"

#include <utility>

namespace penstock {

Result<void> PolledOutlet::put(std::vector<Record> records, std::stop_token stop) {
  if (on_busy_ == OnBusy::wait) {
    auto ticket = outlet_.put(std::move(records), {}, stop);
    return ticket ? Result<void>() : Result<void>(ticket.error());
  }
  std::vector<StateChange> none;
  std::uint64_t count = records.size();
  if (auto ticket = outlet_.offer(records, none); !ticket) {
    if (ticket.error().fault != Fault::full) return ticket.error();
    dropped_ += count;
    outlet_.count("dropped_busy", count);
  }
  if (dropped_ > 0 && outlet_.give_up(Cause::refused, dropped_).ok()) dropped_ = 0;
  return {};
}

}  // namespace penstock
