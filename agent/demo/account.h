// Account: the books of the demo. What the drivers handed over on one side, what the receiver read on the other, and
// at the end whether they agree.
//
// Each record handed over gets a number of its own (it travels as the header `demo_number`), and its content is kept as a
// checksum until it has arrived. On the other side a record is taken by the rule every consumer without read_committed
// needs (docs/formats.md): per partition, skip a sequence not above the last one seen of (agent, epoch, lane). So the
// books are kept twice: by the numbers given at the drivers' Outlets, which the queue knows nothing of, and by
// (epoch, lane, sequence), which covers the agent's own records too.
//
// Any thread may call anything. RAM grows with what is under way, never with what has arrived.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include "agent/kafka/sequence_bitmap.h"
#include "buffer/history.h"
#include "buffer/identity.h"

namespace penstock {

/// A checksum over all that must arrive as it was handed over. Means something in this process only.
std::uint64_t checksum_of(std::string_view driver, std::string_view stream, std::string_view content_type,
                          std::string_view payload);

struct Proof {
  std::uint64_t sent = 0;      // handed over by the drivers
  std::uint64_t received = 0;  // of these, arrived with the same content
  std::uint64_t lost = 0;      // never arrived, or a hole in the sequences
  std::uint64_t twice = 0;     // taken again although it had arrived before
  std::uint64_t changed = 0;   // arrived with another content
  std::uint64_t unknown = 0;   // taken, but handed over by nobody
  std::uint64_t repeats = 0;   // skipped by the per-partition rule
  std::uint64_t own = 0;       // the agent's own records (status, events), known by sequence only

  bool holds() const { return sent == received && lost == 0 && twice == 0 && changed == 0 && unknown == 0; }
  /// `proof: 7 sent, 7 received, 0 lost, 0 twice (...)`
  std::string line() const;
};

class Account {
 public:
  // --- the side of the drivers
  /// A record is about to be handed over: its number from now on. Before the call that does it, as it may arrive before
  /// that call returns.
  std::uint64_t enter(std::uint64_t checksum);
  /// It was not taken after all.
  void take_back(std::uint64_t number);

  // --- the side of the receiver
  struct Arrival {
    std::string_view topic;
    std::int32_t partition = 0;
    std::string_view agent;
    Epoch epoch;
    std::string_view lane;
    Sequence sequence;
    std::optional<std::uint64_t> number;  // none: one of the agent's own
    std::uint64_t checksum = 0;
  };
  enum class Verdict { received, own, repeat, twice, changed, unknown };
  Verdict arrive(const Arrival& arrival);
  /// A record without a name: not one of ours.
  void arrive_nameless();

  // --- both
  /// As the books stand, with what has not arrived as lost. `durable`: the last sequence of each lane in the store,
  /// whose agent and epoch these are.
  Proof proof(std::string_view agent, const Epoch& epoch, const Positions& durable) const;
  /// As the books stand, with nothing called lost yet.
  Proof so_far() const;

 private:
  enum class State : std::uint8_t { under_way, arrived, taken_back };
  struct Entry {
    std::uint64_t checksum;
    State state;
  };
  using Source = std::tuple<std::string, Epoch, std::string>;   // agent, epoch, lane
  using Place = std::tuple<std::string, std::int32_t, Source>;  // topic, partition
  Verdict match(std::uint64_t number, std::uint64_t checksum);
  void forget_settled();

  mutable std::mutex mutex_;
  std::deque<Entry> entries_;  // numbers first_, first_ + 1, ...; the first is always under way
  std::uint64_t first_ = 1;
  std::map<Place, Sequence> last_seen_;
  std::map<Source, SequenceBitmap> sequences_;
  Proof books_;  // without `lost`
};

}  // namespace penstock
