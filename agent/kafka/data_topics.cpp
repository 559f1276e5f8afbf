#include "agent/kafka/data_topics.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/kafka/template.h"

namespace penstock {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr milliseconds kLook = 1s, kTryAgain = 10s;
constexpr milliseconds kOneMore = 3s;  // for one that was never seen, while another one is missing for longer than that
constexpr milliseconds kRefusedMost = 5min;  // each try costs a transaction
constexpr std::chrono::minutes kIsOld{10};
constexpr std::chrono::minutes kRecent{10};
constexpr std::size_t kRemembered = 1'000;

bool is_own(const std::string& topic) { return topic == kCheckpointTopic || topic == kGapTopic; }

}  // namespace

Result<const DataTopics::Trouble*> DataTopics::find(Producer& producer, const std::string& name,
                                                    Producer::KnownTopic& topic, const Patience& patience,
                                                    bool insist) {
  auto known = unwritable_.find(name);
  const bool seen = known != unwritable_.end();
  if (seen && !insist && steady_clock::now() < known->second.until) return &known->second.trouble;
  if (!producer.knows(name)) {
    const std::size_t ours = producer.knows(kCheckpointTopic) + producer.knows(kGapTopic);
    if (producer.topics() >= settings_.max_topics + ours) {
      too_many_.why = fmt::format("topic {}: it would be one more than max_topics = {}", name, settings_.max_topics);
      too_many_.for_good = true;
      return &too_many_;
    }
  }
  auto state = TopicState::unreachable;
  const bool first = unwritable_.empty() && !patience.over();
  auto found = producer.topic(name, first ? patience : Patience(seen ? kLook : kOneMore, patience.stop()), &state);
  if (found) {
    topic = *found;
    return nullptr;
  }
  if (patience.stopped()) return transient(fmt::format("stopped while looking for topic {}", name));  // no judgement
  if (state == TopicState::unreachable) return found.error();
  bool may_set_aside = settings_.on_topic_error == OnTopicError::dead_letter;
  return &remember(name, found.error().what, may_set_aside && state != TopicState::leaderless, kTryAgain).trouble;
}

DataTopics::Remembered& DataTopics::remember(const std::string& topic, std::string why, bool for_good,
                                             milliseconds wait) {
  if (unwritable_.size() >= kRemembered) unwritable_.erase(unwritable_.begin());
  auto& remembered = unwritable_[topic];
  remembered.trouble = {std::move(why), for_good};
  remembered.until = steady_clock::now() + wait;
  return remembered;
}

void DataTopics::refuse(const std::string& topic, const std::string& why, bool may_set_aside) {
  auto known = unwritable_.find(topic);
  auto wait = known == unwritable_.end() ? kTryAgain
                                         : std::clamp<milliseconds>(2 * known->second.wait, kTryAgain, kRefusedMost);
  bool for_good = may_set_aside && settings_.on_topic_error == OnTopicError::dead_letter;
  remember(topic, fmt::format("topic {}: {}", topic, why), for_good, wait).wait = wait;
}

void DataTopics::written(const std::vector<TopicPartition>& partitions) {
  if (unwritable_.empty()) return;
  for (const auto& [topic, partition] : partitions) unwritable_.erase(topic);
}

std::map<std::string, std::string> DataTopics::unwritable() const {
  std::map<std::string, std::string> all;
  for (const auto& [topic, remembered] : unwritable_) all[topic] = remembered.trouble.why;
  return all;
}

DataTopics::EventTime DataTopics::event_time(const std::string& topic) const {
  auto found = event_times_.find(topic);
  return found == event_times_.end() ? EventTime::any : found->second;
}

bool DataTopics::takes(EventTime which, WallTime event, WallTime now) {
  auto distance = event > now ? event - now : now - event;
  return which == EventTime::any || (which == EventTime::recent && distance <= kRecent);
}

bool DataTopics::refuse_time(const std::string& topic) {
  if (is_own(topic)) return false;
  auto takes = event_time(topic);
  if (takes == EventTime::none) {
    event_times_.erase(topic);  // that was not it
    return false;
  }
  takes = takes == EventTime::any ? EventTime::recent : EventTime::none;
  event_times_[topic] = takes;
  spdlog::warn("kafka: topic {} refuses the time of an event as time stamp: {} get that of sending", topic,
               takes == EventTime::recent ? "records that are not of now" : "all records");
  return true;
}

void DataTopics::tidy() {
  std::erase_if(unwritable_,
                [now = steady_clock::now()](const auto& topic) { return now > topic.second.until + kIsOld; });
}

}  // namespace penstock
