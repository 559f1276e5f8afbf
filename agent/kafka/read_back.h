// ReadBack: reads again what we have written to Kafka since given offsets, as consumers see it, and remembers which of our
// records and gap records are there. On a slow link it takes several calls.
//
// One thread. Reads, and leaves nothing behind.
#pragma once

#include <string>

#include "agent/forward/landed.h"
#include "agent/kafka/client.h"
#include "agent/kafka/window.h"
#include "buffer/result.h"

namespace penstock {

class ReadBack {
 public:
  ReadBack(const KafkaSinkSettings& settings, const Offsets& since)
      : settings_(settings), since_(since), positions_(since) {}

  /// Which partitions, from where on.
  const Offsets& since() const { return since_; }

  /// Until all before `ends` was seen, of the partitions that both have; everything there must be decided. `transient`:
  /// not yet, the next call goes on. `rejected`: the brokers do not let us read one of the topics.
  Result<void> read(const Offsets& ends, const Patience& patience);
  const Landed& landed() const { return landed_; }
  std::uint64_t records() const { return records_; }  // of ours, gap records too

 private:
  const KafkaSinkSettings settings_;
  const Offsets since_;
  Offsets positions_;
  Landed landed_;
  std::uint64_t records_ = 0;
};

}  // namespace penstock
