#include "agent/kafka/twin_lookout.h"

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>

#include "agent/kafka/messages.h"
#include "agent/kafka/template.h"
#include "agent/kafka/topics.h"

namespace penstock {
namespace {

constexpr std::int64_t kFirstSuffix = 256;  // records from the end that are read first; then 16 times as many
constexpr std::chrono::milliseconds kLookPatience{5'000};
constexpr BootTime kShortestPause = std::chrono::milliseconds(100), kLongestPause = std::chrono::seconds(2);

}  // namespace

/// Reads along at the end of the partition of our checkpoints, open and aborted transactions included.
class TwinLookout::Reader {
 public:
  Reader(const KafkaSinkSettings& settings, const std::optional<CheckpointPlace>& hint)
      : settings_(settings), hint_(hint) {}

  /// Of our id; its checkpoint is none when the newest says "none", or when there is none.
  Result<std::optional<FoundCheckpoint>> newest(const Patience& patience) {
    if (auto opened = open(patience); !opened) return opened.error();
    if (partition_ < 0) return std::optional<FoundCheckpoint>();  // no topic, no checkpoint
    auto ends = query_ends(client_, kCheckpointTopic, partition_, patience);
    if (!ends) {
      forget();  // and first look whether anybody is there: a call of query_ends is left behind while nobody is
      partition_ = -1;
      return ends.error();
    }
    if (auto read = read_new(*ends, patience); !read) return read.error();
    if (!value_) return std::optional<FoundCheckpoint>();
    auto checkpoint = decode_checkpoint(*value_, settings_.agent);
    if (checkpoint) return std::optional(FoundCheckpoint{std::move(*checkpoint), {partition_, offset_}});
    return transient(
        fmt::format("the checkpoint of {} at offset {} of partition {} of {} cannot be used, nothing is sent: {}",
                    settings_.agent, offset_, partition_, kCheckpointTopic, checkpoint.error().what));
  }

 private:
  Result<void> open(const Patience& patience) {
    if (!client_) {
      auto made = std::make_shared<SharedClient>();
      auto client = open_client(Role::uncommitted_reader, settings_, made->events);
      if (!client) return transient(client.error().what);
      made->client = std::move(*client);
      auto topic = open_topic(made->client.get(), kCheckpointTopic);
      if (!topic) return topic.error();
      client_ = std::move(made);
      topic_ = std::move(*topic);
    }
    TopicLook look;
    while (partition_ < 0) {
      look = look_at_topic(client_->client.get(), topic_.get(), patience);
      if (look.state == TopicState::known) {
        bool usable = hint_ && hint_->partition < look.partitions;
        partition_ = usable ? hint_->partition : checkpoint_partition(settings_.agent, look.partitions);
      } else if (look.state != TopicState::unreachable) {
        return {};  // absent, or refused: whoever makes or reads it says so
      } else if (!rest(patience)) {
        return transient(fmt::format("topic {}: {}", kCheckpointTopic, look.why));
      }
    }
    return {};
  }

  /// Everything before the end that was not looked at yet.
  Result<void> read_new(const PartitionEnds& ends, const Patience& patience) {
    if (position_ > ends.end) forget();  // the topic was made anew
    if (position_ >= 0) return read(std::max(position_, ends.first), ends.end, patience);
    std::int64_t end = ends.end;
    if (hint_ && hint_->partition == partition_ && hint_->offset >= ends.first && hint_->offset < end) {
      if (auto done = read(hint_->offset, end, patience); !done) return done;
      end = hint_->offset;
    }
    for (std::int64_t suffix = kFirstSuffix; offset_ < 0 && end > ends.first; suffix *= 16) {
      auto first = suffix >= ends.end - ends.first ? ends.first : std::min(ends.end - suffix, end);
      if (auto done = read(first, end, patience); !done) return done;
      end = first;
    }
    position_ = ends.end;
    return {};
  }

  /// Takes what is newest of ours in first..end, if anything is.
  Result<void> read(std::int64_t first, std::int64_t end, const Patience& patience) {
    if (first >= end) return {};
    if (rd_kafka_consume_start(topic_.get(), partition_, first) != 0) {
      return transient(fmt::format("topic {}: partition {}: {}", kCheckpointTopic, partition_,
                                   rd_kafka_err2str(rd_kafka_last_error())));
    }
    std::string trouble = "no answer";
    std::int64_t position = first;
    while (position < end && !patience.over()) {
      rd_kafka_poll(client_->client.get(), 0);
      std::unique_ptr<rd_kafka_message_t, decltype(&rd_kafka_message_destroy)> message(
          rd_kafka_consume(topic_.get(), partition_, patience.slice_ms()), &rd_kafka_message_destroy);
      if (!message) continue;
      if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        position = std::max(position, message->offset);  // only this tells that control records were passed
        continue;
      }
      if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        trouble = rd_kafka_message_errstr(message.get());
        continue;
      }
      position = message->offset + 1;
      std::string_view key(static_cast<const char*>(message->key), message->key_len);
      if (message->key == nullptr || key != settings_.agent) continue;
      offset_ = message->offset;
      value_.reset();
      if (message->payload != nullptr) value_.emplace(static_cast<const char*>(message->payload), message->len);
    }
    rd_kafka_consume_stop(topic_.get(), partition_);
    if (position < end) {
      forget();
      return transient(fmt::format("topic {}: partition {} could only be read up to offset {} of {}: {}",
                                   kCheckpointTopic, partition_, position, end, trouble));
    }
    if (position_ >= 0) position_ = end;
    return {};
  }

  void forget() {
    position_ = offset_ = -1;
    value_.reset();
  }

  const KafkaSinkSettings& settings_;
  const std::optional<CheckpointPlace> hint_;
  std::shared_ptr<SharedClient> client_;
  Topic topic_;  // gone before its client
  std::int32_t partition_ = -1;
  std::int64_t position_ = -1;        // everything before it was looked at
  std::int64_t offset_ = -1;          // of the newest with our key
  std::optional<std::string> value_;  // its value; none: deleted on purpose
};

TwinLookout::TwinLookout(const KafkaSinkSettings& settings, const Clock& clock)
    : settings_(settings), clock_(clock), watch_(settings.twin_watch) {}

Result<void> TwinLookout::clear(const std::optional<CheckpointPlace>& hint, const Patience& patience) {
  if (!settings_.written_here) return {};
  if (duplicate_) return transient(verdict_);
  const auto pause = std::clamp(BootTime(settings_.twin_watch) / 30, kShortestPause, kLongestPause);
  watch_.lost_sight();
  Reader reader(settings_, hint);
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
  if (*found) {
    const auto& checkpoint = (*found)->checkpoint;
    seen = TwinWatch::Seen{!settings_.written_here(checkpoint), (*found)->place.offset};
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
