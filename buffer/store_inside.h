// What a Store is made of; seen by the store_*.cpp files only.
//
// State is what has been published: any thread reads it under `mutex`. Only the writer changes it, except for what
// readers tell the writer (delivered, struck, suspects, close_wanted). A commit works on a Draft; when the disk has it,
// the draft is published. So a commit that fails has changed nothing.
//
// A draft reaches the disk in one of two ways. As a frame of the journal: one write, one flush. Or as a transaction of
// LMDB, when the journal needs room, something must be deleted or evicted, or it is too large for a frame. Every
// transaction brings all small rows up to date with the newest frame, and the records up to some frame (`sealed`); it is
// on disk before anything else happens. So LMDB is always the state as of some frame, and the frames after it the rest.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "buffer/block.h"
#include "buffer/database.h"
#include "buffer/frame.h"
#include "buffer/journal.h"
#include "buffer/ledger.h"
#include "buffer/manifest.h"
#include "buffer/mend.h"
#include "buffer/meta.h"
#include "buffer/packer.h"
#include "buffer/store.h"
#include "buffer/walk.h"

namespace penstock {

/// Pages that a transaction may need besides its blocks: tree, free list, small rows.
inline constexpr std::uint64_t kOverheadPages = 8;

/// A lane that is in the store but not in the settings: served last, evicted first.
inline constexpr int kLowestPriority = 1'000'000;

struct LaneState {
  std::string name;
  int priority = kLowestPriority;
  std::chrono::milliseconds max_age{};
  double share = 0;
  Marks marks;
  Sequence stored_delivered;  // marks.delivered as it is on disk
  Sequence sealed;            // the last sequence that is not in the journal: in LMDB, or in neither any more
  Sequence first_block;       // of the first block in LMDB; 0: it has none
  Sequence tried;             // marks.delivered when delivered blocks were last deleted
  std::int64_t pages = 0;     // of LMDB, that its blocks fill; counted only when a lane has a share
  BootTime look_again{};      // for records that are too old, not before
};

/// The records of a lane in one frame of the journal that is not sealed.
struct Unsealed {
  Sequence first, last;
  FramePlace place;
};

/// Somewhere at `sequence` a block is damaged or missing; the writer looks again before it believes it.
struct Suspect {
  Lane lane{};
  Sequence sequence;
  auto operator<=>(const Suspect&) const = default;
};

using GivenUp = std::array<std::uint64_t, std::size(kCauses) + 1>;  // by cause

struct DeadLetterTotals {
  std::uint64_t count = 0, pages = 0;  // pages: values, each of which takes one at most
  std::uint64_t last_number = 0;
};

struct State {
  std::vector<LaneState> lanes;  // the index is the lane's number
  Ledger ledger;
  std::vector<EpochEntry> epochs;
  std::vector<RunEntry> runs;   // as on disk, and the present one at the end
  std::uint32_t first_run = 0;  // the number on disk of runs.front()
  bool run_stored = false;      // the present run is on disk
  std::uint64_t snapshot = 0;   // of LMDB, which this state describes
  std::uint64_t committed = 0;  // frames and transactions since the store was opened
  std::uint64_t seals = 0;      // ...of them transactions
  std::uint64_t journal_used = 0, frames_lost = 0;
  bool journal_cut_off = false;
  GivenUp given_up{};
  bool more_to_delete = false;  // delivered blocks were left for the next commit
  DeadLetterTotals dead_letters;

  // what readers tell the writer
  std::set<std::uint64_t> struck;  // ledger entries without a range that are in Kafka
  std::uint64_t ledger_sent = 0;   // the highest of them, ever
  std::uint64_t close_wanted = 0;  // entries up to here are wanted by a reader: they must stop growing
  std::uint64_t closed = 0;        // ...and have
  std::set<Suspect> suspects;

  History history() const;
  void raise_delivered(const Checkpoint& after);
};

struct Draft {
  WallTime now{};
  std::vector<Marks> marks;
  Ledger ledger;
  struct New {
    Sequence first;
    std::vector<const Record*> records;
  };
  std::vector<New> records;       // by lane
  std::vector<std::size_t> left;  // of the groups, those that come again
  BlockStamp stamp;               // of theirs; the lane is each one's
  std::vector<Row> blocks;        // for LMDB
  Rows changes;                   // of small rows, besides what follows from the rest
  Rows letters;                   // dead letters, put and erased; only ever by a transaction of LMDB
  DeadLetterTotals dead_letters;
  std::vector<Sequence> sealed;  // by lane, as in LaneState
  std::uint64_t sealed_frame = 0;
  std::vector<Sequence> first_block;  // by lane, as in LaneState
  std::vector<std::int64_t> pages;    // by lane, as in LaneState
  GivenUp given_up{};
  std::set<Suspect> suspects;      // taken up
  std::set<std::uint64_t> struck;  // taken up
  std::set<Lane> closing;          // lanes whose open block ends with this commit
  std::vector<Lane> packed;        // lanes whose packer waits for accept()
  std::optional<EpochEntry> fork;
  std::uint32_t forget_runs = 0;  // this many of the oldest
  bool store_run = false;
  bool expires = false;         // what is too old is looked for...
  bool more_to_expire = false;  // ...and not all of it was taken
  bool deleted = false;         // of what is delivered, all that could be...
  bool more_to_delete = false;  // ...but for this
};

/// What one step of sealing takes out of the journal.
struct Chunk {
  std::vector<std::vector<Record>> records;  // by lane
  std::size_t raw_bytes = 0, frames = 0;
  std::uint64_t upto = 0;  // the last frame of which nothing is left
};

/// Dead letters that are read and whole, of one boot: what one commit of retry() takes.
struct Retry {
  Boot boot;
  std::vector<Group> groups;  // a lane's each
  Rows erased;
  std::uint64_t count = 0, pages = 0;
};

enum class Outcome { done, no_room, broken };

/// Every small row but the drivers' states, as LMDB and the journal together have them.
using SmallRows = std::map<std::string, std::string>;

/// What makes a well-formed block the right one at its place.
bool belongs(const BlockHeader& header, Lane lane, Sequence first, const std::vector<EpochEntry>& epochs);

struct Store::Inside {
  Inside(StoreDirectory held, const StoreSettings& with, const Clock& time)
      : directory(std::move(held)), settings(with), clock(time) {}

  // store_open.cpp
  static Result<std::unique_ptr<Inside>> open(const StoreSettings& settings, const Clock& clock);
  Result<void> make_store();
  Result<void> open_store();
  Result<void> open_files(const Manifest& manifest);
  Result<void> load(const SmallRows& rows);
  Result<void> load_marks(const SmallRows& rows);
  Result<void> load_runs_and_ledger(const SmallRows& rows);
  Result<void> enter();

  // store_replay.cpp: what an earlier life left
  Result<SmallRows> replay();
  void place_frames();

  Error failed() const;

  // store_mend.cpp
  /// True when there is a store; damage has been mended.
  Result<bool> look();
  /// Of what LMDB answered: damage is written down for the next open.
  Error distrust(DatabaseCode code, std::string what) const;

  // store_write.cpp: the writer
  Result<void> check(std::span<const Group> groups) const;
  Result<void> commit(std::span<const Group> groups, std::vector<std::size_t>& left);
  Result<void> tend(bool idle);
  Result<void> commit_directly(std::span<const Group> groups, std::vector<std::size_t>& left,
                               const Retry* retry = nullptr);
  Result<void> settle(const Settlement& settlement);
  Draft begin_draft();
  void take_in(std::span<const Group> groups, const std::vector<std::optional<Cause>>& fates, Draft& draft);
  void give_up(Draft& draft, Lane lane, Sequence first, Sequence last, Cause cause);
  void count_refused(Draft& draft, Lane lane, Cause cause, std::uint64_t count);

  // store_commit.cpp: a draft as a frame of the journal, or as a transaction of LMDB
  FrameContent frame_of(const Draft& draft) const;
  Outcome append(Draft& draft, const FrameContent& content);
  void pack(Draft& draft);
  Outcome write(Draft& draft);
  Outcome finish(Transaction& transaction, Draft& draft);
  Rows rows_of(const Draft& draft) const;
  void delete_delivered(Transaction& transaction, Draft& draft);
  void erase(Transaction& transaction, Draft& draft, Lane lane, const BlockSpan& span);
  void prune_runs(Draft& draft) const;
  void publish(Draft& draft, const FramePlace* frame, std::uint64_t snapshot);

  // store_seal.cpp: from the journal into LMDB
  enum class MayEvict { no, yes };
  /// Of the oldest frames as much as one transaction should hold.
  Outcome seal_step(MayEvict may_evict = MayEvict::yes);
  Outcome seal_everything(MayEvict may_evict = MayEvict::yes);
  Chunk gather(Draft& draft, std::size_t most_raw_bytes, const std::set<Lane>& sacrificed);
  bool take_frame(Draft& draft, std::uint64_t number, const std::set<Lane>& sacrificed, Chunk& chunk,
                  std::vector<std::size_t>& next);
  bool unpack(const FrameHeader& header, Lane lane, Sequence from, std::vector<Record>& records);
  std::optional<Lane> lowest(const Chunk& chunk) const;
  bool deletes_are_due() const;

  // store_expire.cpp: what is too old
  bool expiry_is_due() const;
  void expire(Transaction& transaction, Draft& draft);
  bool expire_blocks(Transaction& transaction, Draft& draft, Lane lane, std::size_t& left);
  void expire_frames(Draft& draft, Lane lane, std::size_t& left);
  bool none_too_old(const Boot& boot, BootTime base, std::chrono::milliseconds max_age) const;
  bool all_too_old(const Boot& boot, std::chrono::milliseconds max_age);

  // store_examine.cpp: what readers found damaged
  void examine(Transaction& transaction, Draft& draft);
  void examine_block(Transaction& transaction, Draft& draft, const Suspect& suspect, const BlockSpan& span,
                     Sequence end);
  void examine_journal(Draft& draft, const Suspect& suspect);

  // store_room.cpp: fullness of LMDB
  std::uint64_t reserve_pages() const;
  std::uint64_t pages_on_disk() const;
  std::string fullness() const;
  std::uint64_t free_pages(std::uint64_t kept, std::uint64_t wanted);
  std::uint64_t available_pages(std::uint64_t wanted);  // above the reserve
  bool has_room_for(const Draft& draft);
  double pages_for(const Group& group) const;
  /// Per group: nothing = it is taken, or the cause for which its records are given up. `full`: wait.
  Result<std::vector<std::optional<Cause>>> make_room(std::span<const Group> groups, std::uint64_t at_least);
  bool evict();
  bool is_guarded(const Draft& draft, Lane lane) const;
  Outcome evict_pages(std::uint64_t pages, bool* any);
  std::optional<Lane> next_victim(Transaction& transaction, const Draft& draft) const;
  bool let_pages_ripen();
  bool empty() const;
  bool can_delete() const;
  bool disk_is_full(DatabaseCode code) const;

  // store_dead_letters.cpp
  std::uint64_t most_dead_letter_pages() const;
  Result<void> set_aside(const StoredRecord& stored, const std::string& reason);
  Outcome try_set_aside(const StoredRecord& stored, const std::string& reason, std::span<std::string> pieces);
  /// False: there is none.
  bool take_out(Transaction& transaction, Draft& draft, const DeadLetterId& id);
  void evict_dead_letters(Transaction& transaction, Draft& draft, std::uint64_t most_pages);
  Outcome trim_dead_letters(std::uint64_t most_pages);
  Result<DeadLettersDone> retry(std::span<const DeadLetterId> ids);
  Result<DeadLettersDone> discard(std::span<const DeadLetterId> ids);

  // store_prewrite.cpp
  /// Leaves the disk at least `keep_free_bytes` and a tenth; 0: nothing need be left.
  Result<bool> prewrite_step(std::uint64_t most_bytes, std::uint64_t keep_free_bytes);

  // store_read.cpp: any thread
  Result<Batch> read(const BatchLimits& limits, const Checkpoint* sent);
  void delivered(const Checkpoint& after);

  const StoreDirectory directory;
  const StoreSettings settings;
  const Clock& clock;
  std::optional<Mended> mended;
  std::unique_ptr<Environment> environment;
  std::unique_ptr<Journal> journal;
  std::uint64_t journal_seed = 0;
  std::vector<Journal::Found> recovered;  // frames of an earlier life, until they are in their places

  mutable std::mutex mutex;
  State state;
  std::vector<std::deque<Unsealed>> unsealed;                 // by lane, oldest first
  std::map<std::string, std::optional<std::string>> overlay;  // small rows that are newer than LMDB's
  Watermark durable;

  // the writer's own
  std::unique_ptr<BlockCoder> coder;
  std::unique_ptr<FrameCoder> frame_coder;
  std::unique_ptr<FrameReader> frame_examiner;
  std::vector<Packer> packers;  // by lane number
  BlockReader examiner;
  std::uint64_t sealed_frame = 0;   // LMDB has the records up to this frame
  std::uint64_t seal_again_at = 0;  // sealing found no room: not before so many bytes of the journal are in use
  std::string refusal;              // what LMDB answered when it last had no room
  std::string failure;              // why it is broken; empty: it is not

  // read()'s own, under read_mutex
  std::mutex read_mutex;
  BlockReader reader;
  std::unique_ptr<FrameReader> frame_reader;
};

}  // namespace penstock
