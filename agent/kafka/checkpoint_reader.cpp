#include "agent/kafka/checkpoint_reader.h"

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>

#include "agent/kafka/messages.h"
#include "agent/kafka/template.h"

namespace penstock {
namespace {

constexpr std::int64_t kFirstSuffix = 256;  // records from the end that are read first; then 16 times as many
/// Other agents' transactions are open for moments; one that is there for so long may be one of ours.
constexpr std::chrono::seconds kOpenForLong{3};

/// A record with our key: the newest wins, whatever it holds.
struct Raw {
  std::optional<std::string> value;  // none: deleted on purpose
  CheckpointPlace place;
  std::int64_t time = 0;
};

class Scan {
 public:
  Scan(const KafkaSinkSettings& settings, const std::shared_ptr<SharedClient>& uncommitted,
       const EndUndecided& end_undecided, const Patience& patience)
      : settings_(settings), uncommitted_(uncommitted), end_undecided_(end_undecided), patience_(patience) {}

  Result<void> open() {
    auto client = open_client(Role::committed_reader, settings_, events_);
    if (!client) return client.error();
    client_ = std::move(*client);
    auto topic = open_topic(client_.get(), kCheckpointTopic);
    if (!topic) return topic.error();
    topic_ = std::move(*topic);
    return {};
  }

  /// The offsets of a partition, open transactions included.
  Result<PartitionEnds> range(std::int32_t partition) {
    return query_ends(uncommitted_, kCheckpointTopic, partition, patience_);
  }

  /// The newest record with our key in first..end, once everything before `end` is decided.
  Result<std::optional<Raw>> newest(std::int32_t partition, const PartitionEnds& range) {
    std::optional<Raw> found;
    if (range.first >= range.end) return found;
    if (rd_kafka_consume_start(topic_.get(), partition, range.first) != 0) {
      return transient(fmt::format("topic {}: partition {}: {}", kCheckpointTopic, partition,
                                   rd_kafka_err2str(rd_kafka_last_error())));
    }
    std::int64_t position = range.first;
    std::string trouble = "no answer, or a transaction of another agent is open";
    bool open = false;  // a transaction is, at `position`, since then
    std::chrono::steady_clock::time_point since;
    bool may_end = true;
    while (position < range.end && !patience_.over()) {
      if (open && may_end && std::chrono::steady_clock::now() - since > kOpenForLong) {
        may_end = false;  // once is enough for one of ours; another agent's ends when it ends
        if (auto ended = end_undecided_(partition); !ended) {
          trouble = ended.error().what;
          break;
        }
      }
      rd_kafka_poll(client_.get(), 0);
      std::unique_ptr<rd_kafka_message_t, decltype(&rd_kafka_message_destroy)> message(
          rd_kafka_consume(topic_.get(), partition, patience_.slice_ms()), &rd_kafka_message_destroy);
      if (!message) continue;
      if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        // Control records and aborted ones are invisible: only this tells that they were passed.
        position = std::max(position, message->offset);
        trouble = "a transaction of another agent is open";
        if (!open) since = std::chrono::steady_clock::now();
        open = true;
        continue;
      }
      if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        trouble = rd_kafka_message_errstr(message.get());
        continue;
      }
      position = message->offset + 1;
      open = false;
      if (message->offset >= range.end) break;
      std::string_view key(static_cast<const char*>(message->key), message->key_len);
      if (message->key == nullptr || key != settings_.agent) continue;
      rd_kafka_timestamp_type_t ignored;
      found = Raw{std::nullopt, {partition, message->offset}, rd_kafka_message_timestamp(message.get(), &ignored)};
      if (message->payload != nullptr) found->value.emplace(static_cast<const char*>(message->payload), message->len);
    }
    rd_kafka_consume_stop(topic_.get(), partition);
    if (position < range.end) {
      return transient(fmt::format("topic {}: partition {} could only be read up to offset {} of {}: {}",
                                   kCheckpointTopic, partition, position, range.end, trouble));
    }
    return found;
  }

  /// As newest, but from the end: growing parts, until something is found or the beginning is reached.
  Result<std::optional<Raw>> newest_from_the_end(std::int32_t partition, const PartitionEnds& whole) {
    std::int64_t end = whole.end;
    for (std::int64_t suffix = kFirstSuffix;; suffix *= 16) {
      PartitionEnds part{suffix >= whole.end - whole.first ? whole.first : whole.end - suffix, end};
      auto found = newest(partition, part);
      if (!found || *found || part.first == whole.first) return found;
      end = part.first;
    }
  }

 private:
  const KafkaSinkSettings& settings_;
  std::shared_ptr<SharedClient> uncommitted_;
  const EndUndecided& end_undecided_;
  const Patience& patience_;
  ClientEvents events_;
  Client client_;
  Topic topic_;  // gone before its client
};

Result<std::optional<FoundCheckpoint>> understand(const std::optional<Raw>& raw, const std::string& agent) {
  std::optional<FoundCheckpoint> none;
  if (!raw || !raw->value) return none;
  auto checkpoint = decode_checkpoint(*raw->value, agent);
  if (!checkpoint) {
    return transient(
        fmt::format("the checkpoint of {} at offset {} of partition {} of {} cannot be used, nothing is sent: {}",
                    agent, raw->place.offset, raw->place.partition, kCheckpointTopic, checkpoint.error().what));
  }
  return std::optional(FoundCheckpoint{std::move(*checkpoint), raw->place});
}

}  // namespace

Result<std::optional<FoundCheckpoint>> read_checkpoint(const KafkaSinkSettings& settings,
                                                       const std::shared_ptr<SharedClient>& uncommitted,
                                                       std::int32_t partitions, std::int32_t expected,
                                                       std::optional<CheckpointPlace> hint,
                                                       const EndUndecided& end_undecided, const Patience& patience) {
  Scan scan(settings, uncommitted, end_undecided, patience);
  if (auto opened = scan.open(); !opened) return opened.error();

  auto whole = scan.range(expected);
  if (!whole) return whole.error();
  if (hint && hint->partition == expected && hint->offset >= whole->first && hint->offset < whole->end) {
    auto found = scan.newest(expected, {hint->offset, whole->end});
    if (!found) return found.error();
    if (*found) return understand(*found, settings.agent);
    whole->end = hint->offset;  // all from there on has been read
  }
  auto found = scan.newest_from_the_end(expected, *whole);
  if (!found) return found.error();
  if (*found) return understand(*found, settings.agent);

  // Not where it belongs: the number of partitions was changed, or there is none.
  for (std::int32_t partition = 0; partition < partitions; ++partition) {
    if (partition == expected) continue;
    auto other = scan.range(partition);
    if (!other) return other.error();
    auto elsewhere = scan.newest_from_the_end(partition, *other);
    if (!elsewhere) return elsewhere.error();
    if (*elsewhere && (!*found || (*elsewhere)->time > (*found)->time)) found = elsewhere;
  }
  return understand(*found, settings.agent);
}

}  // namespace penstock
