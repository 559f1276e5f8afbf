// AgentStatus: all that can be seen of a running agent at one instant. The metrics, /api/status, the control socket and
// the status record are all made of it.
//
// Plain values; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/daemon/supervisor.h"
#include "buffer/store.h"

namespace penstock {

/// What the sink says of itself.
struct SinkView {
  std::string doing;                                 // the step that is under way; empty: none
  std::string error;                                 // what is wrong now; empty when nothing is
  std::map<std::string, std::string> topics;         // that cannot be written to now, and why
  bool duplicate_id = false;                         // another living agent has our id: nothing is sent
  std::uint64_t producers = 0;                       // made since the start: each fences the one before it
  std::uint64_t sent_bytes = 0, received_bytes = 0;  // on the wire since the start
};

struct AgentStatus {
  std::string agent, version, state;  // starting, running, stopping
  std::string state_directory;
  std::string http;   // host:port it listens on; empty when it does not
  std::string stuck;  // why /healthz is 503; empty: it is not
  std::chrono::microseconds uptime{};
  bool synchronised = false;
  StoreStatus store;
  std::string mended;  // what had to be done before the store could be opened; empty: nothing

  std::chrono::microseconds writer_turned{};  // ago
  std::uint64_t writer_commits = 0, writer_records = 0;
  bool waiting_for_room = false;

  std::uint64_t intake_bytes = 0, intake_capacity = 0;
  std::uint64_t puts_accepted = 0, puts_durable = 0;

  bool connected = false;
  std::uint64_t sent_commits = 0, sent_records = 0, sent_gaps = 0, resumes = 0, failures = 0, forks = 0;
  std::uint64_t checkpoints_behind = 0, carried_out_in_part = 0;
  std::uint64_t batch_bytes = 0;               // what the link lets a transaction carry
  std::chrono::microseconds forwarder_busy{};  // how long the present call or sleep has lasted
  SinkView sink;

  std::vector<DriverStatus> drivers;
};

/// One line of JSON; docs/operations.md has its names.
std::string to_json(const AgentStatus& status);
/// Prometheus text exposition format 0.0.4; docs/operations.md has the names.
std::string to_metrics(const AgentStatus& status);

}  // namespace penstock
