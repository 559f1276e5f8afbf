// What a Store is made of; seen by the store_*.cpp files only.
//
// State is what has been published: any thread reads it under `mutex`. Only the writer changes it, except for what
// readers tell the writer (delivered, struck, suspects, close_wanted). A commit works on a Draft; when LMDB has taken
// it, the draft is published. So a commit that fails has changed nothing.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "buffer/block.h"
#include "buffer/database.h"
#include "buffer/ledger.h"
#include "buffer/manifest.h"
#include "buffer/mend.h"
#include "buffer/meta.h"
#include "buffer/packer.h"
#include "buffer/store.h"
#include "buffer/walk.h"

namespace penstock {

/// A lane that is in the store but not in the settings: served last, evicted first.
inline constexpr int kLowestPriority = 1'000'000;

struct LaneState {
  std::string name;
  int priority = kLowestPriority;
  Marks marks;
  Sequence durable;           // of marks.last, as of the last durable commit
  Sequence stored_delivered;  // marks.delivered as it is on disk
};

/// Somewhere at `sequence` a block is damaged or missing; the writer looks again before it believes it.
struct Suspect {
  Lane lane{};
  Sequence sequence;
  auto operator<=>(const Suspect&) const = default;
};

using GivenUp = std::array<std::uint64_t, 7>;  // by cause

struct State {
  std::vector<LaneState> lanes;  // the index is the lane's number
  Ledger ledger;
  std::vector<EpochEntry> epochs;
  std::vector<RunEntry> runs;   // as on disk, and the present one at the end
  std::uint32_t first_run = 0;  // the number on disk of runs.front()
  bool run_stored = false;      // the present run is on disk
  std::uint64_t snapshot = 0;   // of LMDB, which this state describes
  std::uint64_t committed = 0, syncs = 0;
  GivenUp given_up{};
  bool more_to_delete = false;  // delivered blocks were left for the next commit

  // what readers tell the writer
  std::set<std::uint64_t> struck;  // ledger entries without a range that are in Kafka
  std::uint64_t ledger_sent = 0;   // the highest of them, ever
  std::uint64_t close_wanted = 0;  // entries up to here are wanted by a reader: they must stop growing
  std::uint64_t closed = 0;        // ...and have
  std::set<Suspect> suspects;

  History history() const;
};

struct Draft {
  std::uint64_t commit = 0;
  WallTime now{};
  std::vector<Marks> marks;
  Ledger ledger;
  std::vector<Row> rows;                                                    // blocks
  std::vector<std::pair<std::string, std::optional<std::string>>> changes;  // of small rows, in order; no value: erased
  GivenUp given_up{};
  std::set<Suspect> suspects;      // taken up
  std::set<std::uint64_t> struck;  // taken up
  std::set<Lane> closing;          // lanes whose open block ends with this commit
  std::vector<Lane> packed;        // lanes whose packer waits for accept()
  std::optional<EpochEntry> fork;
  std::uint32_t forget_runs = 0;  // this many of the oldest
  bool store_run = false;
  bool more_to_delete = false;
};

enum class Outcome { done, no_room, broken };

/// What makes a well-formed block the right one at its place.
bool belongs(const BlockHeader& header, Lane lane, Sequence first, const std::vector<EpochEntry>& epochs);

struct Store::Inside {
  Inside(StoreDirectory held, const StoreSettings& with, const Clock& time)
      : directory(std::move(held)), settings(with), clock(time) {}

  // store_open.cpp
  static Result<std::unique_ptr<Inside>> open(const StoreSettings& settings, const Clock& clock);
  Result<void> make_store(Manifest& manifest);
  Result<void> open_environment(std::uint64_t capacity);
  Result<void> load();
  Result<void> load_marks(Transaction& transaction);
  Result<void> enter();

  Error failed() const;

  // store_mend.cpp
  /// True when there is a store; damage has been mended.
  Result<bool> look();
  /// Of what LMDB answered: damage is written down for the next open.
  Error distrust(DatabaseCode code, std::string what) const;

  // store_write.cpp: the writer
  Result<void> check(std::span<const Group> groups) const;
  Result<void> commit(std::span<const Group> groups);
  Result<void> settle(const Settlement& settlement);
  Result<void> sync();
  Draft begin_draft();
  void take_in(std::span<const Group> groups, const std::vector<std::optional<Cause>>& fates, Draft& draft);
  void give_up(Draft& draft, Lane lane, Sequence first, Sequence last, Cause cause);
  void count_refused(Draft& draft, Lane lane, Cause cause, std::uint64_t count);

  // store_commit.cpp: one LMDB transaction
  Outcome write(Draft& draft);
  Outcome finish(Transaction& transaction, Draft& draft);
  void put_rows(Transaction& transaction, const Draft& draft);
  void delete_delivered(Transaction& transaction, Draft& draft);
  void examine(Transaction& transaction, Draft& draft);
  bool examine_block(Transaction& transaction, Draft& draft, const Suspect& suspect, const BlockSpan& span,
                     Sequence end);
  void prune_runs(Transaction& transaction, Draft& draft);
  void publish(Draft& draft, bool written, std::uint64_t snapshot);

  // store_room.cpp: fullness
  std::uint64_t reserve_pages() const;
  std::uint64_t available_pages() const;  // above the reserve
  double pages_for(const Group& group) const;
  /// Per group: nothing = it is taken, or the cause for which its records are given up. `full`: wait.
  Result<std::vector<std::optional<Cause>>> make_room(std::span<const Group> groups, std::uint64_t at_least);
  bool evict();
  Outcome evict_pages(std::uint64_t pages, bool* any);
  std::optional<Lane> next_victim(Transaction& transaction, const Draft& draft) const;
  bool let_pages_ripen();
  bool empty() const;
  bool can_delete() const;
  bool disk_is_full(DatabaseCode code) const;

  // store_prewrite.cpp
  Result<bool> prewrite_step(std::uint64_t most_bytes);

  // store_read.cpp: any thread
  Result<Batch> read(const BatchLimits& limits);
  void delivered(const Batch& batch);

  const StoreDirectory directory;
  const StoreSettings settings;
  const Clock& clock;
  std::optional<Mended> mended;
  std::unique_ptr<Environment> environment;

  mutable std::mutex mutex;
  State state;
  Watermark durable;

  // the writer's own
  std::unique_ptr<BlockCoder> coder;
  std::vector<Packer> packers;  // by lane number
  BlockReader examiner;
  std::string failure;  // why it is broken; empty: it is not

  // read()'s own, under read_mutex
  std::mutex read_mutex;
  BlockReader reader;
};

}  // namespace penstock
