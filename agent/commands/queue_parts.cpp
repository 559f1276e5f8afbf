#include "agent/commands/queue_parts.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>

#include "agent/commands/command.h"

namespace penstock {

int queue_failed(const std::string& what) {
  fmt::print(stderr, "penstock queue: {}\n", what);
  return kFailed;
}

Result<QueueJson> ask_queue(QueueAccess& queue, const QueueJson& request) {
  auto answer = queue.ask(request["command"].get<std::string>(), request.dump());
  if (!answer) return answer.error();
  auto json = QueueJson::parse(*answer, nullptr, false);
  if (!json.is_object()) return rejected("the answer cannot be understood: " + answer->substr(0, 200));
  return json;
}

Result<QueueJson> list_queue(QueueAccess& queue) {
  auto listed = ask_queue(queue, {{"command", "queue.list"}});
  if (listed && !listed->contains("lanes")) return rejected("an agent of another version answers: it lists no lanes");
  return listed;
}

Result<std::vector<QueueJson>> lanes_of(const QueueJson& listed, const std::string& wanted) {
  std::vector<QueueJson> lanes;
  std::string names;
  for (const auto& lane : listed["lanes"]) {
    names += (names.empty() ? "" : ", ") + lane["name"].get<std::string>();
    if (wanted.empty() || lane["name"] == wanted) lanes.push_back(lane);
  }
  if (lanes.empty()) return rejected(fmt::format("there is no lane \"{}\"; there are: {}", wanted, names));
  return lanes;
}

Result<void> each_record(QueueAccess& queue, const std::string& lane, std::uint64_t from, std::uint64_t count,
                         const std::function<bool(const QueueJson&)>& take) {
  while (count > 0) {
    auto page = ask_queue(queue, {{"command", "queue.peek"}, {"lane", lane}, {"from", from}, {"count", count}});
    if (!page) return page.error();
    const auto& records = page->at("records");
    if (records.empty()) return {};
    for (const auto& record : records) {
      if (!take(record)) return {};
      from = record["sequence"].get<std::uint64_t>() + 1;
    }
    count -= std::min<std::uint64_t>(count, records.size());
  }
  return {};
}

}  // namespace penstock
