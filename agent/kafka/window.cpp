#include "agent/kafka/window.h"

#include <algorithm>
#include <set>

namespace penstock {
namespace {

/// While somebody's open transaction hides the proof of so many, two become one: they are then proven together.
constexpr std::size_t kMostMarks = 64;

void keep_least(Offsets& into, const Offsets& from) {
  for (const auto& [partition, offset] : from) {
    auto [found, fresh] = into.emplace(partition, offset);
    if (!fresh) found->second = std::min(found->second, offset);
  }
}

}  // namespace

void Window::begin(Offsets since) {
  carried_ = std::move(since);
  next_.clear();
  marks_.clear();
}

void Window::clean(const TopicPartition& partition, std::int64_t end) { next_[partition] = end; }

WindowNote Window::note(const Checkpoint& base, const std::vector<TopicPartition>& writes) const {
  WindowNote note{base.delivered, base.ledger, carried_};
  for (const auto& mark : marks_) keep_least(note.since, mark.from);
  for (const auto& partition : writes) {
    if (auto next = next_.find(partition); next != next_.end()) keep_least(note.since, {*next});
  }
  return note;
}

void Window::committed(const Checkpoint& after, bool islands, const Offsets& last) {
  Mark mark{after, islands, {}, last};
  for (const auto& [partition, offset] : last) {
    auto next = next_.find(partition);
    if (next == next_.end()) continue;
    mark.from[partition] = std::min(next->second, offset);
    next->second = offset + 1;
  }
  if (marks_.size() >= kMostMarks) {
    auto& newest = marks_.back();
    newest.after = mark.after;
    newest.islands = islands;
    keep_least(newest.from, mark.from);
    for (const auto& [partition, offset] : mark.last) newest.last[partition] = offset;
    return;
  }
  marks_.push_back(std::move(mark));
}

std::vector<TopicPartition> Window::asked() const {
  std::set<TopicPartition> all;
  for (const auto& mark : marks_) {
    for (const auto& [partition, offset] : mark.last) all.insert(partition);
  }
  return {all.begin(), all.end()};
}

std::optional<Checkpoint> Window::prove(const Offsets& stable) {
  std::optional<Checkpoint> proven;
  auto decided = [&](const auto& written) {
    auto found = stable.find(written.first);
    return found != stable.end() && found->second > written.second;
  };
  while (!marks_.empty() && std::all_of(marks_.front().last.begin(), marks_.front().last.end(), decided)) {
    if (!marks_.front().islands) carried_.clear();
    proven = std::move(marks_.front().after);
    marks_.pop_front();
  }
  return proven;
}

}  // namespace penstock
