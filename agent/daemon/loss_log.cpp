#include "agent/daemon/loss_log.h"

#include <fmt/core.h>

namespace penstock {
namespace {

constexpr std::chrono::minutes kOncePer{1};

std::string loss_line(Cause cause, std::uint64_t fresh, std::uint64_t all) {
  return fmt::format("{} records given up: {}; {} for this cause since the start. Gap records tell Kafka", fresh,
                     name_of(cause), all);
}

}  // namespace

std::vector<std::string> LossLog::due(const GivenUp& given_up, BootTime now) {
  std::vector<std::string> lines;
  for (const auto& [cause, count] : given_up) {
    auto [found, first] = told_.try_emplace(cause);
    auto& told = found->second;
    if (count <= told.count || (!first && now - told.at < kOncePer)) continue;
    lines.push_back(loss_line(cause, count - told.count, count));
    told = {count, now};
  }
  return lines;
}

std::vector<std::string> LossLog::rest(const GivenUp& given_up) {
  std::vector<std::string> lines;
  for (const auto& [cause, count] : given_up) {
    auto& told = told_[cause];
    if (count > told.count) lines.push_back(loss_line(cause, count - told.count, count));
    told.count = count;
  }
  return lines;
}

}  // namespace penstock
