// Settings: the whole configuration as plain values, with the defaults of docs (config reference). Immutable once read.
//
// What a driver needs beyond DriverSection is read by the driver's own key table (drivers/table.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace penstock {

struct AgentSettings {
  std::string id;
  std::filesystem::path state_directory = "/var/lib/penstock";
  std::chrono::milliseconds status_interval{60'000};
};

enum class FullPolicy { evict_oldest, reject_newest, block };

struct BufferSettings {
  std::uint64_t capacity_bytes = std::uint64_t{1} << 30;
  std::chrono::milliseconds commit_interval{50};
  std::uint64_t commit_bytes = 32 << 10;
  std::uint64_t intake_bytes = 4 << 20;
  std::uint64_t max_record_bytes = 1 << 20;
  FullPolicy when_full = FullPolicy::evict_oldest;
  int compression_level = 1;
};

struct LaneSection {
  std::string name;
  int priority = 0;
};

enum class Delivery { exactly_once, at_least_once };
enum class HeaderStyle { cloudevents, compact };
enum class TimestampStyle { event, send };

struct KafkaSettings {
  std::vector<std::string> brokers;
  Delivery delivery = Delivery::exactly_once;
  std::string topic = "penstock.{lane}";
  std::string key = "{agent}/{stream}";
  HeaderStyle headers = HeaderStyle::cloudevents;
  TimestampStyle timestamp = TimestampStyle::event;
  std::chrono::milliseconds batch_interval{500};
  std::uint64_t batch_bytes = 8 << 20;
  std::uint64_t batch_records = 50'000;
  std::chrono::milliseconds transaction_timeout{30'000};
  std::uint64_t max_topics = 200;
  std::map<std::string, std::string> properties;  // handed to librdkafka as they are
};

struct HttpSettings {
  std::string listen = "127.0.0.1:9464";  // "off": none
};

enum class OnBusy { wait, drop };

/// What every driver has; the rest of its table belongs to its type.
struct DriverSection {
  std::string name;
  std::string type;
  std::string lane = "telemetry";
  OnBusy on_busy = OnBusy::wait;
};

}  // namespace penstock
