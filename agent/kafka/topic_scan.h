// Reads whole topics once, from their first record to the end they had when the reading began: for `verify`, for `demo`
// and for tests. No consumer group, nothing left behind in the cluster.
//
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/kafka/client.h"
#include "agent/kafka/headers.h"
#include "buffer/result.h"

struct rd_kafka_message_s;

namespace penstock {

struct ScanSettings {
  KafkaSettings kafka;              // brokers and properties
  std::vector<std::string> topics;  // names; one that begins with ^ is a regular expression (ECMAScript) of whole names
  std::vector<std::string> if_there;  // names of topics that may be missing
  bool committed = true;              // false: open and aborted transactions too
};

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

/// What librdkafka hands over, without an error, in our words; valid as long as `message` is.
SeenRecord seen_record(const rd_kafka_message_s& message, std::string_view topic);

struct ScanSummary {
  std::uint64_t records = 0;
  std::vector<std::string> topics;  // that were read
  bool trimmed = false;             // one of them no longer holds its first records
};

/// Within a partition in order. A committed scan waits for the open transactions before the end, as long as patience
/// lasts. `rejected`: a bad expression, no such topic; `transient`: everything else, with how far it came.
Result<ScanSummary> scan_topics(const ScanSettings& settings, const std::function<void(const SeenRecord&)>& seen,
                                const Patience& patience);

}  // namespace penstock
