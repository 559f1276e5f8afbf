// TwinLookout: before a sink fences whoever uses its id, looks whether that is another living agent: reads the newest
// checkpoint of the id, as read_uncommitted and without touching anything, and again as long as TwinWatch wants it.
//
// It is advice. That a store goes on rightly rests on init_transactions and on what is read after it, not on this.
//
// Threads: clear() is the sink's; duplicate() may be asked by any. A crash leaves nothing: the next life looks anew.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "agent/kafka/checkpoint_reader.h"
#include "agent/kafka/client.h"
#include "agent/kafka/twin_watch.h"
#include "buffer/clock.h"

namespace penstock {

class TwinLookout {
 public:
  /// All outlive it. Without `settings.written_here` nothing is looked for.
  TwinLookout(const KafkaSinkSettings& settings, const Clock& clock, CheckpointSearch& search);

  /// Nothing: go on to init_transactions. `transient`: not now; the link is away, a foreign checkpoint is still being
  /// watched (call again: the time counts on), or the newest one cannot be understood. Or it is another living agent's:
  /// then that is the answer for ever, without a look. `hint`: where our newest checkpoint is believed to lie.
  Result<void> clear(const std::optional<CheckpointPlace>& hint, const Patience& patience);

  bool duplicate() const { return duplicate_; }

 private:
  class Reader;
  Result<TwinWatch::Answer> look(Reader& reader, const Patience& patience);

  const KafkaSinkSettings& settings_;
  const Clock& clock_;
  CheckpointSearch& search_;
  TwinWatch watch_;
  std::string other_;  // the run of the foreign checkpoint
  std::string verdict_;
  std::atomic<bool> duplicate_{false};
};

}  // namespace penstock
