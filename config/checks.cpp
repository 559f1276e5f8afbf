#include "config/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <initializer_list>
#include <set>
#include <utility>
#include <vector>

#include "config/units.h"

namespace penstock {
namespace {

constexpr std::array<std::string_view, 5> kPlaceholders = {"agent", "driver", "stream", "lane", "key"};
constexpr std::array<std::string_view, 2> kOwnTopics = {"penstock.checkpoints", "penstock.gaps"};
constexpr char kAnything = '\0';  // in a pattern: any text, none too

bool is_name_character(char letter) {
  return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
         letter == '.' || letter == '_' || letter == '-';
}

bool is_port(std::string_view text, unsigned least) {
  unsigned port = 0;
  auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), port);
  return fault == std::errc() && end == text.data() + text.size() && port >= least && port <= 65535 && text.size() <= 5;
}

/// "host", "port" of host:port or [v6]:port; nothing when it is neither.
std::optional<std::pair<std::string_view, std::string_view>> split_host_port(std::string_view text) {
  auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
    bool right = host.find(':') != std::string_view::npos && std::all_of(host.begin(), host.end(), [](char c) {
                   return std::isxdigit(static_cast<unsigned char>(c)) != 0 || c == ':' || c == '.' || c == '%';
                 });
    if (!right) return std::nullopt;
  } else if (host.empty() || host.size() > 253 || !std::all_of(host.begin(), host.end(), is_name_character)) {
    return std::nullopt;
  }
  return std::pair(host, text.substr(colon + 1));
}

/// As the sink will write a topic: `/` becomes `.`, what a topic cannot hold `_`.
std::string topic_text(std::string_view text) {
  std::string topic(text);
  for (auto& letter : topic) {
    if (letter == '/')
      letter = '.';
    else if (!is_name_character(letter))
      letter = '_';
  }
  return topic;
}

bool matches(std::string_view pattern, std::string_view text) {
  std::vector<bool> here(text.size() + 1, false);  // [i]: the pattern so far can be the first i letters
  here[0] = true;
  for (char letter : pattern) {
    std::vector<bool> next(text.size() + 1, false);
    for (std::size_t i = 0; i <= text.size(); ++i) {
      if (letter == kAnything)
        next[i] = here[i] || (i > 0 && next[i - 1]);
      else
        next[i] = i > 0 && here[i - 1] && text[i - 1] == letter;
    }
    here = std::move(next);
  }
  return here[text.size()];
}

/// The topic template with agent, driver and lane put in, and kAnything for what is only known later.
std::string topic_pattern(std::string_view text, const std::string& agent, const std::string& driver,
                          const std::string& lane) {
  std::string pattern;
  while (!text.empty()) {
    auto open = text.find('{');
    pattern += topic_text(text.substr(0, open));
    if (open == std::string_view::npos) break;
    auto close = text.find('}', open);
    auto name = text.substr(open + 1, close - open - 1);
    text.remove_prefix(close + 1);
    if (name == "agent")
      pattern += topic_text(agent);
    else if (name == "driver")
      pattern += topic_text(driver);
    else if (name == "lane")
      pattern += topic_text(lane);
    else if (!pattern.ends_with(kAnything))
      pattern += kAnything;
  }
  return pattern;
}

/// Our own topic that some record could be sent to.
std::optional<std::string_view> own_topic(const Settings& settings) {
  std::set<std::string> drivers = {"penstock"};  // status and event records
  for (const auto& driver : settings.drivers) drivers.insert(driver.name);
  for (const auto& driver : drivers) {
    for (const auto& lane : settings.lanes) {
      if (lane.name == "gaps" || lane.name == "checkpoints") continue;  // a problem of its own
      auto pattern = topic_pattern(settings.kafka.topic, settings.agent.id, driver, lane.name);
      for (auto topic : kOwnTopics) {
        if (matches(pattern, topic)) return topic;
      }
    }
  }
  return std::nullopt;
}

const Value* value_along(const Value& root, std::initializer_list<std::string_view> path) {
  const Value* at = &root;
  for (auto name : path) {
    const Member* member = at->find(name);
    if (member == nullptr) return nullptr;
    at = &member->value;
  }
  return at;
}

/// Where the path is, or as far along it as the file goes.
Place place_along(const Value& root, std::initializer_list<std::string_view> path) {
  const Value* at = &root;
  for (auto name : path) {
    const Member* member = at->find(name);
    if (member == nullptr) break;
    at = &member->value;
  }
  return at->place;
}

/// "a.b.c" as one quoted key or as tables.
const Value* find_property(const Value& table, std::string_view name) {
  if (const Member* member = table.find(name)) return &member->value;
  for (auto dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1)) {
    const Member* member = table.find(name.substr(0, dot));
    if (member == nullptr) continue;
    if (const Value* found = find_property(member->value, name.substr(dot + 1))) return found;
  }
  return nullptr;
}

struct OwnProperty {
  std::string_view name, why;
};

constexpr std::array<OwnProperty, 15> kOwnProperties{{
    {"acks", "is always \"all\""},
    {"request.required.acks", "is always \"all\""},
    {"bootstrap.servers", "comes from kafka.brokers"},
    {"metadata.broker.list", "comes from kafka.brokers"},
    {"transactional.id", "comes from agent.id"},
    {"transaction.timeout.ms", "comes from kafka.transaction_timeout"},
    {"enable.idempotence", "comes from kafka.delivery"},
    {"message.timeout.ms", "would give up records"},
    {"delivery.timeout.ms", "would give up records"},
    {"isolation.level", "is chosen by Penstock"},
    {"group.id", "is chosen by Penstock"},
    {"enable.auto.commit", "is chosen by Penstock"},
    {"enable.auto.offset.store", "is chosen by Penstock"},
    {"auto.offset.reset", "is chosen by Penstock"},
    {"enable.partition.eof", "is chosen by Penstock"},
}};

}  // namespace

std::string name_check(const std::string& name) {
  bool right = !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), is_name_character);
  return right ? "" : "letters, digits, \".\", \"_\" or \"-\", at most 64 of them";
}

std::string host_port_check(const std::string& text) {
  auto parts = split_host_port(text);
  return parts && is_port(parts->second, 1) ? "" : "host:port, for example \"kafka-1:9092\"";
}

std::string listen_check(const std::string& text) {
  constexpr auto kExpected = "a port of this machine only, for example \"127.0.0.1:9464\", or \"off\"";
  if (text == "off") return "";
  auto parts = split_host_port(text);
  if (!parts || !is_port(parts->second, 0)) return kExpected;
  auto host = parts->first;
  bool v4 = host.starts_with("127.") && std::count(host.begin(), host.end(), '.') == 3 &&
            host.find_first_not_of("0123456789.") == std::string_view::npos;
  return v4 || host == "::1" || host == "localhost" ? "" : kExpected;
}

std::string template_check(const std::string& text) {
  constexpr auto kExpected = "text with {agent}, {driver}, {stream}, {lane} or {key}";
  if (text.empty()) return kExpected;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '}') return std::string(kExpected) + ", each with both braces";
    if (text[at] != '{') continue;
    auto close = text.find('}', at);
    if (close == std::string::npos) return std::string(kExpected) + ", each with both braces";
    auto name = text.substr(at + 1, close - at - 1);
    if (std::find(kPlaceholders.begin(), kPlaceholders.end(), name) == kPlaceholders.end()) {
      auto near = nearest(name, {kPlaceholders.begin(), kPlaceholders.end()});
      return kExpected + (near ? fmt::format(", did you mean {{{}}}?", *near) : "");
    }
    at = close;
  }
  return "";
}

void check_together(const Settings& settings, const Value& root, Reading& reading) {
  auto problem = [&](Place place, std::string what) { reading.problems.push_back({place, std::move(what)}); };

  std::vector<std::string> lanes;
  for (const auto& lane : settings.lanes) lanes.push_back(lane.name);
  for (const auto& driver : settings.drivers) {
    if (!reading.whole || lanes.empty() || std::find(lanes.begin(), lanes.end(), driver.lane) != lanes.end()) continue;
    auto near = nearest(driver.lane, lanes);
    const Value* given = value_along(root, {"drivers", driver.name, "lane"});
    problem(place_along(root, {"drivers", driver.name, "lane"}),
            fmt::format("drivers.{}.lane is {}, expected one of the lanes {}{}", driver.name,
                        given != nullptr ? given->described() : fmt::format("\"{}\"", driver.lane),
                        fmt::join(lanes, ", "), near ? fmt::format(", did you mean \"{}\"?", *near) : ""));
  }

  std::set<std::string> seen;
  const Member* kafka = root.find("kafka");
  const Member* brokers = kafka != nullptr ? kafka->value.find("brokers") : nullptr;
  for (std::size_t i = 0; i < settings.kafka.brokers.size(); ++i) {
    if (seen.insert(settings.kafka.brokers[i]).second) continue;
    problem(brokers->value.items[i].place, fmt::format("kafka.brokers[{}] is {} again, expected each broker once", i,
                                                       brokers->value.items[i].described()));
  }

  if (template_check(settings.kafka.topic).empty()) {
    if (auto topic = own_topic(settings)) {
      const Member* given = kafka != nullptr ? kafka->value.find("topic") : nullptr;
      auto shown = given != nullptr ? given->value.described() : fmt::format("\"{}\"", settings.kafka.topic);
      problem(place_along(root, {"kafka", "topic"}),
              fmt::format("kafka.topic is {} and may yield \"{}\", Penstock's own topic, expected one that cannot, "
                          "for example \"data.{{stream}}\"",
                          shown, *topic));
    }
  }

  const auto& limit = settings.kafka.rate_limit;
  const auto timeout = std::chrono::duration<double>(settings.kafka.transaction_timeout).count();
  if (reading.problems.empty() && limit != 0 &&
      static_cast<double>(settings.buffer.max_record_bytes) > static_cast<double>(limit) * timeout) {
    reading.warnings.push_back(
        {place_along(root, {"kafka", "rate_limit"}),
         fmt::format(
             "kafka.rate_limit is \"{}\": a record of buffer.max_record_bytes (\"{}\") that does not compress is "
             "never sent, for it takes longer than kafka.transaction_timeout (\"{}\")",
             print_rate(limit), print_size(settings.buffer.max_record_bytes),
             print_duration(settings.kafka.transaction_timeout))});
  }

  const Member* properties = kafka != nullptr ? kafka->value.find("properties") : nullptr;
  for (const auto& own : kOwnProperties) {
    const Value* value = properties != nullptr ? find_property(properties->value, own.name) : nullptr;
    if (value != nullptr) {
      problem(value->place, fmt::format("kafka.properties.\"{}\" cannot be set, it {}", own.name, own.why));
    }
  }
}

}  // namespace penstock
