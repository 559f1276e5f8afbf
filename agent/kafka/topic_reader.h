// TopicReader: reads topics along, from their beginnings or from given offsets, for whoever wants to see what arrives while
// it arrives.
// (topic_scan.h reads once, up to the end.)
//
// No consumer group, nothing left behind in the cluster. A link that fails is waited for. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/kafka/headers.h"
#include "agent/kafka/window.h"
#include "buffer/result.h"
#include "config/settings.h"

namespace penstock {

class Wire;

/// Valid only within the call.
struct SeenRecord {
  std::string_view topic;
  std::int32_t partition = 0;
  std::int64_t offset = 0;
  std::int64_t timestamp = 0;  // milliseconds
  std::string_view key, value;
  bool deleted = false;            // no value at all
  std::optional<RecordName> name;  // if it is one of ours
  std::vector<HeaderView> headers;
};

class TopicReader {
 public:
  struct Settings {
    KafkaSettings kafka;                         // brokers and properties
    std::map<std::string, std::int32_t> topics;  // name -> partitions, read from their beginnings
    bool committed = true;  // read_committed, which a mock cluster ignores; false: open and aborted transactions too
    Offsets from = {};      // and these partitions, from there on
    std::string agent = "reader";     // client.id is made of it
    std::shared_ptr<Wire> wire = {};  // as in KafkaSinkSettings
  };
  using Take = std::function<void(const SeenRecord&)>;

  /// `rejected`: a property that librdkafka does not take, a topic that cannot be. Does not wait for the brokers.
  static Result<std::unique_ptr<TopicReader>> open(const Settings& settings);
  ~TopicReader();
  TopicReader(const TopicReader&) = delete;
  TopicReader& operator=(const TopicReader&) = delete;

  /// Waits for at most `wait` for a first record, then hands over what is there, at most 1,000; within a partition in
  /// order.
  void read(std::chrono::milliseconds wait, const Take& take);

  /// Of a partition, the offset that is handed over next: everything before it was, or is not to be seen.
  std::int64_t position(std::string_view topic, std::int32_t partition) const;
  /// The brokers do not let us read one of the topics.
  bool refused() const;
  /// What librdkafka complained of last; empty: nothing.
  const std::string& trouble() const;

  /// True if everything that lies in the topics at the time of the call has been handed over. `transient`: the brokers
  /// did not say within `most`.
  Result<bool> at_end(std::chrono::milliseconds most);

 private:
  struct Inside;
  explicit TopicReader(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

}  // namespace penstock
