// Sink: where the queue empties. Kafka is the real one; a faulty fake drives the model test.
//
// One thread, the forwarder, calls it. A crash at any instant leaves the destination with whole batches only.
#pragma once

#include <optional>
#include <stop_token>

#include "buffer/history.h"
#include "buffer/result.h"
#include "buffer/store.h"

namespace penstock {

class Sink {
 public:
  virtual ~Sink() = default;

  /// Settles whatever was in doubt (no earlier commit can land after it returned) and says up to where the
  /// destination holds everything; nothing if it knows nothing of this agent. `transient`: ask again.
  virtual Result<std::optional<Checkpoint>> resume(std::stop_token stop) = 0;

  /// Takes the batch whole or not at all, together with batch.after. After any error the outcome is unknown: resume()
  /// before anything else. `transient`: resume, then go on. `rejected`: the same, and nothing of it landed because some
  /// record in it will never be taken: it is too large, or invalid. `broken`: end the process.
  ///
  /// Success is the destination's word, and it may yet break it (KafkaSink says how): it is proof only of the commits
  /// before this one. So what was committed last stays in the store until another commit has succeeded, proven() has
  /// said true, or resume() has told where the destination stands.
  virtual Result<void> commit(const Batch& batch, std::stop_token stop) = 0;

  /// True: what was committed last is there for consumers to see, for good. False: not yet, or not known now.
  virtual bool proven(std::stop_token stop) = 0;
};

}  // namespace penstock
