// Window: where lies what we have written to Kafka and have no proof of: for each partition, the offset from which on.
//
// Every checkpoint carries the window as it will be with the transaction the checkpoint belongs to. So whoever reads the
// newest one, even one that was aborted, knows where to look for what became of the last transactions: docs/formats.md.
//
// A plain value, in RAM only; one thread. A crash loses it, and the newest checkpoint in Kafka has it.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "buffer/history.h"

namespace penstock {

using TopicPartition = std::pair<std::string, std::int32_t>;
using Offsets = std::map<TopicPartition, std::int64_t>;

/// As a checkpoint carries it.
struct WindowNote {
  Positions delivered;       // all up to here is proven to be there,
  std::uint64_t ledger = 0;  // and all up to this ledger entry;
  Offsets since;             // and what of the rest is there lies in these partitions, not before these offsets
  bool operator==(const WindowNote&) const = default;
};

class Window {
 public:
  /// After Kafka was asked. `since`: islands of what was sent before are there, from there on.
  void begin(Offsets since);

  /// Before the first write to a partition: nothing undecided of ours lies before `end`.
  void clean(const TopicPartition& partition, std::int64_t end);
  bool is_clean(const TopicPartition& partition) const { return next_.count(partition) != 0; }

  /// For the checkpoint of a transaction that will write to these, all of them clean, and goes on from `base`.
  WindowNote note(const Checkpoint& base, const std::vector<TopicPartition>& writes) const;

  /// The transaction of such a note is committed, by Kafka's word. `last`: the offset written last, per partition; a
  /// partition that was never clean, that of the checkpoints, is part of the proof and not of notes. `islands`: some of
  /// those of begin() lie beyond `after`.
  void committed(const Checkpoint& after, bool islands, const Offsets& last);
  bool unproven() const { return !marks_.empty(); }

  /// Whose last stable offsets tell more.
  std::vector<TopicPartition> asked() const;
  /// All transactions before these offsets are decided. The `after` of the newest one that is proven by it, if any is.
  std::optional<Checkpoint> prove(const Offsets& stable);

 private:
  struct Mark {
    Checkpoint after;
    bool islands = false;
    Offsets from, last;  // of its writes; from: not behind the first
  };

  Offsets carried_;  // from earlier lives, until there is proof of all up to the last island
  Offsets next_;     // where our next write will lie, at the least
  std::deque<Mark> marks_;
};

}  // namespace penstock
