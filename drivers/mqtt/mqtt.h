// The mqtt driver: subscribes at a broker and puts every message into the queue, acknowledged only when it is on disk.
//
// Session (Paho) and Gate share the work: drivers/mqtt/gate.h says how. A record's stream comes from the topic, its
// payload is the message's, untouched; content type and user properties of MQTT 5 become content type and headers.
//
// Threads: run() in the supervisor's thread, one more for the Gate, Paho's own. A crash loses nothing that was
// acknowledged; the broker sends again what was not, so that a message may come twice (QoS 1), each a record of its
// own.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/settings.h"
#include "drivers/driver.h"

namespace penstock {

struct MqttSubscription {
  std::string filter;
  int qos = 1;
  bool operator==(const MqttSubscription&) const = default;
};

struct MqttSettings {
  std::string url;            // mqtt://host:port
  std::string version = "5";  // or "3.1.1"
  std::string client_id;      // names our session at the broker; one client only may have it
  std::string user;
  std::string password;
  std::vector<MqttSubscription> subscribe;
  std::string stream = "{topic}";
  bool keep_retained = true;  // false: what the broker replays at subscription is not recorded
  std::chrono::seconds keep_alive{30};
  std::chrono::seconds session_expiry{std::chrono::hours(7 * 24)};  // how long the broker keeps messages for us
  std::int64_t receive_maximum = 5'000;  // messages without acknowledgement; rate = this / commit time
  std::chrono::milliseconds reconnect_least{1'000};
  std::chrono::milliseconds reconnect_most{60'000};
  bool operator==(const MqttSettings&) const = default;
};

/// What is wrong with them, one line each with the key in front; empty: nothing.
std::vector<std::string> problems_of(const MqttSettings& settings);

std::unique_ptr<Driver> make_mqtt_driver(std::string name, MqttSettings settings, OnBusy on_busy);

}  // namespace penstock
