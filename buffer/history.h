// History: which runs and epochs a store has lived through, and what a checkpoint read from Kafka says about it.
//
// A run is one open of the store; a store that was copied or restored shares its first runs with its twin and none
// after. So two chains of runs tell how far two stores are the same store: up to the end of their longest common
// prefix. Plain values and pure functions; no threads, no disk.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "buffer/identity.h"

namespace penstock {

/// Per lane name, the last sequence of something. A lane that is missing is at 0.
using Positions = std::map<std::string, Sequence>;
Sequence at(const Positions& positions, const std::string& lane);

/// XXH3-128 of a checkpoint's content: the same digest means that nobody has written one since.
using Digest = Id<struct DigestTag>;

struct RunEntry {
  Run run;
  Epoch epoch;      // the newest epoch when the run began
  Positions first;  // per lane, the first sequence this run could number
  bool operator==(const RunEntry&) const = default;
};

struct EpochEntry {
  Epoch epoch;
  Positions first;     // per lane, the first sequence that belongs to it; a lane that is missing: 1
  Digest forked_from;  // the newest run of the checkpoint that made us fork; none for the first epoch and a changed
                       // agent id
  bool operator==(const EpochEntry&) const = default;
};

/// Written to Kafka in the transaction of the data it speaks of.
struct Checkpoint {
  Epoch epoch;                 // the newest epoch of the store that wrote it
  std::vector<RunEntry> runs;  // oldest first; the newest 32 that numbered anything up to `delivered`
  Positions delivered;         // per lane, the last sequence up to which Kafka holds everything (or a gap record)
  std::uint64_t ledger = 0;    // the number of the last ledger entry sent as a gap record
  Run writer{};                // the newest run on the disk of the store that wrote it; zero: it does not say
  Positions sent{};            // per lane, up to where readers may have seen records, where that is beyond `delivered`
  bool operator==(const Checkpoint&) const = default;
};
inline constexpr std::size_t kCheckpointRuns = 32;
Digest digest_of(const Checkpoint& checkpoint);

/// What this store knows of itself.
struct History {
  std::vector<EpochEntry> epochs;  // oldest first, never empty
  std::vector<RunEntry> runs;      // oldest first; the last one is the present run
  Positions last;                  // per lane, the last sequence numbered
  Positions delivered;             // per lane, what we know Kafka to have

  /// The epoch a record belongs to: that of the newest entry that begins at or before it.
  const Epoch& epoch_of(const std::string& lane, Sequence sequence) const;
};

/// a is at or beyond b in every lane.
bool reaches(const Positions& a, const Positions& b);

/// The runs that numbered anything up to `delivered`: the newest kCheckpointRuns of them, oldest first.
std::vector<RunEntry> runs_up_to(const History& history, const Positions& delivered);

/// A checkpoint that continues this store: its epoch and newest run are known here, and it covers nothing beyond that
/// run's end here. One without runs says nothing against it.
bool ours(const History& history, const Checkpoint& checkpoint);

/// Stronger, and only advice: no other living copy of this store can have written it. A copy that sends what both have in
/// common writes checkpoints that are ours in all but `writer`. The one that made us fork before is as good as our own:
/// nobody has written one since.
bool written_here(const History& history, const Checkpoint& checkpoint);

/// What to do about a checkpoint.
struct Settlement {
  Positions delivered;             // go on after these
  bool fork = false;               // everything above `delivered` belongs to a new epoch from now on
  Digest forked_from;              // with fork: of the checkpoint
  bool checkpoint_behind = false;  // ours is ahead of Kafka's (or Kafka has none): worth a warning
  std::uint64_t ledger = 0;        // ledger entries up to this number are in Kafka
  std::string why;                 // in words, for the log; empty when there is nothing to say
};

/// `checkpoint` absent: Kafka has none for this agent. The rules are those of docs/guarantees.md, "Forks".
Settlement settle(const History& history, const std::optional<Checkpoint>& checkpoint);

}  // namespace penstock
