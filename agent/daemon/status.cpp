#include "agent/daemon/status.h"

#include <nlohmann/json.hpp>

namespace penstock {
namespace {

using StatusJson = nlohmann::ordered_json;

double in_seconds(std::chrono::microseconds duration) { return std::chrono::duration<double>(duration).count(); }

StatusJson lane_json(const LaneStatus& lane) {
  return {{"name", lane.name},
          {"priority", lane.priority},
          {"dropped", lane.dropped.value()},
          {"delivered", lane.delivered.value()},
          {"durable", lane.durable.value()},
          {"last", lane.last.value()},
          {"backlog_records", lane.records}};
}

StatusJson store_json(const StoreStatus& store, const std::string& mended) {
  StatusJson given_up = StatusJson::object();
  for (const auto& [cause, count] : store.given_up) given_up[name_of(cause)] = count;
  return {{"epoch", store.epoch.hex()},
          {"run", store.run.hex()},
          {"page_bytes", store.page_bytes},
          {"used_pages", store.used_pages},
          {"free_pages", store.free_pages},
          {"capacity_pages", store.capacity_pages},
          {"commits", store.commits},
          {"seals", store.seals},
          {"journal_bytes", store.journal_bytes},
          {"journal_used_bytes", store.journal_used_bytes},
          {"frames_lost", store.frames_lost},
          {"journal_cut_off", store.journal_cut_off},
          {"ledger_entries", store.ledger_entries},
          {"dead_letters", store.dead_letters},
          {"given_up", given_up},
          {"mended", mended.empty() ? StatusJson() : StatusJson(mended)}};
}

StatusJson driver_json(const DriverStatus& driver) {
  StatusJson given_up = StatusJson::object(), events = StatusJson::object();
  for (const auto& [cause, count] : driver.outlet.given_up) given_up[name_of(cause)] = count;
  for (const auto& [event, count] : driver.outlet.events) events[event] = count;
  return {{"name", driver.name},
          {"type", driver.type},
          {"state", name_of(driver.state)},
          {"failed", driver.failed},
          {"says", driver.outlet.state},
          {"failures", driver.failures},
          {"last_error", driver.last_error},
          {"records", driver.outlet.records},
          {"bytes", driver.outlet.bytes},
          {"intake_full", driver.outlet.full},
          {"rejected", driver.outlet.rejected},
          {"given_up", given_up},
          {"events", events}};
}

}  // namespace

std::string to_json(const AgentStatus& status) {
  StatusJson lanes = StatusJson::array(), drivers = StatusJson::array(), topics = StatusJson::object();
  for (const auto& lane : status.store.lanes) lanes.push_back(lane_json(lane));
  for (const auto& driver : status.drivers) drivers.push_back(driver_json(driver));
  for (const auto& [topic, why] : status.sink.topics) topics[topic] = why;
  StatusJson all{
      {"agent", status.agent},
      {"version", status.version},
      {"state", status.state},
      {"stuck", status.stuck},
      {"uptime_seconds", in_seconds(status.uptime)},
      {"clock_synchronised", status.synchronised},
      {"state_directory", status.state_directory},
      {"http", status.http},
      {"lanes", lanes},
      {"kafka",
       {{"connected", status.connected},
        {"doing", status.sink.doing},
        {"error", status.sink.error},
        {"duplicate_id", status.sink.duplicate_id},
        {"topics", topics},
        {"commits", status.sent_commits},
        {"records", status.sent_records},
        {"sent_bytes", status.sink.sent_bytes},
        {"received_bytes", status.sink.received_bytes},
        {"gaps", status.sent_gaps},
        {"resumes", status.resumes},
        {"producers", status.sink.producers},
        {"failures", status.failures},
        {"forks", status.forks},
        {"checkpoints_behind", status.checkpoints_behind},
        {"carried_out_in_part", status.carried_out_in_part},
        {"batch_limit_bytes", status.batch_bytes},
        {"busy_seconds", in_seconds(status.forwarder_busy)}}},
      {"store", store_json(status.store, status.mended)},
      {"writer",
       {{"turned_seconds_ago", in_seconds(status.writer_turned)},
        {"commits", status.writer_commits},
        {"records", status.writer_records},
        {"waiting_for_room", status.waiting_for_room}}},
      {"intake",
       {{"bytes", status.intake_bytes},
        {"capacity_bytes", status.intake_capacity},
        {"puts_accepted", status.puts_accepted},
        {"puts_durable", status.puts_durable}}},
      {"drivers", drivers},
  };
  return all.dump(-1, ' ', false, StatusJson::error_handler_t::replace);
}

}  // namespace penstock
