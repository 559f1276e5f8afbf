#include "drivers/mqtt/plan.h"

#include <algorithm>
#include <string_view>

namespace penstock::mqtt {
namespace {

std::string remembered_value(int qos, const std::string& identity) { return std::to_string(qos) + " " + identity; }

}  // namespace

Plan make_plan(const std::vector<Filter>& wanted, const std::vector<std::pair<std::string, std::string>>& remembered,
               const std::string& identity, bool session_present, Version version) {
  Plan plan;
  for (const auto& filter : wanted) {
    bool known =
        std::find(remembered.begin(), remembered.end(),
                  std::pair(kFilterState + filter.filter, remembered_value(filter.qos, identity))) != remembered.end();
    if (!(known && session_present && version == Version::v3_1_1)) plan.subscribe.push_back(filter);
  }
  for (const auto& [name, value] : remembered) {
    std::string filter = name.substr(std::string_view(kFilterState).size());
    bool still = std::any_of(wanted.begin(), wanted.end(), [&](const Filter& each) { return each.filter == filter; });
    if (still) continue;
    bool ours = value.size() > 2 && value.substr(2) == identity;
    if (ours && session_present) plan.unsubscribe.push_back(filter);
    plan.forget.push_back({name, std::nullopt});
  }
  return plan;
}

StateChange remember(const Filter& filter, const std::string& identity) {
  return {kFilterState + filter.filter, remembered_value(filter.qos, identity)};
}

}  // namespace penstock::mqtt
