// Writer: the one thread that writes the store. Takes what waits in the Intake, commits it as one group, and says up
// to which ticket everything is on disk.
//
// Group commit: at once when the disk has been idle for a commit interval, else when the interval is over or
// commit_bytes wait. A power cut takes what waits for the next commit, at most one interval's, and the commit in progress.
//
// A full store (policy `block`) is waited for: the same groups are offered again, the Intake fills, the drivers wait.
// Under reject_newest only groups that come again are kept and offered again, with the others beside them; when they
// take half the Intake's room everybody waits. No ticket behind a kept group becomes durable before it. Nothing is
// dropped until the agent stops; what is then still in hand was acknowledged to nobody, and goes to the ledger unless it
// comes again.
//
// Between commits it writes the store's file to its full size, a step at a time (Store::prewrite_step): a commit into space
// that was written once costs one flush, into new space two.
//
// Threads: run() in a thread of its own, once; everything else from any thread.
// A crash loses what is in hand and not durable; no ticket was ever reported durable before it was.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "agent/daemon/disk.h"
#include "buffer/clock.h"
#include "buffer/intake.h"
#include "buffer/watermark.h"

namespace penstock {

/// What the writer is doing, for status, /healthz and the watchdog.
struct WriterStatus {
  std::atomic<std::int64_t> last_turn{0};  // BootTime in microseconds at which its loop last turned
  std::atomic<std::uint64_t> commits{0}, groups{0}, records{0};
  std::atomic<bool> waiting_for_room{false};  // the store is full and its policy is `block`
};

class Writer {
 public:
  struct Settings {
    std::chrono::milliseconds commit_interval{50};
    std::size_t commit_bytes = 32 << 10;
    std::size_t most_bytes = 4 << 20;               // of one commit
    std::chrono::milliseconds idle_commit{10'000};  // idle for so long: keep delivered marks with a commit of their own
    std::chrono::milliseconds full_retry{200};      // between two tries on a full store
    std::chrono::milliseconds turn{1'000};          // the loop turns at least so often
    std::chrono::milliseconds prewrite_pause{250};  // between two steps of pre-writing: 4 MiB/s
  };

  /// Who wants to know that tickets became durable or that room was made in the Intake. Called in the writer's thread;
  /// must be quick and must not attach or detach.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void progressed() = 0;
  };

  Writer(Disk& disk, Intake& intake, const Clock& clock, const Settings& settings);
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  /// Until a stop is asked for; then what still waits in the Intake, the notes and the marks are committed.
  /// Close the Intake before. An error (`broken`) only when the store cannot be trusted any more.
  Result<void> run(std::stop_token stop);

  /// Tickets: every put up to this one is on disk.
  const Watermark& durable() const { return durable_; }

  /// Work for the writer's thread, done between commits, and its answer: `transient` when the writer ended before it began.
  class Request {
    friend class Writer;
    std::function<Result<void>()> work_;
    std::optional<Result<void>> answer_;
    bool begun_ = false;
  };
  /// Both the asker, who may give up waiting, and the writer, who may be at it, hold the request.
  std::shared_ptr<Request> ask(std::function<Result<void>()> work);
  /// Nothing: not yet.
  std::optional<Result<void>> answer_of(const Request& request) const;

  /// Runs Store::settle in the writer's thread and waits until it has; `transient` when stopped or when the writer has
  /// ended before it began.
  Result<void> settle(const Settlement& settlement, std::stop_token stop);
  /// The same with other work.
  Result<void> perform(std::function<Result<void>()> work, std::stop_token stop);

  /// Keeps a small state of the agent itself under `owner`. Rides on the next commit, never causes one, except at the
  /// orderly end: a crash may lose it. Store::state shows it once it is committed.
  void note(const std::string& owner, StateChange change);

  void attach(Listener& listener);
  /// Returns only when the listener is not being called and never will be again.
  void detach(Listener& listener);

  const WriterStatus& status() const { return status_; }

 private:
  using Steady = std::chrono::steady_clock;

  Result<void> loop(std::stop_token stop);
  Result<void> finish();
  Result<void> commit(std::vector<Group>& groups, Ticket last, std::stop_token stop);
  std::vector<Ticket> put_kept_before(std::vector<Group>& groups, Ticket last);
  bool keeps_too_much() const;
  Result<void> forget_kept();
  Result<void> wait_for_room(std::stop_token stop);
  Result<void> give_up(const std::vector<Group>& groups, const Error& why);
  Result<void> prewrite();
  Result<void> serve();
  void refuse(const std::string& why);
  void add_notes(std::vector<Group>& groups);
  void tell_listeners();
  void pause(std::chrono::milliseconds most, std::stop_token stop);

  Disk& disk_;
  Intake& intake_;
  const Clock& clock_;
  const Settings settings_;
  WriterStatus status_;
  Watermark durable_;

  // the writer's thread alone
  struct Kept {
    Group group;
    Ticket ticket;
  };
  std::vector<Kept> kept_;  // groups that come again and found no room, in order
  Ticket last_taken_ = 0;
  Steady::time_point last_commit_;
  Steady::time_point next_prewrite_;
  bool prewriting_ = true;  // the store's file has not yet its full size

  mutable std::mutex mutex_;
  std::condition_variable_any asked_;
  std::condition_variable_any answered_;
  std::deque<std::shared_ptr<Request>> requests_;
  std::map<std::pair<std::string, std::string>, std::optional<std::string>> notes_;
  bool ended_ = false;
  std::string ended_why_;

  std::mutex listeners_mutex_;
  std::vector<Listener*> listeners_;
};

}  // namespace penstock
