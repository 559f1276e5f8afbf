#include "agent/kafka/checkpoint_reader.h"

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "agent/kafka/messages.h"
#include "agent/kafka/template.h"
#include "agent/kafka/topics.h"

namespace penstock {
namespace {

// Records that are read at once: a few at first, then so many times as many, up to what is enough to be quick.
constexpr std::int64_t kFirstBlock = 256, kGrowth = 4, kLargestBlock = 1 << 20;

}  // namespace

/// Reads parts of the topic, through one client.
class CheckpointReader::Scan {
 public:
  Scan(rd_kafka_s* client, std::string agent) : client_(client), agent_(std::move(agent)) {}

  Result<void> open() {
    auto topic = open_topic(client_, kCheckpointTopic);
    if (!topic) return topic.error();
    topic_ = std::move(*topic);
    return {};
  }

  /// Hands over what is seen from `first` on, until `take` says that it has enough or everything before `end` was passed.
  using Take = std::function<bool(const rd_kafka_message_s& message)>;
  Result<void> read(std::int32_t partition, const PartitionEnds& range, const Patience& patience, const Take& take) {
    if (range.first >= range.end) return {};
    if (rd_kafka_consume_start(topic_.get(), partition, range.first) != 0) {
      return transient(fmt::format("topic {}: partition {}: {}", kCheckpointTopic, partition,
                                   rd_kafka_err2str(rd_kafka_last_error())));
    }
    std::int64_t position = range.first;
    std::string trouble = "no answer";
    bool enough = false;
    while (!enough && position < range.end && !patience.over()) {
      rd_kafka_poll(client_, 0);
      std::unique_ptr<rd_kafka_message_t, decltype(&rd_kafka_message_destroy)> message(
          rd_kafka_consume(topic_.get(), partition, patience.slice_ms()), &rd_kafka_message_destroy);
      if (!message) continue;
      if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        // Control records and aborted ones are invisible: only this tells that they were passed.
        position = std::max(position, message->offset);
        trouble = "a transaction is open there";
      } else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        trouble = rd_kafka_message_errstr(message.get());
      } else {
        position = message->offset + 1;
        enough = message->offset >= range.end || take(*message);
      }
    }
    rd_kafka_consume_stop(topic_.get(), partition);
    if (enough || position >= range.end) return {};
    return transient(fmt::format("topic {}: partition {} could only be read up to offset {} of {}: {}",
                                 kCheckpointTopic, partition, position, range.end, trouble));
  }

  /// The newest record with our key.
  Result<std::optional<RawCheckpoint>> newest(std::int32_t partition, const PartitionEnds& range,
                                              const Patience& patience) {
    std::optional<RawCheckpoint> found;
    auto read_all = read(partition, range, patience, [&](const rd_kafka_message_t& message) {
      std::string_view key(static_cast<const char*>(message.key), message.key != nullptr ? message.key_len : 0);
      if (message.key == nullptr || key != agent_) return false;
      rd_kafka_timestamp_type_t ignored;
      found = RawCheckpoint{std::nullopt, {partition, message.offset}, rd_kafka_message_timestamp(&message, &ignored)};
      if (message.payload != nullptr) found->value.emplace(static_cast<const char*>(message.payload), message.len);
      return false;
    });
    if (!read_all) return read_all.error();
    return found;
  }

  ClientEvents events;  // for who has a client of its own
  Client own;

 private:
  rd_kafka_s* client_;
  const std::string agent_;
  Topic topic_;  // gone before its client

  friend class CheckpointReader;
};

CheckpointReader::CheckpointReader(const KafkaSinkSettings& settings, std::shared_ptr<SharedClient> uncommitted,
                                   CheckpointSearch& search)
    : settings_(settings), uncommitted_(std::move(uncommitted)), search_(search) {}
CheckpointReader::~CheckpointReader() = default;

Result<CheckpointReader::Scan*> CheckpointReader::committed() {
  if (committed_) return committed_.get();
  auto scan = std::make_unique<Scan>(nullptr, settings_.agent);
  auto client = open_client(Role::committed_reader, settings_, scan->events);
  if (!client) return client.error();
  scan->own = std::move(*client);
  scan->client_ = scan->own.get();
  if (auto opened = scan->open(); !opened) return opened.error();
  committed_ = std::move(scan);
  return committed_.get();
}

Result<std::optional<RawCheckpoint>> CheckpointReader::newest(std::int32_t partitions, std::int32_t expected,
                                                              std::optional<CheckpointPlace> hint,
                                                              const Patience& patience) {
  if (!all_) {
    auto scan = std::make_unique<Scan>(uncommitted_->client.get(), settings_.agent);
    if (auto opened = scan->open(); !opened) return opened.error();
    all_ = std::move(scan);
  }
  auto whole = query_ends(uncommitted_, kCheckpointTopic, expected, patience);
  if (!whole) return whole.error();
  auto believed = hint && hint->partition == expected ? std::optional(hint->offset) : std::nullopt;
  auto found = newest_in(*all_, search_.regions_[expected], expected, *whole, believed, patience);
  if (!found || *found) return found;

  // Not where it was last, nor where it belongs; or else the number of partitions was changed.
  std::vector<std::int32_t> others;
  const auto home = checkpoint_partition(settings_.agent, partitions);
  for (std::int32_t partition = 0; partition < partitions; ++partition) {
    bool may_be_there = partition == home || partitions != kCheckpointPartitions;
    if (partition != expected && may_be_there) others.push_back(partition);
  }
  if (others.empty()) return found;
  auto ends = query_ends(uncommitted_, kCheckpointTopic, others, patience);
  if (!ends) return ends.error();
  for (std::size_t i = 0; i < others.size(); ++i) {
    auto elsewhere = newest_in(*all_, search_.regions_[others[i]], others[i], (*ends)[i], {}, patience);
    if (!elsewhere) return elsewhere.error();
    if (*elsewhere && (!*found || (*elsewhere)->time > (*found)->time)) found = elsewhere;
  }
  return found;
}

/// The newest record of ours in `whole`: of what was added since the region was read, or if there is none and there was none
/// before, of what lies before it, block by block.
Result<std::optional<RawCheckpoint>> CheckpointReader::newest_in(Scan& scan, CheckpointSearch::Region& region,
                                                                 std::int32_t partition, const PartitionEnds& whole,
                                                                 std::optional<std::int64_t> hint,
                                                                 const Patience& patience) {
  const bool led = hint && *hint >= whole.first && *hint < whole.end;
  const std::int64_t start = led ? *hint : whole.end;
  bool is_of_another = region.high > whole.end || (region.newest && region.newest->place.offset < whole.first);
  // A hint that lies ahead saves reading what others have added meanwhile.
  if (region.block == 0 || is_of_another || (led && start >= region.high)) {
    region = {};
    region.low = region.high = start;
    region.block = kFirstBlock;
  }
  auto read_block = [&](std::int64_t from, std::int64_t end) {
    auto found = scan.newest(partition, {from, end}, patience);
    if (found && *found) region.newest = *found;
    // After a failure fewer, so that something comes of the next try.
    region.block =
        found ? std::min(region.block * kGrowth, kLargestBlock) : std::max(kFirstBlock, region.block / kGrowth);
    return found;
  };
  region.high = std::max(region.high, whole.first);
  while (region.high < whole.end) {
    const std::int64_t end = std::min(whole.end, region.high + region.block);
    if (auto read = read_block(region.high, end); !read) return read;
    region.high = end;
  }
  while (!region.newest && region.low > whole.first) {
    const std::int64_t from = std::max(whole.first, region.low - region.block);
    if (auto read = read_block(from, region.low); !read) return read;
    region.low = from;
  }
  return region.newest;
}

Result<bool> CheckpointReader::is_committed(const CheckpointPlace& place, const Patience& patience) {
  auto scan = committed();
  if (!scan) return scan.error();
  bool visible = false;
  auto read = (*scan)->read(place.partition, {place.offset, place.offset + 1}, patience,
                            [&](const rd_kafka_message_t& message) {
                              visible = message.offset == place.offset;
                              return true;
                            });
  if (!read) return read.error();
  return visible;
}

Result<std::optional<RawCheckpoint>> CheckpointReader::newest_committed_before(const CheckpointPlace& place,
                                                                               const Patience& patience) {
  auto scan = committed();
  if (!scan) return scan.error();
  auto whole = query_ends(uncommitted_, kCheckpointTopic, place.partition, patience);
  if (!whole) return whole.error();
  CheckpointSearch::Region region;
  return newest_in(**scan, region, place.partition, {whole->first, place.offset}, {}, patience);
}

}  // namespace penstock
