// TopicReader: reads whole topics along, from their beginnings, for whoever wants to see what arrives while it arrives.
// (topic_scan.h reads once, up to the end.)
//
// No consumer group, nothing left behind in the cluster; read_committed, which a mock cluster ignores. A link that fails
// is waited for. One thread.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "agent/kafka/topic_scan.h"
#include "buffer/result.h"
#include "config/settings.h"

namespace penstock {

class TopicReader {
 public:
  struct Settings {
    KafkaSettings kafka;                // brokers and properties
    std::map<std::string, int> topics;  // name -> partitions
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

  /// True if everything that lies in the topics at the time of the call has been handed over. `transient`: the brokers
  /// did not say within `most`; while they are away librdkafka may take much longer.
  Result<bool> at_end(std::chrono::milliseconds most);

 private:
  struct Inside;
  explicit TopicReader(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

}  // namespace penstock
