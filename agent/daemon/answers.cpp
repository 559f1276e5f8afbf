#include "agent/daemon/answers.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace penstock {

std::string summary(const AgentStatus& status) {
  std::uint64_t backlog = 0;
  for (const auto& lane : status.store.lanes) backlog += lane.records;
  auto failed =
      std::count_if(status.drivers.begin(), status.drivers.end(), [](const auto& driver) { return driver.failed; });
  std::string text = fmt::format("{} records wait, Kafka {}", backlog, status.connected ? "connected" : "away");
  if (failed > 0) text += fmt::format(", {} of {} drivers failed", failed, status.drivers.size());
  if (status.waiting_for_room) text += ", the queue is full";
  return text;
}

HttpAnswer answer_http(std::string_view path, const AgentStatus& status) {
  if (path == "/metrics") return {200, "text/plain; version=0.0.4; charset=utf-8", to_metrics(status)};
  if (path == "/api/status") return {200, "application/json", to_json(status) + "\n"};
  if (path == "/healthz") {
    if (!status.stuck.empty()) return {503, "text/plain; charset=utf-8", "stuck: " + status.stuck + "\n"};
    return {200, "text/plain; charset=utf-8", "ok: " + summary(status) + "\n"};
  }
  return {404, "text/plain; charset=utf-8", "there are /metrics, /healthz and /api/status\n"};
}

std::string control_command(const std::string& line) {
  auto request = nlohmann::json::parse(line, nullptr, false);
  bool named = request.is_object() && request.contains("command") && request["command"].is_string();
  return named ? request["command"].get<std::string>() : std::string();
}

std::string answer_control(const std::string& command, const AgentStatus& status) {
  if (command == "status") return to_json(status);
  return nlohmann::json{
      {"error", command.empty() ? "expected {\"command\": \"status\"}"
                                : "no such command; there are: status, queue.list, queue.peek, "
                                  "queue.gaps, queue.dead_letters, queue.retry, queue.discard, import.begin, "
                                  "import"},
      {"fault", name_of(Fault::rejected)}}
      .dump();
}

}  // namespace penstock
