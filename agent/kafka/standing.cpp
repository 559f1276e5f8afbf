#include "agent/kafka/standing.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "agent/kafka/messages.h"
#include "agent/kafka/offsets.h"
#include "agent/kafka/template.h"
#include "agent/kafka/topics.h"

namespace penstock {
namespace {

/// Other agents' transactions are open for moments; one that is there for so long may be one of ours.
constexpr std::chrono::seconds kOpenForLong{3};
/// The key of what a transaction writes only to be aborted. No consumer that reads committed ever sees it.
constexpr const char* kEndingKey = "penstock:ending";

std::string text_of(const TopicPartition& partition) {
  return fmt::format("{} [{}]", partition.first, partition.second);
}

/// Decides whatever of ours is undecided in these partitions, by taking it back. Does nothing to the transactions of others.
Result<void> take_back(Producer& producer, const std::vector<TopicPartition>& stuck, const NewestCheckpoint& newest,
                       const Patience& patience) {
  if (auto begun = producer.begin(); !begun) return begun;
  auto write = [&](const TopicPartition& where, const std::string& key, const std::string* value) -> Result<void> {
    auto topic = producer.topic(where.first, patience);
    if (!topic) return topic.error();
    Producer::Message message;
    message.topic = topic->handle;
    message.partition = where.second;
    message.key = key;
    message.deleted = value == nullptr;
    if (value != nullptr) message.value = *value;
    return producer.produce(message, patience);
  };
  if (!newest.value.empty()) {
    if (auto done = write({kCheckpointTopic, newest.partition}, newest.agent, &newest.value); !done) return done;
    if (auto flushed = producer.flush(patience); !flushed) return flushed;
  }
  for (const auto& partition : stuck) {
    if (auto done = write(partition, kEndingKey, nullptr); !done) return done;
  }
  if (auto flushed = producer.flush(patience); !flushed) return flushed;
  return producer.abort(patience);
}

enum class Whereabouts { there, gone, refused };

/// What the brokers say of a partition whose end cannot be had; `why` unless it is there.
Whereabouts look_for(rd_kafka_s* client, const TopicPartition& partition, const Patience& patience, std::string& why) {
  auto topic = open_topic(client, partition.first);
  if (!topic) return Whereabouts::there;
  auto look = look_at_topic(client, topic->get(), patience);
  if (look.state != TopicState::known) why = look.why;
  if (look.state == TopicState::refused) return Whereabouts::refused;
  bool fewer = look.state == TopicState::known && look.partitions <= partition.second;
  return fewer || look.state == TopicState::absent ? Whereabouts::gone : Whereabouts::there;
}

/// The present ends of partitions, open transactions included; without those that are gone.
Result<Offsets> present_ends(rd_kafka_s* uncommitted, std::vector<TopicPartition> partitions,
                             const Patience& patience) {
  Offsets ends;
  std::string why = "no answer";
  do {
    auto listed = list_offsets(uncommitted, partitions, End::last, std::chrono::milliseconds(patience.slice_ms() * 5));
    if (listed) ends.merge(*listed);
    if (!listed) why = listed.error().what;
    std::erase_if(partitions, [&](const TopicPartition& each) { return ends.count(each) != 0; });
    // One that is not there makes the question fail for all.
    for (std::size_t i = 0; i < partitions.size();) {
      auto where = look_for(uncommitted, partitions[i], patience, why);
      if (where == Whereabouts::refused) return transient(fmt::format("topic {}: {}", partitions[i].first, why));
      if (where == Whereabouts::gone) {
        spdlog::warn("kafka: {}: it is gone, and what was written there last with it", text_of(partitions[i]));
        partitions.erase(partitions.begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        ++i;
      }
    }
    if (partitions.empty()) return ends;
  } while (rest(patience));
  return transient(fmt::format("{}: its end could not be asked for: {}", text_of(partitions.front()), why));
}

Result<Checkpoint> understand(const RawCheckpoint& raw, const std::string& agent) {
  auto checkpoint = decode_checkpoint(*raw.value, agent);
  if (checkpoint) return checkpoint;
  return transient(
      fmt::format("the checkpoint of {} at offset {} of partition {} of {} cannot be used, nothing is sent: {}", agent,
                  raw.place.offset, raw.place.partition, kCheckpointTopic, checkpoint.error().what));
}

struct NewestOfOurs {
  RawCheckpoint raw;
  Checkpoint checkpoint;
  std::optional<WindowNote> window;
};

/// Nothing: there is none.
Result<std::optional<NewestOfOurs>> read_newest(const StandingQuestion& question, CheckpointReader& checkpoints,
                                                const Patience& patience) {
  question.doing("reading the checkpoint");
  auto raw = checkpoints.newest(question.partitions, question.expected, question.hint, patience);
  if (!raw) return raw.error();
  if (!*raw || !(*raw)->value) return std::optional<NewestOfOurs>();
  auto checkpoint = understand(**raw, question.settings.agent);
  if (!checkpoint) return checkpoint.error();
  auto window = decode_window(*(*raw)->value);
  if (!window) return transient(window.error().what);
  return std::optional(NewestOfOurs{std::move(**raw), std::move(*checkpoint), std::move(*window)});
}

/// Where Kafka stands by its own word, as far as that is known without looking at the records themselves.
Result<FoundStanding> trust_committed(const StandingQuestion& question, CheckpointReader& checkpoints,
                                      const RawCheckpoint& raw, FoundStanding found, const Patience& patience) {
  auto before = checkpoints.newest_committed_before(raw.place, patience);
  if (!before) return before.error();
  if (!*before || !(*before)->value) return found;
  auto checkpoint = understand(**before, question.settings.agent);
  if (!checkpoint) return checkpoint.error();
  found.standing.checkpoint = std::move(*checkpoint);
  return found;
}

/// What was proven before the window, raised over what has landed without a hole behind it.
Checkpoint standing_of(Checkpoint checkpoint, const WindowNote& window, const Landed& landed) {
  Positions reached = window.delivered;
  for (const auto& [lane, most] : checkpoint.delivered) {
    Sequence from = at(reached, lane);
    reached[lane] = std::max(from, landed.reaches(checkpoint.epoch, lane, from, most));
  }
  checkpoint.delivered = std::move(reached);
  checkpoint.ledger = window.ledger;
  return checkpoint;
}

}  // namespace

Result<Offsets> settle_partitions(Producer& producer, rd_kafka_s* uncommitted,
                                  const std::vector<TopicPartition>& partitions, const NewestCheckpoint& newest,
                                  bool& took_back, const Patience& patience) {
  auto ends = present_ends(uncommitted, partitions, patience);
  if (!ends) return ends;
  std::vector<TopicPartition> open;
  for (const auto& [partition, end] : *ends) open.push_back(partition);
  const auto began = std::chrono::steady_clock::now();
  bool ended = false;
  while (true) {
    auto stable = producer.stable(open, std::chrono::milliseconds(patience.slice_ms() * 5));
    std::erase_if(open, [&](const TopicPartition& each) {
      auto found = stable.find(each);
      return found != stable.end() && found->second >= ends->at(each);
    });
    if (open.empty()) return ends;
    if (!ended && std::chrono::steady_clock::now() - began > kOpenForLong) {
      ended = took_back = true;  // even if it fails
      spdlog::warn("kafka: {}: a transaction is open there; should it be one of ours, it is ended",
                   text_of(open.front()));
      if (auto done = take_back(producer, open, newest, patience); !done) return done.error();
    }
    if (!rest(patience)) break;
  }
  return transient(fmt::format("{}: a transaction is open there and hides what became of ours", text_of(open.front())));
}

Result<FoundStanding> read_proven(const StandingQuestion& question, const Patience& patience) {
  CheckpointReader checkpoints(question.settings, question.uncommitted, question.search);
  auto newest = read_newest(question, checkpoints, patience);
  if (!newest) return newest.error();
  FoundStanding found;
  if (!*newest) return found;
  auto& [raw, checkpoint, window] = **newest;
  found.place = raw.place;
  auto proven = window ? window->delivered : Positions();
  if (checkpoint.sent.empty() && proven != checkpoint.delivered) checkpoint.sent = checkpoint.delivered;
  checkpoint.delivered = std::move(proven);
  checkpoint.ledger = window ? window->ledger : 0;
  found.standing.checkpoint = std::move(checkpoint);
  return found;
}

Result<FoundStanding> read_standing(const StandingQuestion& question, std::unique_ptr<ReadBack>& kept,
                                    const Patience& patience) {
  const auto& settings = question.settings;
  CheckpointReader checkpoints(settings, question.uncommitted, question.search);
  auto newest = read_newest(question, checkpoints, patience);
  if (!newest) return newest.error();
  FoundStanding found;
  if (!*newest) return found;
  auto& [raw, checkpoint, window] = **newest;

  question.doing("waiting for open transactions");
  std::vector<TopicPartition> partitions{{kCheckpointTopic, raw.place.partition}};
  if (window) {
    for (const auto& [partition, offset] : window->since) partitions.push_back(partition);
  }
  found.place = raw.place;
  found.newest = *raw.value;
  bool took_back = false;
  auto ends = settle_partitions(*question.producer, question.uncommitted->client.get(), partitions,
                                {settings.agent, raw.place.partition, found.newest}, took_back, patience);
  if (!ends) return ends.error();
  found.ends = std::move(*ends);
  if (!took_back) {
    auto committed = checkpoints.is_committed(raw.place, patience);
    if (!committed) return committed.error();
    if (*committed) {
      kept.reset();
      found.standing.checkpoint = std::move(checkpoint);
      return found;
    }
  }
  if (!window) return trust_committed(question, checkpoints, raw, std::move(found), patience);

  question.doing("reading back the last transactions");
  if (!kept || kept->since() != window->since) kept = std::make_unique<ReadBack>(settings, window->since);
  if (auto read = kept->read(found.ends, patience); !read) {
    if (read.error().fault != Fault::rejected) return read.error();
    spdlog::error(
        "kafka: {}: what the last transactions have left there cannot be seen, and records of them may be "
        "missing or doubled; give this agent READ on the topics it writes to",
        read.error().what);
    return trust_committed(question, checkpoints, raw, std::move(found), patience);
  }
  found.since = window->since;
  found.standing.landed = kept->landed();
  found.standing.checkpoint = standing_of(std::move(checkpoint), *window, kept->landed());
  kept.reset();
  return found;
}

}  // namespace penstock
