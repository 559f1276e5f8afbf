// Sink: where the queue empties. Kafka is the real one; a faulty fake drives the model test.
//
// One thread, the forwarder, calls it. A crash at any instant leaves the destination with whole batches only.
#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "agent/forward/landed.h"
#include "buffer/history.h"
#include "buffer/result.h"
#include "buffer/store.h"

namespace penstock {

/// Where a destination stands, for good: nothing of it can be taken back any more.
struct Standing {
  std::optional<Checkpoint> checkpoint;  // none: it knows nothing of this agent
  Landed landed;                         // what it holds besides, above the checkpoint
};

/// What keeps a record from being sent, whatever the rest of its batch does: the state of its topic.
struct Obstacle {
  Lane lane{};
  Sequence sequence;
  std::string why;
  bool for_good = false;  // set it aside; else it waits, and what follows in its lane with it
};

/// Of its records, as max_record_bytes counts them.
inline std::size_t bytes_of(const Batch& batch) {
  std::size_t bytes = 0;
  for (const auto& stored : batch.records) bytes += stored.record.bytes();
  return bytes;
}

class Sink {
 public:
  virtual ~Sink() = default;

  /// Settles whatever was in doubt (no earlier commit can land after it returned) and says what the destination holds.
  /// `transient`: ask again.
  virtual Result<Standing> resume(std::stop_token stop) = 0;

  /// Before a batch is read: waits as a limit of bytes a second asks for, until a stop or at most half a minute.
  virtual void pace(std::stop_token) {}

  /// Before each commit: looks for what the batch needs. Nothing is begun. Where there are obstacles, they must be taken out
  /// of the batch, and what is left be prepared anew; there may be more of them. `transient`: resume, then go on.
  virtual Result<std::vector<Obstacle>> prepare(const Batch& batch, std::stop_token stop) = 0;

  /// Takes the batch whole or not at all, together with batch.after. After any error the outcome is unknown: resume()
  /// before anything else. `transient`: resume, then go on. `rejected`: the same, and nothing of it landed because some
  /// record in it will never be taken: it is too large, or invalid. `broken`: end the process.
  /// (Where readers skip repeats, parts of a batch that failed may have landed, but not a record that was refused.)
  ///
  /// Success is the destination's word, and it may yet break it, even for a part of the batch (KafkaSink says how). So
  /// what was committed stays in the store until proven() or resume() has told that it is there.
  virtual Result<void> commit(const Batch& batch, std::stop_token stop) = 0;

  /// The `after` of the newest commit since resume() up to which all can be seen by consumers, for good; nothing: of none
  /// more than was said before, or it is not known now.
  virtual std::optional<Checkpoint> proven(std::stop_token stop) = 0;

  /// All up to here is proven, and nothing follows for now: a sink that would tell the destination so with the next commit
  /// may do it already.
  virtual void pause(const Checkpoint&, std::stop_token) {}
};

}  // namespace penstock
