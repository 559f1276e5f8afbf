// Settings of the mqtt driver, and its key table. Plain values; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/keys.h"
#include "config/secret.h"

namespace penstock {

struct MqttSubscription {
  std::string filter;
  int qos = 1;
  bool operator==(const MqttSubscription&) const = default;
};

enum class MqttVersion { v5, v3_1_1 };
enum class MqttRetained { keep, skip };

struct MqttSettings {
  std::string url;
  MqttVersion version = MqttVersion::v5;
  std::string client_id;  // empty: penstock-<agent>-<driver>
  std::string user;
  Secret password;
  std::vector<MqttSubscription> subscribe;
  std::string stream = "{topic}";
  MqttRetained retained = MqttRetained::keep;
  std::chrono::seconds keep_alive{30};
  std::chrono::seconds session_expiry{std::chrono::hours(7 * 24)};
  std::uint16_t receive_maximum = 5'000;
  std::chrono::milliseconds reconnect_least{1'000};
  std::chrono::milliseconds reconnect_most{60'000};
  bool operator==(const MqttSettings&) const = default;
};

struct MqttBroker {
  std::string host;
  std::uint16_t port = 1883;
  std::string text() const;  // host:port
};

/// mqtt://host[:port], the host a name, an IPv4 address or an IPv6 address in brackets.
std::optional<MqttBroker> parse_mqtt_url(std::string_view url);
/// MQTT 4.7: # only last and alone in its level, + only alone in its level.
bool is_topic_filter(std::string_view filter);

KeyTable mqtt_keys();

}  // namespace penstock
