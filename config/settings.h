// Settings: the whole configuration as plain values, with the defaults of docs (config reference). Immutable once read.
//
// What a driver needs beyond DriverSection is read by the driver's own key table (drivers/table.h). Ranges, meaning and
// spelling of each are in sections.cpp; two Settings can be compared to see what a new file changes.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "buffer/policy.h"
#include "config/keys.h"

namespace penstock {

struct AgentSettings {
  std::string id;
  std::filesystem::path state_directory = "/var/lib/penstock";
  std::chrono::milliseconds status_interval{60'000};
  bool operator==(const AgentSettings&) const = default;
};

struct BufferSettings {
  std::uint64_t capacity_bytes = std::uint64_t{1} << 30;
  std::uint64_t journal_bytes = 16 << 20;
  std::chrono::milliseconds commit_interval{50};
  std::uint64_t commit_bytes = 32 << 10;
  std::uint64_t intake_bytes = 4 << 20;
  std::uint64_t max_record_bytes = 1 << 20;
  WhenFull when_full = WhenFull::evict_oldest;
  int compression_level = 1;
  bool operator==(const BufferSettings&) const = default;
};

struct LaneSection {
  std::string name;
  int priority = 0;
  std::optional<std::chrono::milliseconds> max_age = std::nullopt;
  double share = 0;  // percent
  bool operator==(const LaneSection&) const = default;
};

enum class Delivery { exactly_once, at_least_once };
enum class HeaderStyle { cloudevents, compact };
enum class TimestampStyle { event, send };
enum class OnTopicError { wait, dead_letter };

struct KafkaSettings {
  std::vector<std::string> brokers;
  Delivery delivery = Delivery::exactly_once;
  std::string topic = "penstock.{lane}";
  std::string key = "{agent}/{stream}";
  HeaderStyle headers = HeaderStyle::cloudevents;
  TimestampStyle timestamp = TimestampStyle::event;
  std::chrono::milliseconds batch_interval{500};
  std::uint64_t batch_bytes = 2 << 20;
  std::uint64_t batch_records = 50'000;
  std::uint64_t rate_limit = 0;  // bytes a second; 0: none
  std::chrono::milliseconds transaction_timeout{30'000};
  std::chrono::milliseconds duplicate_watch{90'000};
  std::uint64_t max_topics = 200;
  OnTopicError on_topic_error = OnTopicError::wait;
  std::map<std::string, std::string> properties;  // handed to librdkafka as they are
  bool operator==(const KafkaSettings&) const = default;
};

struct HttpSettings {
  std::string listen = "127.0.0.1:9464";  // "off": none
  bool operator==(const HttpSettings&) const = default;
};

enum class OnBusy { wait, drop };

/// What every driver has; the rest of its table belongs to its type.
struct DriverSection {
  std::string agent;  // agent.id: with the name, what a source may know us by
  std::string name;
  std::string type;
  std::string lane = "telemetry";
  OnBusy on_busy = OnBusy::wait;
  AnySettings settings;  // of the driver's own type: settings.as<MqttSettings>()
  bool operator==(const DriverSection&) const = default;
};

struct Settings {
  AgentSettings agent;
  BufferSettings buffer;
  std::vector<LaneSection> lanes = {{"telemetry", 0}};  // in the order of the file; none given: this one
  KafkaSettings kafka;
  HttpSettings http;
  std::vector<DriverSection> drivers;  // in the order of the file
  bool operator==(const Settings&) const = default;
};

}  // namespace penstock
