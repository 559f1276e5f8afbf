#include "agent/kafka/topic_scan.h"

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <map>
#include <memory>
#include <regex>

namespace penstock {
namespace {

struct ScanPart {
  rd_kafka_topic_s* topic = nullptr;
  std::string name;
  std::int32_t partition = 0;
  std::int64_t position = 0, end = 0;
  bool started = false;
};

struct MessageDeleter {
  void operator()(rd_kafka_message_t* message) const { rd_kafka_message_destroy(message); }
};

Result<bool> matches(const std::string& expression, const std::string& name) {
  try {
    return std::regex_match(name, std::regex(expression));
  } catch (const std::regex_error& wrong) {
    return rejected(fmt::format("\"{}\" is not a regular expression: {}", expression, wrong.what()));
  }
}

/// The names and partitions of the topics asked for.
Result<std::map<std::string, std::int32_t>> choose(rd_kafka_t* client, const std::vector<std::string>& wanted,
                                                   const std::vector<std::string>& if_there, const Patience& patience) {
  const rd_kafka_metadata_t* raw = nullptr;
  rd_kafka_resp_err_t error;
  do {
    error = rd_kafka_metadata(client, 1, nullptr, &raw, patience.slice_ms() * 5);
  } while (error != RD_KAFKA_RESP_ERR_NO_ERROR && rest(patience));
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return transient(fmt::format("the topics could not be listed: {}", rd_kafka_err2str(error)));
  }
  std::unique_ptr<const rd_kafka_metadata_t, decltype(&rd_kafka_metadata_destroy)> metadata(raw,
                                                                                            rd_kafka_metadata_destroy);
  std::map<std::string, std::int32_t> chosen;
  for (int i = 0; i < metadata->topic_cnt; ++i) {
    const auto& topic = metadata->topics[i];
    if (std::find(if_there.begin(), if_there.end(), topic.topic) != if_there.end()) {
      chosen[topic.topic] = topic.partition_cnt;
    }
  }
  for (const auto& text : wanted) {
    bool any = false;
    for (int i = 0; i < metadata->topic_cnt; ++i) {
      const auto& topic = metadata->topics[i];
      bool match = text == topic.topic;
      if (!text.empty() && text[0] == '^') {
        auto matched = matches(text, topic.topic);
        if (!matched) return matched.error();
        match = *matched;
      }
      if (!match) continue;
      chosen[topic.topic] = topic.partition_cnt;
      any = true;
    }
    if (!any) return rejected(fmt::format("no topic \"{}\" in this cluster", text));
  }
  return chosen;
}

class TopicScan {
 public:
  TopicScan(const ScanSettings& settings, const std::function<void(const SeenRecord&)>& seen, const Patience& patience)
      : settings_(settings), seen_(seen), patience_(patience) {}

  Result<ScanSummary> run() {
    if (auto opened = open(); !opened) return opened.error();
    if (auto found = find_ends(); !found) return found.error();
    auto read = read_all();
    for (auto& part : parts_) {
      if (part.started) rd_kafka_consume_stop(part.topic, part.partition);
    }
    if (!read) return read.error();
    return summary_;
  }

 private:
  Result<void> open() {
    KafkaSinkSettings own{"verify", settings_.kafka, false};
    auto ends = open_client(Role::uncommitted_reader, own, events_);
    if (!ends) return ends.error();
    uncommitted_ = std::move(*ends);
    auto role = settings_.committed ? Role::committed_reader : Role::uncommitted_reader;
    auto client = open_client(role, own, events_);
    if (!client) return client.error();
    client_ = std::move(*client);
    return {};
  }

  Result<void> find_ends() {
    auto chosen = choose(uncommitted_.get(), settings_.topics, settings_.if_there, patience_);
    if (!chosen) return chosen.error();
    for (const auto& [name, partitions] : *chosen) {
      auto topic = open_topic(client_.get(), name);
      if (!topic) return topic.error();
      summary_.topics.push_back(name);
      for (std::int32_t partition = 0; partition < partitions; ++partition) {
        ScanPart part{topic->get(), name, partition};
        rd_kafka_resp_err_t error;
        do {
          error = rd_kafka_query_watermark_offsets(uncommitted_.get(), name.c_str(), partition, &part.position,
                                                   &part.end, patience_.slice_ms() * 5);
        } while (error != RD_KAFKA_RESP_ERR_NO_ERROR && rest(patience_));
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
          return transient(
              fmt::format("the end of {} [{}] could not be asked for: {}", name, partition, rd_kafka_err2str(error)));
        }
        if (part.position > 0) summary_.trimmed = true;
        parts_.push_back(std::move(part));
      }
      topics_.push_back(std::move(*topic));
    }
    return {};
  }

  Result<void> read_all() {
    queue_.reset(rd_kafka_queue_new(client_.get()));
    std::size_t open = 0;
    for (auto& part : parts_) {
      if (part.position >= part.end) continue;
      if (rd_kafka_consume_start_queue(part.topic, part.partition, part.position, queue_.get()) != 0) {
        return transient(
            fmt::format("{} [{}]: {}", part.name, part.partition, rd_kafka_err2str(rd_kafka_last_error())));
      }
      part.started = true;
      ++open;
    }
    std::string trouble;
    rd_kafka_message_t* batch[256];
    while (open > 0 && !patience_.over()) {
      rd_kafka_poll(client_.get(), 0);
      auto count = rd_kafka_consume_batch_queue(queue_.get(), patience_.slice_ms(), batch, std::size(batch));
      for (ssize_t i = 0; i < count; ++i) {
        std::unique_ptr<rd_kafka_message_t, MessageDeleter> message(batch[i]);
        auto* part = part_of(message->rkt, message->partition);
        if (part == nullptr || part->position >= part->end) continue;
        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
          part->position = std::max(part->position, message->offset);
        } else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
          trouble = rd_kafka_message_errstr(message.get());
          continue;
        } else {
          if (message->offset < part->end) tell(*part, *message);
          part->position = message->offset + 1;
        }
        if (part->position >= part->end) --open;
      }
    }
    if (open == 0) return {};
    auto late =
        std::find_if(parts_.begin(), parts_.end(), [](const ScanPart& part) { return part.position < part.end; });
    return transient(fmt::format("{} [{}] could only be read up to offset {} of {}: {}", late->name, late->partition,
                                 late->position, late->end, trouble.empty() ? "an open transaction?" : trouble));
  }

  ScanPart* part_of(rd_kafka_topic_t* topic, std::int32_t partition) {
    for (auto& part : parts_) {
      if (part.topic == topic && part.partition == partition) return &part;
    }
    return nullptr;
  }

  void tell(const ScanPart& part, const rd_kafka_message_t& message) {
    ++summary_.records;
    seen_(seen_record(message, part.name));
  }

  struct QueueDeleter {
    void operator()(rd_kafka_queue_t* queue) const { rd_kafka_queue_destroy(queue); }
  };

  const ScanSettings& settings_;
  const std::function<void(const SeenRecord&)>& seen_;
  const Patience& patience_;
  ScanSummary summary_;
  ClientEvents events_;
  Client uncommitted_, client_;
  std::vector<Topic> topics_;
  std::vector<ScanPart> parts_;
  std::unique_ptr<rd_kafka_queue_t, QueueDeleter> queue_;
};

}  // namespace

SeenRecord seen_record(const rd_kafka_message_s& message, std::string_view topic) {
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

Result<ScanSummary> scan_topics(const ScanSettings& settings, const std::function<void(const SeenRecord&)>& seen,
                                const Patience& patience) {
  return TopicScan(settings, seen, patience).run();
}

}  // namespace penstock
