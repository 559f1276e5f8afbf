#include "agent/daemon/status.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tests/catch.h"

namespace penstock {
namespace {
namespace status_test {

AgentStatus sample() {
  AgentStatus status;
  status.agent = "gw-17";
  status.version = "1.2.3";
  status.state = "running";
  status.uptime = std::chrono::seconds(90);
  status.connected = true;
  status.sent_records = 12;
  status.sink.error = "broker 2: \"refused\"\n";
  status.sink.topics = {{"penstock.alarms", "unknown topic"}};
  status.sink.duplicate_id = true;
  status.sink.producers = 4;
  status.sink.sent_bytes = 5'000'000'001;
  status.sink.received_bytes = 70'000;
  LaneStatus lane;
  lane.name = "telemetry";
  lane.delivered = Sequence(1000);
  lane.durable = Sequence(1007);
  lane.records = 7;
  status.store.lanes = {lane};
  status.store.page_bytes = 4096;
  status.store.used_pages = 3;
  status.store.given_up = {{Cause::evicted, 55}};
  DriverStatus driver;
  driver.name = "plant";
  driver.type = "mqtt";
  driver.state = DriverState::running;
  driver.outlet.records = 77;
  driver.outlet.state = "bad \xff byte";
  driver.outlet.events = {{"reconnects", 3}};
  driver.outlet.given_up = {{Cause::too_large, 2}};
  status.drivers = {driver};
  return status;
}

TEST_CASE("status is one line of JSON, whatever drivers and brokers say") {
  auto text = to_json(sample());
  CHECK(text.find('\n') == std::string::npos);
  auto body = nlohmann::json::parse(text);
  CHECK(body["agent"] == "gw-17");
  CHECK(body["lanes"][0]["backlog_records"] == 7);
  CHECK(body["kafka"]["topics"]["penstock.alarms"] == "unknown topic");
  CHECK(body["kafka"]["duplicate_id"] == true);
  CHECK(body["kafka"]["producers"] == 4);
  CHECK(body["kafka"]["sent_bytes"] == 5'000'000'001);
  CHECK(body["kafka"]["received_bytes"] == 70'000);
  CHECK(body["store"]["given_up"]["evicted"] == 55);
  CHECK(body["store"]["mended"].is_null());
  CHECK(body["drivers"][0]["events"]["reconnects"] == 3);
  CHECK(body["drivers"][0]["state"] == "running");
}

TEST_CASE("metrics carry the prefix, base units, help and type; counters and only they end in _total") {
  std::istringstream text(to_metrics(sample()));
  std::set<std::string> names, helped;
  std::map<std::string, std::string> types;
  for (std::string line; std::getline(text, line);) {
    std::istringstream words(line);
    std::string first, second, name, type;
    words >> first;
    if (first == "#") {
      words >> second >> name >> type;
      if (second == "HELP") helped.insert(name);
      if (second == "TYPE") types[name] = type;
      continue;
    }
    names.insert(first.substr(0, first.find('{')));
  }
  CHECK(names.size() > 20);
  for (const auto& name : names) {
    INFO(name);
    CHECK(name.starts_with("penstock_"));
    CHECK(helped.contains(name));
    CHECK(types[name] == (name.ends_with("_total") ? "counter" : "gauge"));
    CHECK(name.find("milli") == std::string::npos);
    CHECK(name.find("_ms") == std::string::npos);
  }
}

TEST_CASE("metrics have the values of the status") {
  auto text = to_metrics(sample());
  for (const char* line :
       {"penstock_info{agent=\"gw-17\",version=\"1.2.3\"} 1\n", "penstock_uptime_seconds 90\n",
        "penstock_lane_backlog_records{lane=\"telemetry\"} 7\n",
        "penstock_lane_delivered_sequence{lane=\"telemetry\"} 1000\n", "penstock_store_used_bytes 12288\n",
        "penstock_given_up_records_total{cause=\"evicted\"} 55\n",
        "penstock_given_up_records_total{cause=\"refused\"} 0\n", "penstock_kafka_connected 1\n",
        "penstock_kafka_duplicate_id 1\n", "penstock_kafka_producers_total 4\n", "penstock_kafka_records_total 12\n",
        "penstock_kafka_sent_bytes_total 5000000001\n", "penstock_kafka_received_bytes_total 70000\n",
        "penstock_kafka_unwritable_topics 1\n", "penstock_driver_up{driver=\"plant\",type=\"mqtt\"} 1\n",
        "penstock_driver_records_total{driver=\"plant\",type=\"mqtt\"} 77\n",
        "penstock_driver_given_up_records_total{driver=\"plant\",type=\"mqtt\",cause=\"too_large\"} 2\n",
        "penstock_driver_events_total{driver=\"plant\",type=\"mqtt\",event=\"reconnects\"} 3\n"}) {
    CHECK_THAT(text, Catch::Contains(line));
  }
}

}  // namespace status_test
}  // namespace
}  // namespace penstock
