#include "tests/bench/bare_producer.h"

#include <fmt/core.h>
#include <librdkafka/rdkafka.h>

#include <array>

#include "tests/bench/measure.h"

namespace penstock::bench {
namespace {

struct Properties {
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  void set(const char* name, const std::string& value) {
    std::array<char, 512> why{};
    if (rd_kafka_conf_set(conf, name, value.c_str(), why.data(), why.size()) != RD_KAFKA_CONF_OK) give_up(why.data());
  }
  rd_kafka_t* make(rd_kafka_type_t type) {
    std::array<char, 512> why{};
    auto* handle = rd_kafka_new(type, conf, why.data(), why.size());
    if (handle == nullptr) give_up(why.data());
    return handle;
  }
};

void must(rd_kafka_resp_err_t code, const char* what) {
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) give_up(fmt::format("{}: {}", what, rd_kafka_err2str(code)));
}

/// The partitions of a topic, which is made when it is missing (the broker makes topics by itself).
int partitions_of(rd_kafka_t* handle, const std::string& topic) {
  auto* about = rd_kafka_topic_new(handle, topic.c_str(), nullptr);
  int found = 0;
  for (double until = now() + 20; found == 0 && now() < until;) {
    const rd_kafka_metadata_t* metadata = nullptr;
    if (rd_kafka_metadata(handle, 0, about, &metadata, 5'000) != RD_KAFKA_RESP_ERR_NO_ERROR) continue;
    if (metadata->topic_cnt == 1 && metadata->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR)
      found = metadata->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(metadata);
    if (found == 0) rd_kafka_poll(handle, 50);
  }
  rd_kafka_topic_destroy(about);
  if (found == 0) give_up("no metadata of topic " + topic);
  return found;
}

void note_failure(rd_kafka_t*, const rd_kafka_message_t* message, void* failures) {
  if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) ++*static_cast<std::uint64_t*>(failures);
}

}  // namespace

struct BareProducer::Inside {
  rd_kafka_t* handle = nullptr;
  rd_kafka_topic_t* topic = nullptr;
  std::uint64_t failures = 0;
};

BareProducer::BareProducer(const std::string& brokers, const std::string& topic) : inside_(std::make_unique<Inside>()) {
  Properties properties;
  properties.set("bootstrap.servers", brokers);
  properties.set("enable.idempotence", "true");
  properties.set("compression.codec", "zstd");
  properties.set("linger.ms", "20");
  properties.set("batch.num.messages", "100000");
  properties.set("queue.buffering.max.kbytes", "65536");
  properties.set("queue.buffering.max.messages", "200000");
  properties.set("delivery.report.only.error", "true");
  properties.set("topic.metadata.refresh.interval.ms", "-1");
  rd_kafka_conf_set_dr_msg_cb(properties.conf, note_failure);
  rd_kafka_conf_set_opaque(properties.conf, &inside_->failures);
  inside_->handle = properties.make(RD_KAFKA_PRODUCER);
  partitions_of(inside_->handle, topic);
  inside_->topic = rd_kafka_topic_new(inside_->handle, topic.c_str(), nullptr);
}

BareProducer::~BareProducer() {
  rd_kafka_topic_destroy(inside_->topic);
  rd_kafka_destroy(inside_->handle);
}

void BareProducer::send(const std::vector<Message>& messages, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto& message = messages[i % messages.size()];
    auto* headers = rd_kafka_headers_new(message.headers.size());
    for (const auto& [name, value] : message.headers) {
      rd_kafka_header_add(headers, name.data(), static_cast<ssize_t>(name.size()), value.data(),
                          static_cast<ssize_t>(value.size()));
    }
    while (true) {
      auto code = rd_kafka_producev(
          inside_->handle, RD_KAFKA_V_RKT(inside_->topic), RD_KAFKA_V_PARTITION(RD_KAFKA_PARTITION_UA),
          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(message.key.data(), message.key.size()),
          RD_KAFKA_V_VALUE(const_cast<char*>(message.value.data()), message.value.size()),
          RD_KAFKA_V_TIMESTAMP(message.timestamp), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
      if (code == RD_KAFKA_RESP_ERR_NO_ERROR) break;
      if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL) give_up(fmt::format("bare producer: {}", rd_kafka_err2str(code)));
      rd_kafka_poll(inside_->handle, 2);
    }
    if (i % 1000 == 0) rd_kafka_poll(inside_->handle, 0);
  }
  must(rd_kafka_flush(inside_->handle, 60'000), "bare producer: flush");
  if (inside_->failures > 0) give_up(fmt::format("bare producer: {} messages were not delivered", inside_->failures));
}

// --- reading

namespace {

rd_kafka_t* make_reader(const std::string& brokers) {
  Properties properties;
  properties.set("bootstrap.servers", brokers);
  properties.set("group.id", "bench");  // demanded by the interface; nothing is committed
  properties.set("enable.auto.commit", "false");
  properties.set("isolation.level", "read_committed");
  properties.set("enable.partition.eof", "true");
  properties.set("allow.auto.create.topics", "true");
  properties.set("fetch.error.backoff.ms", "10");
  auto* handle = properties.make(RD_KAFKA_CONSUMER);
  rd_kafka_poll_set_consumer(handle);
  return handle;
}

int assign(rd_kafka_t* handle, const std::string& topic, std::int64_t offset) {
  int partitions = partitions_of(handle, topic);
  auto* list = rd_kafka_topic_partition_list_new(partitions);
  for (int i = 0; i < partitions; ++i) rd_kafka_topic_partition_list_add(list, topic.c_str(), i)->offset = offset;
  must(rd_kafka_assign(handle, list), "reader: assign");
  rd_kafka_topic_partition_list_destroy(list);
  return partitions;
}

}  // namespace

struct Reader::Inside {
  rd_kafka_t* handle = nullptr;
};

Reader::Reader(const std::string& brokers, const std::string& topic) : inside_(std::make_unique<Inside>()) {
  inside_->handle = make_reader(brokers);
  int partitions = assign(inside_->handle, topic, RD_KAFKA_OFFSET_END);
  for (int ends = 0; ends < partitions;) {  // until every partition said that we are at its end
    auto* message = rd_kafka_consumer_poll(inside_->handle, 20'000);
    if (message == nullptr) give_up("reader: the end of " + topic + " was not reached");
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) ++ends;
    rd_kafka_message_destroy(message);
  }
}

Reader::~Reader() {
  rd_kafka_consumer_close(inside_->handle);
  rd_kafka_destroy(inside_->handle);
}

bool Reader::next(std::string& value, double seconds) {
  for (double until = now() + seconds; now() < until;) {
    auto* message = rd_kafka_consumer_poll(inside_->handle, static_cast<int>(1e3 * (until - now())) + 1);
    if (message == nullptr) return false;
    bool good = message->err == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (good) value.assign(static_cast<const char*>(message->payload), message->len);
    rd_kafka_message_destroy(message);
    if (good) return true;
  }
  return false;
}

std::uint64_t count_committed(const std::string& brokers, const std::string& topic) {
  auto* handle = make_reader(brokers);
  int partitions = assign(handle, topic, RD_KAFKA_OFFSET_BEGINNING);
  std::uint64_t count = 0;
  for (int ends = 0; ends < partitions;) {
    auto* message = rd_kafka_consumer_poll(handle, 20'000);
    if (message == nullptr) give_up("reader: the end of " + topic + " was not reached");
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) ++ends;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) ++count;
    rd_kafka_message_destroy(message);
  }
  rd_kafka_consumer_close(handle);
  rd_kafka_destroy(handle);
  return count;
}

}  // namespace penstock::bench
