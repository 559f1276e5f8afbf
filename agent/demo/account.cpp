#include "agent/demo/account.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>

namespace penstock {

std::uint64_t checksum_of(std::string_view driver, std::string_view stream, std::string_view content_type,
                          std::string_view payload) {
  std::uint64_t sum = 0;
  for (auto part : {driver, stream, content_type, payload}) {
    sum = (sum ^ std::hash<std::string_view>{}(part)) * 0x9e3779b97f4a7c15u;  // order matters: a swap changes it
    sum ^= sum >> 32;
  }
  return sum;
}

std::string Proof::line() const {
  std::string text = fmt::format(
      "proof: {} sent, {} received, {} lost, {} twice ({} repeats of aborted attempts skipped by the per-partition "
      "rule)",
      sent, received, lost, twice, repeats);
  if (changed != 0) text += fmt::format("; {} arrived changed", changed);
  if (unknown != 0) text += fmt::format("; {} that nobody sent", unknown);
  return text;
}

std::uint64_t Account::enter(std::uint64_t checksum) {
  std::lock_guard lock(mutex_);
  entries_.push_back({checksum, State::under_way});
  ++books_.sent;
  return first_ + entries_.size() - 1;
}

void Account::take_back(std::uint64_t number) {
  std::lock_guard lock(mutex_);
  if (number < first_ || number - first_ >= entries_.size()) return;
  auto& entry = entries_[number - first_];
  if (entry.state != State::under_way) return;
  entry.state = State::taken_back;
  --books_.sent;
  forget_settled();
}

Account::Verdict Account::arrive(const Arrival& arrival) {
  std::lock_guard lock(mutex_);
  Source source{arrival.agent, arrival.epoch, arrival.lane};
  auto& last = last_seen_[Place{arrival.topic, arrival.partition, source}];
  if (arrival.sequence <= last) {
    ++books_.repeats;
    return Verdict::repeat;
  }
  last = arrival.sequence;
  if (!sequences_[source].add(arrival.sequence)) {
    ++books_.twice;
    return Verdict::twice;
  }
  if (!arrival.number) {
    ++books_.own;
    return Verdict::own;
  }
  auto verdict = match(*arrival.number, arrival.checksum);
  switch (verdict) {
    case Verdict::received: ++books_.received; break;
    case Verdict::twice: ++books_.twice; break;
    case Verdict::changed: ++books_.changed; break;
    default: ++books_.unknown;
  }
  return verdict;
}

void Account::arrive_nameless() {
  std::lock_guard lock(mutex_);
  ++books_.unknown;
}

Account::Verdict Account::match(std::uint64_t number, std::uint64_t checksum) {
  // A number that is no longer kept has arrived, or was taken back and can have arrived from nobody else.
  if (number < first_) return number == 0 ? Verdict::unknown : Verdict::twice;
  if (number - first_ >= entries_.size()) return Verdict::unknown;
  auto& entry = entries_[number - first_];
  if (entry.state == State::taken_back) return Verdict::unknown;
  if (entry.state == State::arrived) return Verdict::twice;
  bool same = entry.checksum == checksum;
  entry.state = State::arrived;
  forget_settled();
  return same ? Verdict::received : Verdict::changed;
}

void Account::forget_settled() {
  while (!entries_.empty() && entries_.front().state != State::under_way) {
    entries_.pop_front();
    ++first_;
  }
}

Proof Account::so_far() const {
  std::lock_guard lock(mutex_);
  return books_;
}

Proof Account::proof(std::string_view agent, const Epoch& epoch, const Positions& durable) const {
  std::lock_guard lock(mutex_);
  Proof proof = books_;
  auto not_arrived = std::count_if(entries_.begin(), entries_.end(),
                                   [](const Entry& entry) { return entry.state == State::under_way; });
  std::uint64_t holes = 0;
  for (const auto& [lane, last] : durable) {
    if (!sequences_.contains(Source{agent, epoch, lane})) holes += last.value();
  }
  for (const auto& [source, sequences] : sequences_) {
    const auto& [its_agent, its_epoch, lane] = source;
    Sequence last = its_agent == agent && its_epoch == epoch ? at(durable, lane) : Sequence();
    std::vector<SequenceBitmap::Range> ranges;  // not asked for
    std::uint64_t missing = SequenceBitmap::missing(sequences, {}, Sequence(1), last, 0, ranges);
    holes += missing;
    proof.unknown += sequences.size() - (last.value() - missing);  // above what the store ever numbered
  }
  // A record that is lost is missing in both books, one of the agent's own in the second only: the larger count.
  proof.lost = std::max(static_cast<std::uint64_t>(not_arrived), holes);
  return proof;
}

}  // namespace penstock
