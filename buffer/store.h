// Store: the durable queue. Lanes of records, the ledger, and what drivers must remember: in LMDB, with a journal in front.
//
// Threads: one writer calls the functions under "the writer"; everything else may be called by any thread at any time.
//
// Durable: what a commit took is on disk when it returns. A commit is one frame of the journal, a ring that was written
// before it is used: one write, one flush. When half of the ring is in use, the oldest of what is not delivered moves on
// into LMDB, in blocks that fill a page each ("sealing"). While Kafka is there, records are delivered before that.
//
// A crash (kill -9, power cut) at any instant leaves a store that opens and holds every record whose commit returned, in
// order, and of the commit in progress all or nothing. The delivered marks may be older than what Kafka has; never newer.
//
// Fullness: at `capacity_bytes` or on a full disk the policy `when_full` decides. What is given up is in the ledger in
// the same commit. 256 pages, written already, are kept in reserve so that giving up always has room to work.
//
// Damage: open() finds and mends what would lead LMDB astray. Met later it is `broken`, and a mark makes the next open look.
//
// On disk: docs/formats.md. A store has one directory: data.mdb, lock.mdb, journal, manifest; `suspect`, `salvaged/`,
// `damaged.mdb` and `damaged.journal` after damage.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/history.h"
#include "buffer/mend.h"
#include "buffer/policy.h"
#include "buffer/record.h"
#include "buffer/result.h"
#include "buffer/watermark.h"

namespace penstock {

struct LaneSettings {
  std::string name;
  int priority = 0;                     // 0 is served first and evicted last
  std::chrono::milliseconds max_age{};  // what waits for longer is given up; 0: nothing does
  double share = 0;                     // of the capacity and of each batch, guaranteed: 0 to 1
};

struct StoreSettings {
  std::filesystem::path directory;  // made when it is missing (its parent must exist)
  std::string agent;                // another one than the store was made for: undelivered records move to a new epoch
  std::uint64_t capacity_bytes = std::uint64_t{1} << 30;  // of data.mdb and journal together
  std::uint64_t journal_bytes = std::uint64_t{16} << 20;  // at most a quarter of the capacity; kept as it was made
  std::size_t max_record_bytes = std::size_t{1} << 20;
  int compression_level = 1;  // zstd; 0 = off
  WhenFull when_full = WhenFull::evict_oldest;
  std::vector<LaneSettings> lanes = {{"telemetry", 0}};
  std::function<void()> progress;  // called now and then while open() repairs; may be empty
};

/// A record as it lies in the store.
struct StoredRecord {
  Lane lane{};
  Sequence sequence;
  Epoch epoch;
  Boot boot;  // the boot in which record.boottime was read
  Record record;
};

/// A range that was given up, as it goes to Kafka. Without a range (never numbered): first = last = 0.
struct Gap {
  std::uint64_t entry = 0;  // its number in the ledger
  Lane lane{};
  Epoch epoch;
  Sequence first, last;
  std::uint64_t count = 0;
  Cause cause = Cause::evicted;
  WallTime time{};
};

/// What one transaction carries: taken from one snapshot of the store.
struct Batch {
  std::vector<StoredRecord> records;  // per lane in sequence order
  std::vector<Gap> gaps;              // none of their ranges overlaps `records`
  Checkpoint base;                    // delivered and ledger only: what Kafka is known to hold, whatever was sent since
  Checkpoint after;                   // what Kafka holds once the batch is in
  bool more = false;                  // the limits ended it: there is a backlog behind it
  bool islands = false;               // Kafka is known to hold something beyond `after` (agent/forward/landed.h)
  bool empty() const { return records.empty() && gaps.empty(); }
};

/// A record that Kafka refuses for good: kept aside until somebody retries or discards it.
struct DeadLetter {
  StoredRecord stored;
  std::string reason;
  WallTime time{};       // when it was set aside
  bool damaged = false;  // stored.record and boot could not be read
  DeadLetterId id() const { return {stored.epoch, stored.lane, stored.sequence}; }
};

/// What became of the dead letters that were named.
struct DeadLettersDone {
  std::uint64_t done = 0;
  std::vector<DeadLetterId> missing;  // there is none of that name (any more)
  std::vector<DeadLetterId> damaged;  // cannot be read, so not retried; may be discarded
  std::string no_room;                // why the rest was left as it was; empty: there is no rest
};

struct BatchLimits {
  std::size_t records = 50'000;
  std::size_t bytes = std::size_t{8} << 20;  // of Record::bytes()
  std::set<Lane> without = {};               // nothing of these lanes
};

/// Marks and sizes of one lane, for status and metrics.
struct LaneStatus {
  Lane lane{};
  std::string name;
  int priority = 0;
  Sequence dropped, delivered, durable, last;
  std::uint64_t records = 0;  // undelivered: durable - max(delivered, dropped)
};

struct StoreStatus {
  std::vector<LaneStatus> lanes;
  Epoch epoch;
  Run run;
  std::uint64_t page_bytes = 0, used_pages = 0, free_pages = 0, capacity_pages = 0;
  std::uint64_t journal_bytes = 0, journal_used_bytes = 0;
  std::uint64_t commits = 0, seals = 0;                   // since open; of the commits, those that wrote LMDB
  std::uint64_t frames_lost = 0;                          // of the journal, found damaged when it was opened
  bool journal_cut_off = false;                           // it was missing, or too short, when it was opened
  std::uint64_t ledger_entries = 0;                       // not yet in Kafka
  std::uint64_t dead_letters = 0, dead_letter_pages = 0;  // pages: values, each of which takes one at most
  std::vector<std::pair<Cause, std::uint64_t>> given_up;  // since open, per cause, in records
};

class Store {
 public:
  /// Opens or creates; a damaged one is mended first (buffer/mend.h) and mended() says so. `rejected`: another format,
  /// word size, permission or lock; nothing was touched, the text says why. `full`: no room to mend it, or to begin.
  /// `broken`: the disk cannot be used.
  static Result<std::unique_ptr<Store>> open(const StoreSettings& settings, const Clock& clock);
  /// Orderly end: what is not delivered moves from the journal into LMDB as long as there is room, so that the next open
  /// has less to read. Gives up nothing, never throws, never needed for correctness.
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // --- the writer

  /// Numbers and stores the groups in order, with their state changes and refusals and what was marked delivered since.
  /// `full`: by the policy `block` nothing was taken, try again later. `broken`: end the process. Under reject_newest the
  /// records that did not fit are in the ledger; but of groups that come again nothing was done, and `left` has their
  /// places in `groups`, in order. `groups` may be empty: then what is delivered is deleted, too.
  Result<void> commit(std::span<const Group> groups, std::vector<std::size_t>* left = nullptr);
  /// Acts on a Settlement: raises delivered, and with `fork` draws the new epoch, in one durable commit.
  Result<void> settle(const Settlement& settlement);
  /// Kafka refuses the record for good: in one commit a copy becomes a dead letter and its sequence a gap, so that read()
  /// never gives it as a record again. Done already: nothing. `rejected`: there is no such record that is undelivered.
  /// Dead letters have at most a twentieth of the capacity: the oldest make room, and one that finds none is not kept;
  /// either is told by a count of its own cause.
  Result<void> set_aside(Lane lane, Sequence sequence, const std::string& reason);
  /// Each becomes a new record of its lane, with a header kRetryOf, in the commit that removes the dead letter. It is as
  /// old as it was. No room for one ends it, and those before it are done.
  Result<DeadLettersDone> retry(std::span<const DeadLetterId> ids);
  /// Each is removed, and told by a count of its own cause (`discarded`) in the same commit.
  Result<DeadLettersDone> discard(std::span<const DeadLetterId> ids);
  /// Writes zeros where data.mdb has not been yet, at most `most_bytes` of them: overwriting costs one flush a commit,
  /// growing two and six times the bytes. To be called between commits, at the caller's pace, until it says false:
  /// the file has its full size, or the disk would have less than a tenth or 64 MiB left.
  Result<bool> prewrite_step(std::uint64_t most_bytes = std::uint64_t{1} << 20);
  /// True if a commit with no groups would do something: marks to keep, delivered blocks to delete, records too old.
  bool wants_commit() const;

  // --- any thread

  /// The undelivered and durable records after the delivered marks, lanes by priority, and the gaps among them.
  /// Empty when there is nothing. A damaged block becomes a gap (cause damaged) with the writer's next commit.
  /// With `sent`, the `after` of an earlier batch, what follows that one.
  Result<Batch> read(const BatchLimits& limits, const Checkpoint* sent = nullptr) const;
  /// Kafka has all up to `after`, of a batch: raises the delivered marks. In RAM at once; on disk with the next commit.
  void delivered(const Checkpoint& after);

  /// For a person who looks: the durable records of a lane that Kafka does not have, from `from` on, in order, at most
  /// so many and at least one if there is any. What is damaged or missing is passed over; nothing is changed.
  Result<std::vector<StoredRecord>> peek(Lane lane, Sequence from, const BatchLimits& limits) const;
  /// Dead letters in the order of their names, those after `after`; at most so many and at least one if there is any.
  Result<std::vector<DeadLetter>> dead_letters(const std::optional<DeadLetterId>& after,
                                               const BatchLimits& limits) const;
  /// The whole ledger: what was given up and is not known to be in Kafka. It has one row for each range and cause.
  std::vector<Gap> gaps() const;

  /// Rises with every commit; its value is the number of the last one.
  Watermark& durable();

  /// What open() had to do to a damaged or suspect store.
  const std::optional<Mended>& mended() const;
  History history() const;
  StoreStatus status() const;
  std::optional<Lane> lane(std::string_view name) const;
  std::string name_of(Lane lane) const;

  /// What a driver remembered. Names come without the driver's.
  Result<std::optional<std::string>> state(std::string_view driver, std::string_view name) const;
  Result<std::vector<std::pair<std::string, std::string>>> states(std::string_view driver,
                                                                  std::string_view prefix) const;

 private:
  struct Inside;
  explicit Store(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

}  // namespace penstock
