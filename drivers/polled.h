// PolledOutlet: how a source that cannot resend hands over, by its `on_busy`: it waits for room, or drops and says so.
//
// One thread, the driver's.
#pragma once

#include <stop_token>
#include <vector>

#include "config/settings.h"
#include "drivers/driver.h"

namespace penstock {

class PolledOutlet {
 public:
  PolledOutlet(Outlet& outlet, OnBusy on_busy) : outlet_(outlet), on_busy_(on_busy) {}

  /// `wait`: returns when the records are let in. `drop`: at once; what found no room is counted, and enters the
  /// ledger as soon as there is room for that.
  Result<void> put(std::vector<Record> records, std::stop_token stop);

 private:
  Outlet& outlet_;
  const OnBusy on_busy_;
  std::uint64_t dropped_ = 0;  // not in the ledger yet
};

}  // namespace penstock
