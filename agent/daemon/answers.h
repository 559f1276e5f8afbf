// What the agent answers: over HTTP, over the control socket, in one line to systemd and the log.
//
// Pure functions of an AgentStatus; any thread.
#pragma once

#include <string>
#include <string_view>

#include "agent/daemon/http.h"
#include "agent/daemon/status.h"

namespace penstock {

/// `12 records wait, Kafka away, 1 of 3 drivers failed`
std::string summary(const AgentStatus& status);

/// /metrics, /api/status and /healthz (503 only if writer or store is stuck; Kafka away is 200, and said); else 404.
HttpAnswer answer_http(std::string_view path, const AgentStatus& status);

/// What a request of the control socket names: {"command": "status"}. Empty: it is no request.
std::string control_command(const std::string& line);
/// Answers "status", and says of everything else that it is not understood. One line of JSON.
std::string answer_control(const std::string& command, const AgentStatus& status);

}  // namespace penstock
