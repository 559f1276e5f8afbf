// Plan: which filters to subscribe and to unsubscribe after a connect. The broker keeps our subscriptions with the
// session, so one that left the config has to be taken back; and a 3.1.1 broker sends all retained messages again for
// every SUBSCRIBE, so one that it already has is not sent again. What it has is remembered in the store.
//
// Pure; any thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "buffer/record.h"
#include "drivers/mqtt/session.h"

namespace penstock::mqtt {

struct Plan {
  std::vector<Filter> subscribe;
  std::vector<std::string> unsubscribe;
  std::vector<StateChange> forget;  // once unsubscribed
};

/// Names of states begin with this; the filter follows. A filter has at most 300 bytes, so that it fits a name.
inline constexpr const char* kFilterState = "filter/";
inline constexpr std::size_t kMostFilterBytes = 300;

/// `identity`: of the session, client id and broker. `remembered`: the states with that prefix.
Plan make_plan(const std::vector<Filter>& wanted, const std::vector<std::pair<std::string, std::string>>& remembered,
               const std::string& identity, bool session_present, Version version);
/// What to remember of a filter that the broker has granted.
StateChange remember(const Filter& filter, const std::string& identity);

}  // namespace penstock::mqtt
