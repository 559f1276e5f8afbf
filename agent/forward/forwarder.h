// Forwarder: the exactly-once loop. Ask the destination where it is, send what follows, raise delivered when it is proven
// to be there; on any doubt ask again. That is all there is to it, and it must stay that way.
//
// A batch that is refused for a record in it is sent again by halves, and halves of these, until it is one record: that one
// is set aside (Store::set_aside), and a gap record goes in its place. Where the state of a topic keeps a record from being
// sent, its lane waits there and the others go on.
//
// One thread. It never sends a sequence above durable (Store::read does not give any) and it alone raises delivered.
// A crash at any instant is a doubt like every other: the next life begins by asking.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <stop_token>
#include <string>

#include "agent/forward/batch_size.h"
#include "agent/forward/sink.h"
#include "buffer/clock.h"
#include "buffer/store.h"

namespace penstock {

/// What the forwarder is doing, for status and metrics. Read by any thread.
struct ForwarderStatus {
  std::atomic<bool> connected{false};  // the last call into the sink succeeded
  std::atomic<std::uint64_t> commits{0}, records{0}, gaps{0}, resumes{0}, failures{0}, forks{0};
  std::atomic<std::uint64_t> set_aside{0}, checkpoints_behind{0};  // Kafka has lost what was proven to be there
  std::atomic<std::uint64_t> batch_bytes{0};                       // what the link lets a batch have at most
  std::atomic<std::uint64_t> carried_out_in_part{0};               // transactions of which some records were missing
  /// BootTime in microseconds at which the present call into the sink, or sleep, began.
  std::atomic<std::int64_t> busy_since{0};
};

class Forwarder {
 public:
  struct Settings {
    std::chrono::milliseconds batch_interval{500};  // the shortest time between two commits
    BatchLimits limits;
    std::chrono::milliseconds batch_time{10'000};  // a batch is no more than the link moves in that time
    std::uint64_t rate_limit = 0;                  // bytes a second that the sink sends at most; 0: no limit
    std::chrono::milliseconds backoff_first{500}, backoff_most{30'000};
    std::chrono::milliseconds idle{1'000};  // with nothing to send for so long, what was sent last is proven
    int proofs = 30;                        // that may fail in a row before the destination is asked again
    std::chrono::milliseconds proof_patience{300'000};  // the same while there is always something to send
    std::chrono::milliseconds lane_wait{10'000};        // until a lane that waits for a topic is tried again
  };
  /// What only the writer may do. Each does it in the writer's thread, and waits until it is durable.
  struct Writes {
    std::function<Result<void>(const Settlement&, std::stop_token)> settle;
    std::function<Result<void>(Lane, Sequence, const std::string& reason, std::stop_token)> set_aside;
  };
  /// For who is the writer himself.
  static Writes own_writes(Store& store);

  /// `store` is only read here; everything given must outlive the Forwarder.
  Forwarder(Store& store, Sink& sink, Writes writes, const Clock& clock, const Settings& settings);

  /// Until stopped; an error only when the store or an invariant is broken.
  Result<void> run(std::stop_token stop);

  /// One turn of the loop: asks, or sends one batch, or waits at most a second for something to send.
  Result<void> step(std::stop_token stop);

  const ForwarderStatus& status() const { return status_; }

 private:
  Result<void> ask(std::stop_token stop);
  Result<void> send(std::stop_token stop);
  BatchLimits limits();
  Result<bool> clear_way(Batch& batch, const Checkpoint& sent, std::stop_token stop);
  void leave_out(Batch& batch, Lane lane, Sequence from);
  std::optional<Checkpoint> prove(std::stop_token stop);
  void look_again(std::stop_token stop);
  void doubt();
  Result<void> narrow(const Batch& batch, const std::string& why, std::stop_token stop);
  void back_off(const std::string& why, std::stop_token stop);
  void pace(const Batch& batch, BootTime began, std::stop_token stop);
  void mark_busy() { status_.busy_since = clock_.boottime().count(); }

  Store& store_;
  Sink& sink_;
  const Writes writes_;
  const Clock& clock_;
  const Settings settings_;
  ForwarderStatus status_;
  bool certain_ = false;  // the destination was asked, and nothing has happened since that it did not confirm
  std::optional<Checkpoint> unproven_;  // what was committed last; none: there is proof of all
  Landed landed_;                       // what the destination held when it was asked, above what it had taken whole
  int failed_proofs_ = 0;
  BootTime proven_at_{};  // or when there was nothing without proof
  BatchSize size_;
  std::size_t narrow_ = 0;      // records in a batch at most, while one that is refused is looked for; 0: as usual
  bool waited_ = false;         // before the record at hand is set aside
  int set_aside_in_a_row_ = 0;  // without a commit between them
  std::map<Lane, BootTime> waiting_;  // lanes that wait for a topic, and until when
  std::chrono::milliseconds backoff_;
  std::minstd_rand jitter_{std::random_device{}()};
};

}  // namespace penstock
