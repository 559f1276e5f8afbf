#include "agent/kafka/twin_lookout.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>

#include "agent/kafka/messages.h"
#include "agent/kafka/template.h"
#include "agent/kafka/topics.h"

namespace penstock {
namespace {

constexpr std::chrono::milliseconds kLookPatience{5'000};
constexpr BootTime kShortestPause = std::chrono::milliseconds(100), kLongestPause = std::chrono::seconds(2);

}  // namespace

/// Looks again and again for the newest checkpoint of our id, open and aborted transactions included.
class TwinLookout::Reader {
 public:
  Reader(const KafkaSinkSettings& settings, const std::optional<CheckpointPlace>& hint, CheckpointSearch& search)
      : settings_(settings), hint_(hint), search_(search) {}

  /// Nothing: there is none.
  Result<std::optional<RawCheckpoint>> newest(const Patience& patience) {
    auto found = look(patience);
    if (found || !client_) return found;
    auto complaint = client_->events.last();  // a name that does not resolve, a certificate that does not hold
    return Error{found.error().fault, found.error().what + (complaint.empty() ? "" : ": ") + complaint};
  }

 private:
  Result<std::optional<RawCheckpoint>> look(const Patience& patience) {
    if (auto found = find_topic(patience); !found) return found.error();
    if (partitions_ == 0) return std::optional<RawCheckpoint>();
    auto hint = hint_ && hint_->partition < partitions_ ? hint_ : std::nullopt;
    auto expected = hint ? hint->partition : checkpoint_partition(settings_.agent, partitions_);
    auto found = checkpoints_->newest(partitions_, expected, hint, patience);
    if (!found) partitions_ = 0;
    if (found && *found) hint_ = (*found)->place;
    return found;
  }

  /// How many partitions it has; none when it is not there, or refused: whoever makes or reads it says so.
  Result<void> find_topic(const Patience& patience) {
    if (!client_) {
      auto made = std::make_shared<SharedClient>();
      auto client = open_client(Role::uncommitted_reader, settings_, made->events);
      if (!client) return transient(client.error().what);
      made->client = std::move(*client);
      client_ = std::move(made);
      checkpoints_.emplace(settings_, client_, search_);
    }
    if (partitions_ > 0) return {};
    auto topic = open_topic(client_->client.get(), kCheckpointTopic);
    if (!topic) return topic.error();
    TopicLook look;
    do {
      look = look_at_topic(client_->client.get(), topic->get(), patience);
      partitions_ = look.state == TopicState::known ? look.partitions : 0;
      if (look.state != TopicState::unreachable) return {};
    } while (rest(patience));
    return transient(fmt::format("topic {}: {}", kCheckpointTopic, look.why));
  }

  const KafkaSinkSettings& settings_;
  std::optional<CheckpointPlace> hint_;
  CheckpointSearch& search_;
  std::shared_ptr<SharedClient> client_;
  std::optional<CheckpointReader> checkpoints_;  // gone before the client
  std::int32_t partitions_ = 0;
};

TwinLookout::TwinLookout(const KafkaSinkSettings& settings, const Clock& clock, CheckpointSearch& search)
    : settings_(settings), clock_(clock), search_(search), watch_(settings.twin_watch) {}

Result<void> TwinLookout::clear(const std::optional<CheckpointPlace>& hint, const Patience& patience) {
  if (!settings_.written_here) return {};
  if (duplicate_) return transient(verdict_);
  const auto pause = std::clamp(BootTime(settings_.twin_watch) / 30, kShortestPause, kLongestPause);
  watch_.lost_sight();
  Reader reader(settings_, hint, search_);
  for (;;) {
    auto answer = look(reader, Patience(kLookPatience, patience.stop()));
    if (!answer) watch_.lost_sight();
    if (answer && *answer == TwinWatch::Answer::go) return {};
    if (answer && *answer == TwinWatch::Answer::duplicate) {
      verdict_ = fmt::format(
          "duplicate_id: another living agent uses the id \"{}\" (its run {}): this one sends nothing and keeps "
          "queueing. "
          "End the other one and restart this one, or give one of them another agent.id",
          settings_.agent, other_);
      duplicate_ = true;
      spdlog::error("kafka: {}", verdict_);
      return transient(verdict_);
    }
    if (patience.over() || !clock_.sleep(pause, patience.stop())) {
      if (!answer) return answer.error();
      return transient(
          fmt::format("the newest checkpoint is of another copy of this store (run {}): watching whether "
                      "that one is alive",
                      other_));
    }
  }
}

Result<TwinWatch::Answer> TwinLookout::look(Reader& reader, const Patience& patience) {
  auto found = reader.newest(patience);
  if (!found) return found.error();
  std::optional<TwinWatch::Seen> seen;
  if (*found && (*found)->value) {
    const auto& place = (*found)->place;
    auto decoded = decode_checkpoint(*(*found)->value, settings_.agent);
    if (!decoded) {
      return transient(
          fmt::format("the checkpoint of {} at offset {} of partition {} of {} cannot be used, nothing is sent: {}",
                      settings_.agent, place.offset, place.partition, kCheckpointTopic, decoded.error().what));
    }
    const Checkpoint& checkpoint = *decoded;
    seen = TwinWatch::Seen{!settings_.written_here(checkpoint), place.offset};
    if (seen->foreign) {
      bool says = !checkpoint.writer.none() || checkpoint.runs.empty();
      auto other = (says ? checkpoint.writer : checkpoint.runs.back().run).hex();
      if (other_ != other)
        spdlog::warn(
            "kafka: the newest checkpoint of {} is of run {}, which is not of this store, or "
            "not this far: watching whether another agent with this id is alive",
            settings_.agent, other);
      other_ = std::move(other);
    }
  }
  return watch_.look(seen, clock_.boottime());
}

}  // namespace penstock
