#include "buffer/history.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace penstock {
namespace {

Positions max_of(const Positions& a, const Positions& b) {
  Positions result = a;
  for (const auto& [lane, sequence] : b) result[lane] = std::max(result[lane], sequence);
  return result;
}

Positions min_of(const Positions& a, const Positions& b) {
  Positions result;
  for (const auto& [lane, sequence] : a) result[lane] = std::min(sequence, at(b, lane));
  return result;
}

/// Up to where sequences may be in use.
Positions used(const Checkpoint& checkpoint) { return max_of(checkpoint.delivered, checkpoint.sent); }

/// Per lane, the last sequence of runs[index]: the one before the next run's first, else `last`. A lane that a later
/// run does not know had no records then.
Positions end_of(const std::vector<RunEntry>& runs, std::size_t index, const Positions& last) {
  Positions end = last;
  for (std::size_t later = index + 1; later < runs.size(); ++later) {
    for (auto& [lane, sequence] : end) {
      auto first = runs[later].first.find(lane);
      // A lane born after runs[later] began has no entry there: its records all belong to runs at or after that one.
      Sequence before = first == runs[later].first.end() ? Sequence() : first->second.previous();
      sequence = std::min(sequence, before);
    }
  }
  return end;
}

std::optional<std::size_t> index_of(const std::vector<RunEntry>& runs, const Run& run) {
  auto found = std::find_if(runs.begin(), runs.end(), [&](const RunEntry& entry) { return entry.run == run; });
  if (found == runs.end()) return std::nullopt;
  return static_cast<std::size_t>(found - runs.begin());
}

}  // namespace

Sequence at(const Positions& positions, const std::string& lane) {
  auto found = positions.find(lane);
  return found == positions.end() ? Sequence() : found->second;
}

Digest digest_of(const Checkpoint& checkpoint) {
  std::string text = checkpoint.epoch.hex() + std::to_string(checkpoint.ledger);
  auto add = [&](const Positions& positions) {
    for (const auto& [lane, sequence] : positions) text += ' ' + lane + '=' + std::to_string(sequence.value());
  };
  add(checkpoint.delivered);
  for (const auto& entry : checkpoint.runs) {
    text += '\n' + entry.run.hex() + entry.epoch.hex();
    add(entry.first);
  }
  if (checkpoint.writer != Run()) text += "\n" + checkpoint.writer.hex();
  XXH128_canonical_t hash;
  XXH128_canonicalFromHash(&hash, XXH3_128bits(text.data(), text.size()));
  Digest digest;
  std::memcpy(digest.bytes.data(), hash.digest, digest.bytes.size());
  return digest;
}

const Epoch& History::epoch_of(const std::string& lane, Sequence sequence) const {
  for (std::size_t i = epochs.size() - 1; i > 0; --i) {
    auto first = epochs[i].first.find(lane);
    if (first == epochs[i].first.end() || first->second <= sequence) return epochs[i].epoch;
  }
  return epochs.front().epoch;
}

bool reaches(const Positions& a, const Positions& b) {
  return std::all_of(b.begin(), b.end(), [&](const auto& entry) { return at(a, entry.first) >= entry.second; });
}

std::vector<RunEntry> runs_up_to(const History& history, const Positions& delivered) {
  std::vector<RunEntry> chosen;
  Positions end = history.last;  // of the run looked at, per lane
  for (std::size_t i = history.runs.size(); i-- > 0 && chosen.size() < kCheckpointRuns;) {
    const auto& run = history.runs[i];
    bool numbered = false;
    for (auto& [lane, last] : end) {
      auto first = run.first.find(lane);
      if (first == run.first.end()) {  // the lane was born later: all of it belongs to newer runs
        last = Sequence();
        continue;
      }
      numbered |= first->second <= last && first->second <= at(delivered, lane);
      last = std::min(last, first->second.previous());
    }
    if (numbered) chosen.push_back(run);
  }
  std::reverse(chosen.begin(), chosen.end());
  return chosen;
}

bool ours(const History& history, const Checkpoint& checkpoint) {
  if (checkpoint.runs.empty()) return true;
  // A copy may have sent nothing of its own runs yet and still have overwritten our checkpoint: its epoch betrays it.
  bool our_epoch = std::any_of(history.epochs.begin(), history.epochs.end(),
                               [&](const EpochEntry& entry) { return entry.epoch == checkpoint.epoch; });
  auto known = index_of(history.runs, checkpoint.runs.back().run);
  return our_epoch && known && reaches(end_of(history.runs, *known, history.last), used(checkpoint));
}

bool written_here(const History& history, const Checkpoint& checkpoint) {
  if (!history.epochs.empty() && history.epochs.back().forked_from == digest_of(checkpoint)) return true;
  return ours(history, checkpoint) && (checkpoint.writer == Run() || index_of(history.runs, checkpoint.writer));
}

Settlement settle(const History& history, const std::optional<Checkpoint>& checkpoint) {
  Settlement result;
  result.delivered = history.delivered;

  if (!checkpoint || checkpoint->runs.empty()) {
    result.checkpoint_behind = std::any_of(history.delivered.begin(), history.delivered.end(),
                                           [](const auto& e) { return e.second > Sequence(); });
    if (result.checkpoint_behind) result.why = "Kafka has no checkpoint of this agent: going on from our own marks";
    return result;
  }

  const auto& theirs = checkpoint->runs;
  if (ours(history, *checkpoint)) {
    // Our own checkpoint: the ordinary case.
    result.delivered = max_of(history.delivered, checkpoint->delivered);
    result.ledger = checkpoint->ledger;
    result.checkpoint_behind = !reaches(used(*checkpoint), history.delivered);
    if (result.checkpoint_behind)
      result.why = "the checkpoint in Kafka is older than our own marks: going on from our own";
    return result;
  }

  // A fork, unless it is the very checkpoint that made us fork before: then nobody has written one since, neither the
  // other copy nor we, and nothing of our present epoch can be in Kafka. (To know the run again would not be enough:
  // we may have committed in this epoch, died, and been overwritten by a later checkpoint of that same run.)
  Digest digest = digest_of(*checkpoint);
  if (!history.epochs.empty() && history.epochs.back().forked_from == digest) return result;

  result.fork = true;
  result.forked_from = digest;
  result.why = "the checkpoint in Kafka was written by another copy of this store (run " + theirs.back().run.hex() +
               "): what is undelivered moves to a new epoch";
  for (std::size_t i = theirs.size(); i-- > 0;) {
    auto common = index_of(history.runs, theirs[i].run);
    if (!common) continue;
    Positions last_common = min_of(end_of(history.runs, *common, history.last), end_of(theirs, i, used(*checkpoint)));
    result.delivered = max_of(history.delivered, min_of(checkpoint->delivered, last_common));
    break;
  }
  return result;
}

}  // namespace penstock
