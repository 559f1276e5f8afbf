#include "drivers/mqtt/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "drivers/mqtt/plan.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

std::string expected_url(const std::string& url) {
  if (url.starts_with("mqtts://")) return "mqtt://host:port (TLS is not there yet)";
  return parse_mqtt_url(url) ? "" : "the address of a broker, mqtt://host:port";
}

std::string expected_filter(const std::string& filter) {
  if (filter.size() > mqtt::kMostFilterBytes)
    return fmt::format("a topic filter of at most {} bytes", mqtt::kMostFilterBytes);
  return is_topic_filter(filter) ? "" : "a topic filter, with + and # alone in their level and # last";
}

KeyTable subscription_keys() {
  return Keys<MqttSubscription>()
      .key("filter", &MqttSubscription::filter, "a topic filter")
      .required()
      .check(expected_filter)
      .example("\"plant/+/telemetry\"")
      .key("qos", &MqttSubscription::qos,
           "0: what is on its way when a link or process fails is lost; 1: nothing is lost")
      .between(0, 1);
}

}  // namespace

std::string MqttBroker::text() const {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

std::optional<MqttBroker> parse_mqtt_url(std::string_view url) {
  constexpr std::string_view kScheme = "mqtt://";
  if (!url.starts_with(kScheme)) return {};
  url.remove_prefix(kScheme.size());
  if (url.ends_with('/')) url.remove_suffix(1);
  MqttBroker broker;
  std::string_view rest;
  if (url.starts_with('[')) {
    std::size_t end = url.find(']');
    if (end == std::string_view::npos) return {};
    broker.host = url.substr(1, end - 1);
    rest = url.substr(end + 1);
  } else {
    std::size_t colon = std::min(url.find(':'), url.size());
    broker.host = url.substr(0, colon);
    rest = url.substr(colon);
  }
  if (broker.host.empty() || broker.host.find_first_of("/@ ") != std::string::npos) return {};
  if (!rest.empty()) {
    const char* end = rest.data() + rest.size();
    auto [stopped, error] = std::from_chars(rest.data() + 1, end, broker.port);
    if (rest.front() != ':' || error != std::errc() || stopped != end || broker.port == 0) return {};
  }
  return broker;
}

bool is_topic_filter(std::string_view filter) {
  if (filter.empty() || filter.find('\0') != std::string_view::npos) return false;
  while (true) {
    std::size_t slash = filter.find('/');
    std::string_view level = filter.substr(0, slash);
    bool last = slash == std::string_view::npos;
    if (level.find_first_of("#+") != std::string_view::npos && level.size() > 1) return false;
    if (level == "#" && !last) return false;
    if (last) return true;
    filter.remove_prefix(slash + 1);
  }
}

KeyTable mqtt_keys() {
  return Keys<MqttSettings>()
      .key("url", &MqttSettings::url, "the broker, mqtt://host:port")
      .required()
      .check(expected_url)
      .example("\"mqtt://broker:1883\"")
      .tables("subscribe", &MqttSettings::subscribe, subscription_keys(), "what to subscribe: { filter, qos }")
      .required()
      .example("[{ filter = \"plant/+/telemetry\", qos = 1 }]")
      .choice(
          "version", &MqttSettings::version, {{"5", MqttVersion::v5}, {"3.1.1", MqttVersion::v3_1_1}},
          "of MQTT; at 3.1.1 the rate is bounded by the broker's own in-flight window divided by the commit interval")
      .key("client_id", &MqttSettings::client_id,
           "the name of our session at the broker, no other client may have it; empty: penstock-AGENT-DRIVER")
      .check([](const std::string& id) { return id.size() <= 200 ? "" : "at most 200 bytes"; })
      .key("user", &MqttSettings::user, "user name, when the broker asks for one")
      .key("password", &MqttSettings::password, "its password")
      .key("stream", &MqttSettings::stream, "the stream of a record; {topic} is the message's topic")
      .check([](const std::string& text) { return text.empty() ? "a template such as {topic}" : ""; })
      .choice("retained", &MqttSettings::retained, {{"keep", MqttRetained::keep}, {"skip", MqttRetained::skip}},
              "whether messages that the broker had retained, and sends once for a new subscription, are recorded")
      .key("keep_alive", &MqttSettings::keep_alive, "how soon a dead connection is noticed, by the broker and by us")
      .between(1s, 65'535s)
      .key("session_expiry", &MqttSettings::session_expiry,
           "how long the broker keeps our session and its messages while we are away (MQTT 5)")
      .between(1min, 24h * 3650)
      .key("receive_maximum", &MqttSettings::receive_maximum,
           "how many messages may wait for their acknowledgement (MQTT 5); this divided by the commit interval bounds "
           "the rate")
      .between(1, 65'535)
      .unit("messages")
      .key("reconnect_least", &MqttSettings::reconnect_least, "first pause before connecting again; it doubles")
      .between(10ms, 1h)
      .key("reconnect_most", &MqttSettings::reconnect_most, "longest pause before connecting again")
      .between(10ms, 24h)
      .verify([](const MqttSettings& settings, Complaints& say) {
        if (settings.subscribe.empty())
          say.problem("subscribe", "is empty, expected at least one { filter = \"...\" }");
        for (std::size_t i = 0; i < settings.subscribe.size(); ++i) {
          for (std::size_t j = 0; j < i; ++j) {
            if (settings.subscribe[j].filter != settings.subscribe[i].filter) continue;
            say.problem("subscribe",
                        fmt::format("has the filter \"{}\" twice, expected each once", settings.subscribe[i].filter));
          }
        }
        if (settings.user.empty() && !settings.password.empty() && settings.version == MqttVersion::v3_1_1) {
          say.problem("password", "stands without a user, expected both with MQTT 3.1.1");
        }
        if (settings.reconnect_most < settings.reconnect_least) {
          say.problem("reconnect_most", "is below reconnect_least, expected at least as much");
        }
      });
}

}  // namespace penstock
