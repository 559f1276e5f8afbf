#include "agent/kafka/verifier.h"

#include <algorithm>

namespace penstock {
namespace {

constexpr std::size_t kRangesShown = 100;

/// What a checkpoint says of one epoch and lane: where it began and up to where everything of it must be there.
struct EpochSpan {
  std::optional<Sequence> first, last;
};

/// Only of its own epoch does a checkpoint say up to where everything must be there, and only when no other epoch is among
/// its runs does it say from where: a run is kept with the epoch in which it began, and a fork may come in its middle. What
/// is not said is judged from the first to the last that was seen.
EpochSpan span_of(const Checkpoint& checkpoint, const Epoch& epoch, const std::string& lane) {
  EpochSpan span;
  if (checkpoint.epoch != epoch) return span;
  span.last = at(checkpoint.delivered, lane);
  const auto& runs = checkpoint.runs;
  bool one_epoch = std::all_of(runs.begin(), runs.end(), [&](const RunEntry& run) { return run.epoch == epoch; });
  // Runs older than the oldest kept one may have begun this epoch.
  if (!one_epoch || runs.size() >= kCheckpointRuns) return span;
  span.first = runs.empty() ? Sequence() : at(runs.front().first, lane);
  if (span.first == Sequence()) span.first = Sequence(1);
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
  if (settings_.delivery == Delivery::at_least_once && name.sequence <= newest) {
    ++lane.repeated;  // one that was never taken is missing in the end
    return;
  }
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
    bool comes_again = gap.entry != 0 && settings_.delivery == Delivery::at_least_once;
    if (comes_again && !lane.counted.insert(gap.entry).second) return;
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
  proof.delivery = settings_.delivery;
  proof.first_seen = lane.seen.first();
  proof.last_seen = lane.seen.last();
  proof.records = lane.seen.size();
  proof.doubled = lane.doubled;
  proof.out_of_order = lane.out_of_order;
  proof.repeated = lane.repeated;
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
