// Reads whole topics once, from their first record to the end they had when the reading began: for `verify`, for `demo`
// and for tests. No consumer group, nothing left behind in the cluster.
//
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "agent/kafka/client.h"
#include "agent/kafka/topic_reader.h"
#include "buffer/result.h"

namespace penstock {

struct ScanSettings {
  KafkaSettings kafka;              // brokers and properties
  std::vector<std::string> topics;  // names; one that begins with ^ is a regular expression (ECMAScript) of whole names
  std::vector<std::string> if_there;  // names of topics that may be missing
  bool committed = true;              // false: open and aborted transactions too
};

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
