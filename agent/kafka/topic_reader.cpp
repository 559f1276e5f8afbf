#include "agent/kafka/topic_reader.h"

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <iterator>
#include <utility>
#include <vector>

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

}  // namespace

struct TopicReader::Inside {
  ClientEvents events;
  Client client;
  std::vector<Topic> topics;
  std::vector<ReaderPart> parts;
  std::unique_ptr<rd_kafka_queue_t, QueueEnd> queue;

  ~Inside() {
    if (!queue) return;
    for (auto& part : parts) rd_kafka_consume_stop(part.topic, part.partition);
  }

  Result<void> start(const Settings& settings) {
    auto opened = open_client(Role::committed_reader, {"reader", settings.kafka}, events);
    if (!opened) return opened.error();
    client = std::move(*opened);
    queue.reset(rd_kafka_queue_new(client.get()));
    for (const auto& [name, partitions] : settings.topics) {
      auto topic = open_topic(client.get(), name);
      if (!topic) return topic.error();
      topics.push_back(std::move(*topic));
      for (std::int32_t partition = 0; partition < partitions; ++partition) {
        if (rd_kafka_consume_start_queue(topics.back().get(), partition, 0, queue.get()) != 0) {
          return rejected(fmt::format("{} [{}]: {}", name, partition, rd_kafka_err2str(rd_kafka_last_error())));
        }
        parts.push_back({topics.back().get(), name, partition});
      }
    }
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
      spdlog::debug("reader: {} [{}]: {}", part->name, part->partition, rd_kafka_message_errstr(&message));
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
  rd_kafka_poll(inside_->client.get(), 0);
  auto count =
      rd_kafka_consume_batch_queue(inside_->queue.get(), static_cast<int>(wait.count()), batch, std::size(batch));
  for (ssize_t n = 0; n < count; ++n) {
    inside_->handle(*batch[n], take);
    rd_kafka_message_destroy(batch[n]);
  }
}

Result<bool> TopicReader::at_end(std::chrono::milliseconds most) {
  Patience patience(most, {});
  for (const auto& part : inside_->parts) {
    std::int64_t low = 0;
    std::int64_t high = 0;
    auto error = patience.over() ? RD_KAFKA_RESP_ERR__TIMED_OUT
                                 : rd_kafka_query_watermark_offsets(inside_->client.get(), part.name.c_str(),
                                                                    part.partition, &low, &high, patience.slice_ms());
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
      return transient(fmt::format("the end of {} [{}]: {}", part.name, part.partition, rd_kafka_err2str(error)));
    }
    if (part.position < high) return false;
  }
  return true;
}

}  // namespace penstock
