#include "agent/kafka/topic_reader.h"

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "agent/kafka/client.h"

namespace penstock {
namespace {

struct QueueEnd {
  void operator()(rd_kafka_queue_t* queue) const { rd_kafka_queue_destroy(queue); }
};

struct ReaderPart {
  rd_kafka_topic_t* topic = nullptr;
  std::string name;
  std::int32_t partition = 0;
  std::int64_t position = 0;  // the offset that is handed over next
};

/// What librdkafka hands over, without an error, in our words; valid as long as `message` is.
SeenRecord seen_record(const rd_kafka_message_t& message, std::string_view topic) {
  SeenRecord record;
  record.topic = topic;
  record.partition = message.partition;
  record.offset = message.offset;
  rd_kafka_timestamp_type_t ignored;
  record.timestamp = rd_kafka_message_timestamp(&message, &ignored);
  if (message.key != nullptr) record.key = {static_cast<const char*>(message.key), message.key_len};
  if (message.payload != nullptr) record.value = {static_cast<const char*>(message.payload), message.len};
  record.deleted = message.payload == nullptr;
  rd_kafka_headers_t* headers = nullptr;
  NameReader reader;
  if (rd_kafka_message_headers(&message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    for (std::size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
         ++i) {
      std::string_view text(static_cast<const char*>(value), value != nullptr ? size : 0);
      reader.header(name, text);
      record.headers.push_back({name, text});
    }
  }
  record.name = reader.name();
  return record;
}

}  // namespace

struct TopicReader::Inside {
  std::shared_ptr<SharedClient> shared = std::make_shared<SharedClient>();
  std::vector<Topic> topics;
  std::vector<ReaderPart> parts;
  std::unique_ptr<rd_kafka_queue_t, QueueEnd> queue;
  std::string trouble;
  bool refused = false;

  rd_kafka_t* client() const { return shared->client.get(); }

  ~Inside() {
    if (!queue) return;
    for (auto& part : parts) rd_kafka_consume_stop(part.topic, part.partition);
  }

  Result<void> start(const Settings& settings) {
    auto role = settings.committed ? Role::committed_reader : Role::uncommitted_reader;
    KafkaSinkSettings with{settings.agent, settings.kafka, false};
    with.wire = settings.wire;
    auto opened = open_client(role, with, shared->events);
    if (!opened) return opened.error();
    shared->client = std::move(*opened);
    queue.reset(rd_kafka_queue_new(client()));
    for (const auto& [name, partitions] : settings.topics) {
      for (std::int32_t partition = 0; partition < partitions; ++partition) {
        if (auto begun = begin({name, partition}, 0); !begun) return begun;
      }
    }
    for (const auto& [partition, offset] : settings.from) {
      if (auto begun = begin(partition, offset); !begun) return begun;
    }
    return {};
  }

  Result<void> begin(const TopicPartition& which, std::int64_t offset) {
    const auto& [name, partition] = which;
    if (parts.empty() || parts.back().name != name) {
      auto topic = open_topic(client(), name);
      if (!topic) return topic.error();
      topics.push_back(std::move(*topic));
    }
    if (rd_kafka_consume_start_queue(topics.back().get(), partition, offset, queue.get()) != 0) {
      return rejected(fmt::format("{} [{}]: {}", name, partition, rd_kafka_err2str(rd_kafka_last_error())));
    }
    parts.push_back({topics.back().get(), name, partition, offset});
    return {};
  }

  ReaderPart* part_of(const rd_kafka_message_t& message) {
    for (auto& part : parts) {
      if (part.topic == message.rkt && part.partition == message.partition) return &part;
    }
    return nullptr;
  }

  void handle(const rd_kafka_message_t& message, const Take& take) {
    auto* part = part_of(message);
    if (part == nullptr) return;
    if (message.err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
      part->position = std::max(part->position, message.offset);  // past control records, which are not shown
    } else if (message.err != RD_KAFKA_RESP_ERR_NO_ERROR) {
      trouble = rd_kafka_message_errstr(&message);
      refused = refused || message.err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
      spdlog::debug("reader: {} [{}]: {}", part->name, part->partition, trouble);
    } else {
      take(seen_record(message, part->name));
      part->position = message.offset + 1;
    }
  }
};

TopicReader::TopicReader(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}
TopicReader::~TopicReader() = default;

Result<std::unique_ptr<TopicReader>> TopicReader::open(const Settings& settings) {
  auto inside = std::make_unique<Inside>();
  if (auto started = inside->start(settings); !started) return started.error();
  return std::unique_ptr<TopicReader>(new TopicReader(std::move(inside)));
}

void TopicReader::read(std::chrono::milliseconds wait, const Take& take) {
  rd_kafka_message_t* batch[1000];
  rd_kafka_poll(inside_->client(), 0);
  auto count =
      rd_kafka_consume_batch_queue(inside_->queue.get(), static_cast<int>(wait.count()), batch, std::size(batch));
  for (ssize_t n = 0; n < count; ++n) {
    inside_->handle(*batch[n], take);
    rd_kafka_message_destroy(batch[n]);
  }
}

std::int64_t TopicReader::position(std::string_view topic, std::int32_t partition) const {
  for (const auto& part : inside_->parts) {
    if (part.name == topic && part.partition == partition) return part.position;
  }
  return 0;
}

bool TopicReader::refused() const { return inside_->refused; }

const std::string& TopicReader::trouble() const { return inside_->trouble; }

Result<bool> TopicReader::at_end(std::chrono::milliseconds most) {
  Patience patience(most, {});
  for (const auto& part : inside_->parts) {
    auto ends = query_ends(inside_->shared, part.name, part.partition, patience);
    if (!ends) return ends.error();
    if (part.position < ends->end) return false;
  }
  return true;
}

}  // namespace penstock
