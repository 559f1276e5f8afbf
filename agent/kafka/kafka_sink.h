// KafkaSink: the queue's end. One transaction per batch: its records, its gap records and the checkpoint that speaks of
// them become visible to read_committed consumers together or never.
//
// Threads: the forwarder's calls all but status(), which may be called by any. librdkafka has threads of its own.
//
// Every failure is answered alike: the producer is thrown away, and resume() makes a new one, whose init_transactions
// ends whatever the old one (or a second agent with our id) had begun, and then reads where Kafka stands. So nothing
// needs to be known about a failed commit, neither whether it landed nor which class of error it was. It costs a
// reconnect where an abort could have done; on a link where commits fail, the connection is gone as a rule. (It aborts
// before it is thrown away, as far as that goes in a moment, but nothing rests on it: Producer::give_up.)
//
// As init_transactions fences whoever uses our id, TwinLookout looks first whether that is another living agent.
//
// With delivery = at_least_once there is an idempotent producer and no transactions. A batch is in when each of its messages is
// acknowledged; its checkpoint goes along with it, and says what was proven before and up to where this batch may be seen (and
// when nothing follows, one more says that it is proven, too). So
// after any doubt the last batch is sent once more, in the same order, and readers skip what they know (docs/consumers.md);
// and a copy of the store that is older than what was sent is still known as a fork. The rest of this page is for exactly_once.
//
// A crash at any instant leaves at most one open transaction, which the next life's init_transactions aborts.
//
// Kafka may break its word. A commit is acknowledged when the coordinator has written it down; then the coordinator
// writes a marker to each partition, but leaves out those that have no leader at that instant ("likely deleted already"),
// and takes the transaction for complete. So if brokers die just after a commit, its records lie there undecided, on some
// partitions or on all: our next commit to such a partition makes them visible, our next abort takes them back, and until
// then read_committed consumers stand still before them. Seen with Kafka 4.4.0: of 9 runs of tests/e2e/kill_test.py, one
// lost 110 records, and in one nothing went on. What we do about it:
// - commit() is not the proof, see Sink. The proof is that the last stable offsets of all partitions that a transaction
//   wrote to have passed it (Window). Until then its records stay in the queue.
// - Every checkpoint names the partitions in which unproven records lie, those of its own transaction too. It is produced
//   first, and on disk before anything else when there are unproven ones. So after any doubt resume() knows where to
//   look, makes sure that all there is decided, and reads what consumers see of it: that is not sent again (Standing).
// - A producer makes sure, before it writes to a partition for the first time, that an earlier life has left nothing open there.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "agent/forward/sink.h"
#include "agent/kafka/batch_writer.h"
#include "agent/kafka/client.h"
#include "agent/kafka/notes.h"
#include "buffer/clock.h"

namespace penstock {

/// For status and metrics.
struct KafkaSinkStatus {
  bool connected = false;                     // the last call succeeded
  std::string doing;                          // the step that is under way: what is waited for; empty: none
  std::string error;                          // what is wrong: of a transaction, until one succeeds; empty: nothing
  std::string librdkafka;                     // its last own complaint, about a broker as a rule; may be old
  std::map<std::string, std::string> topics;  // that cannot be written to now, and why: their lanes wait
  std::uint64_t transactions = 0, records = 0, gaps = 0, producers = 0;  // since the start
  bool duplicate_id = false;                         // another living agent has our id: nothing is sent until a restart
  std::uint64_t sent_bytes = 0, received_bytes = 0;  // on the wire, of all clients, since the start
};

class KafkaSink final : public Sink {
 public:
  /// `rejected`: settings that can never work: a template, a property librdkafka does not know. Does not wait and does
  /// not touch the network. What is passed by reference must outlive the sink.
  static Result<std::unique_ptr<KafkaSink>> open(const KafkaSinkSettings& settings, LaneNames lanes, Notes& notes,
                                                 const Clock& clock);
  /// Takes at most about a second: what is not committed is left to the next life.
  ~KafkaSink() override;
  KafkaSink(const KafkaSink&) = delete;
  KafkaSink& operator=(const KafkaSink&) = delete;

  /// At most one transaction timeout, then `transient`; a stop ends it within about a second.
  Result<Standing> resume(std::stop_token stop) override;
  /// As kafka.rate_limit says: Pace.
  void pace(std::stop_token stop) override;
  /// At most about fifteen seconds, for topics that have never been seen.
  Result<std::vector<Obstacle>> prepare(const Batch& batch, std::stop_token stop) override;
  /// At most one transaction timeout and some; a stop ends it within about a second, with the outcome unknown.
  Result<void> commit(const Batch& batch, std::stop_token stop) override;
  /// Within a second.
  std::optional<Checkpoint> proven(std::stop_token stop) override;
  /// Within a second.
  void pause(const Checkpoint& proven, std::stop_token stop) override;

  KafkaSinkStatus status() const;

 private:
  struct Inside;
  explicit KafkaSink(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

}  // namespace penstock
