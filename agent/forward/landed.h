// Landed: of what lies above a destination's checkpoint, what it holds all the same. A transaction that Kafka carried out
// in part leaves such islands (agent/kafka/kafka_sink.h); what is in them is not sent again.
//
// A plain value, about 100 bytes for each island; one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "buffer/history.h"
#include "buffer/store.h"

namespace penstock {

class Landed {
 public:
  using LaneNames = std::function<std::string(Lane)>;

  bool empty() const { return ranges_.empty() && counts_.empty(); }

  /// first..last of a lane are there: as records, or accounted for by a gap record.
  void add(const Epoch& epoch, const std::string& lane, Sequence first, Sequence last);
  /// A gap record without a range is there, by its number in the ledger.
  void add_count(const Epoch& epoch, std::uint64_t entry);

  bool has(const Epoch& epoch, const std::string& lane, Sequence sequence) const;

  /// Takes out of the batch what is there; of a gap, what is left of its range. `batch.after` stays: once the rest is in,
  /// all up to it is.
  void strike(Batch& batch, const LaneNames& name_of) const;

  /// Forgets what no record of this store can be: another epoch's, or beyond its last sequence.
  void keep(const History& ours);
  /// Something of it lies beyond.
  bool beyond(const Checkpoint& after) const;

  /// The last sequence up to which all that follows `from` is there without a hole, but not beyond `most`.
  Sequence reaches(const Epoch& epoch, const std::string& lane, Sequence from, Sequence most) const;

 private:
  using Ranges = std::map<std::uint64_t, std::uint64_t>;  // first -> last, apart from each other
  const Ranges* of(const Epoch& epoch, const std::string& lane) const;

  std::map<std::pair<Epoch, std::string>, Ranges> ranges_;
  std::set<std::pair<Epoch, std::uint64_t>> counts_;
};

}  // namespace penstock
