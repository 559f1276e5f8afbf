#include "agent/kafka/verifier.h"

#include <algorithm>

namespace penstock {
namespace {

constexpr std::size_t kRangesShown = 100;

/// What a checkpoint says of one epoch and lane: where it began and up to where everything of it must be there.
struct EpochSpan {
  std::optional<Sequence> first, last;
};

EpochSpan span_of(const Checkpoint& checkpoint, const Epoch& epoch, const std::string& lane) {
  EpochSpan span;
  bool known = checkpoint.epoch == epoch;
  if (known) span.last = at(checkpoint.delivered, lane);
  bool after = false;  // past the runs of this epoch
  for (const auto& run : checkpoint.runs) {
    auto first = run.first.find(lane);
    if (run.epoch == epoch) {
      known = true;
      if (first != run.first.end() && !span.first) span.first = first->second;
    } else if (known && !after && span.first) {
      // The next epoch took over where this one ended.
      after = true;
      if (!span.last && first != run.first.end()) span.last = first->second.previous();
    }
  }
  // Runs older than the oldest kept one may have begun this epoch: then it is not known where.
  bool cut = checkpoint.runs.size() >= kCheckpointRuns && checkpoint.runs.front().epoch == epoch;
  if (cut) span.first.reset();
  if (known && !cut && !span.first) span.first = Sequence(1);
  return span;
}

}  // namespace

bool ClusterProof::holds() const {
  return !lanes.empty() && without_checkpoint.empty() &&
         std::all_of(lanes.begin(), lanes.end(), [](const LaneProof& lane) { return lane.holds(); });
}

bool Verifier::wanted(const std::string& agent, const std::string& lane) const {
  auto chosen = [](const std::vector<std::string>& from, const std::string& name) {
    return from.empty() || std::find(from.begin(), from.end(), name) != from.end();
  };
  return chosen(settings_.agents, agent) && chosen(settings_.lanes, lane);
}

void Verifier::checkpoint(const std::string& agent, Checkpoint checkpoint) {
  for (const auto& [lane, last] : checkpoint.delivered) {
    // A lane that is delivered up to somewhere is judged even if not one record of it is seen.
    if (last != Sequence() && wanted(agent, lane)) lanes_.try_emplace({agent, checkpoint.epoch, lane});
  }
  checkpoints_[agent] = std::move(checkpoint);
}

void Verifier::record(std::string_view topic, std::int32_t partition, const RecordName& name) {
  if (!wanted(name.agent, name.lane)) return;
  Lane& lane = lanes_[{name.agent, name.epoch, name.lane}];
  auto& newest = lane.newest[std::string(topic) + '/' + std::to_string(partition)];
  if (!lane.seen.add(name.sequence)) {
    ++lane.doubled;
  } else if (name.sequence < newest) {
    ++lane.out_of_order;
  }
  newest = std::max(newest, name.sequence);
}

void Verifier::gap(const GapMessage& gap) {
  if (!wanted(gap.agent, gap.lane)) return;
  Lane& lane = lanes_[{gap.agent, gap.epoch, gap.lane}];
  if (gap.last == Sequence()) {
    lane.never_numbered += gap.count;
  } else {
    lane.given_up.add(gap.first, gap.last);
  }
}

LaneProof Verifier::prove_lane(const Key& key, const Lane& lane) const {
  const auto& [agent, epoch, name] = key;
  LaneProof proof;
  proof.agent = agent;
  proof.epoch = epoch;
  proof.lane = name;
  proof.first_seen = lane.seen.first();
  proof.last_seen = lane.seen.last();
  proof.records = lane.seen.size();
  proof.doubled = lane.doubled;
  proof.out_of_order = lane.out_of_order;
  proof.given_up = lane.given_up.size();
  proof.never_numbered = lane.never_numbered;
  proof.contradicted = SequenceBitmap::common(lane.seen, lane.given_up);

  // What is there in any form; it decides where nothing else says where to begin or end.
  Sequence lowest = lane.seen.first(), highest = std::max(lane.seen.last(), lane.given_up.last());
  if (lowest == Sequence() || (!lane.given_up.empty() && lane.given_up.first() < lowest))
    lowest = lane.given_up.first();
  proof.from = lowest;
  Sequence until = highest;
  if (auto found = checkpoints_.find(agent); found != checkpoints_.end()) {
    auto span = span_of(found->second, epoch, name);
    if (span.first && (!settings_.trimmed || lowest == Sequence())) proof.from = *span.first;
    if (span.last) proof.checkpoint = until = *span.last;
  }
  if (proof.from == Sequence()) proof.from = Sequence(1);
  proof.missing =
      SequenceBitmap::missing(lane.seen, lane.given_up, proof.from, until, kRangesShown, proof.missing_ranges);
  if (until < highest) {
    std::vector<SequenceBitmap::Range> none;
    auto absent = SequenceBitmap::missing(lane.seen, SequenceBitmap(), until.next(), highest, 0, none);
    proof.above = count_between(until.next(), highest) - absent;
  }
  return proof;
}

ClusterProof Verifier::prove() const {
  ClusterProof proof;
  proof.foreign = foreign_;
  for (const auto& [key, lane] : lanes_) {
    proof.lanes.push_back(prove_lane(key, lane));
    const auto& agent = std::get<0>(key);
    if (checkpoints_.count(agent) != 0) continue;
    auto& none = proof.without_checkpoint;
    if (std::find(none.begin(), none.end(), agent) == none.end()) none.push_back(agent);
  }
  return proof;
}

}  // namespace penstock
