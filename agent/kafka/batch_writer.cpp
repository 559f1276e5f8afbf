#include "agent/kafka/batch_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "agent/kafka/messages.h"

namespace penstock {
namespace {

constexpr std::chrono::seconds kFirstLook{10};  // a topic that is made by asking for it takes a while
constexpr std::size_t kObstacles = 1'000;
constexpr std::size_t kLargeKey = 1'024;  // so large that it may be what makes a record too large

}  // namespace

BatchWriter::BatchWriter(const KafkaSinkSettings& settings, LaneNames lanes, Template topic, Template key,
                         Partitioner partitioner)
    : settings_(settings),
      lanes_(std::move(lanes)),
      topic_template_(std::move(topic)),
      key_template_(std::move(key)),
      partitioner_(std::move(partitioner)),
      headers_(settings.agent, settings.kafka.headers),
      topics_(settings.kafka) {}

Result<BatchWriter> BatchWriter::make(const KafkaSinkSettings& settings, LaneNames lanes) {
  auto topic = Template::parse(settings.kafka.topic);
  if (!topic) return rejected("kafka.topic: " + topic.error().what);
  auto key = Template::parse(settings.kafka.key);
  if (!key) return rejected("kafka.key: " + key.error().what);
  auto partitioner = Partitioner::make(settings.kafka);
  if (!partitioner) return partitioner.error();
  return BatchWriter(settings, std::move(lanes), std::move(*topic), std::move(*key), std::move(*partitioner));
}

/// Somebody has asked for it to be tried again, so its topic is, once.
bool BatchWriter::insists(const StoredRecord& stored) {
  const auto& headers = stored.record.headers;
  bool is_retry =
      std::any_of(headers.begin(), headers.end(), [](const auto& header) { return header.name == kRetryOf; });
  auto& newest = insisted_[stored.lane];
  if (!is_retry || stored.sequence <= newest) return false;
  newest = stored.sequence;
  return true;
}

/// Whether it is a new one.
bool BatchWriter::note(const std::string& topic, const Place& place) {
  // Records of one stream follow each other, so the one noted last is the one, as a rule.
  for (auto known = noted_.rbegin(); known != noted_.rend(); ++known) {
    if (known->topic == place.topic && known->partition == place.partition) {
      std::swap(*known, noted_.back());
      return false;
    }
  }
  noted_.push_back(place);
  partitions_.emplace_back(topic, place.partition);
  return true;
}

Result<std::vector<Obstacle>> BatchWriter::plan(Producer& producer, const Batch& batch, std::stop_token stop) {
  planned_ = false;
  places_.clear();
  places_.reserve(batch.records.size());
  partitions_.clear();
  noted_.clear();
  firsts_.clear();
  topics_.tidy();
  const Patience patience(kFirstLook, stop);
  std::vector<Obstacle> obstacles;
  const bool varies = topic_template_.varies_by_record();
  Producer::KnownTopic topic;
  const DataTopics::Trouble* trouble = nullptr;  // with that topic
  auto times = DataTopics::EventTime::any;       // that it takes
  std::optional<Lane> waits;
  for (std::size_t i = 0; i < batch.records.size(); ++i) {
    const auto& stored = batch.records[i];
    const auto& record = stored.record;
    places_.emplace_back();
    if (waits == stored.lane) continue;
    const TemplateFields fields{settings_.agent, record.driver, record.stream, lane_name(stored.lane), record.key};
    if (varies || i == 0 || stored.lane != batch.records[i - 1].lane) {
      topic_template_.expand(fields, topic_text_);
      make_topic_name(topic_text_);
      auto looked = topics_.find(producer, topic_text_, topic, patience);
      if (!looked) return looked.error();
      trouble = *looked;
      times = topics_.event_time(topic_text_);
    }
    if (trouble != nullptr && insists(stored)) {
      auto looked = topics_.find(producer, topic_text_, topic, patience, true);
      if (!looked) return looked.error();
      trouble = *looked;
    }
    if (trouble != nullptr) {
      obstacles.push_back({stored.lane, stored.sequence, trouble->why, trouble->for_good});
      if (!trouble->for_good) waits = stored.lane;
      if (obstacles.size() == kObstacles || patience.over()) return obstacles;  // of the rest the next plan tells
      continue;
    }
    key_template_.expand(fields, key_text_);
    places_.back() = {topic.handle, partitioner_.choose(key_text_, topic.partitions), times};
    if (note(topic_text_, places_.back())) firsts_.push_back(i);
  }
  if (!obstacles.empty()) return obstacles;
  if (!batch.gaps.empty()) {
    auto found = producer.topic(kGapTopic, Patience(kFirstLook, std::move(stop)));
    if (!found) return found.error();
    gaps_ = {found->handle, partitioner_.choose(settings_.agent, found->partitions)};
    note(kGapTopic, gaps_);
  }
  planned_ = true;
  return obstacles;
}

// The first of each partition comes first: librdkafka makes partitions part of the transaction a millisecond after it has
// seen the first one, in one request. Those it sees later cost another round trip.
Result<void> BatchWriter::write(Producer& producer, const Batch& batch, WallTime now, const Patience& patience) {
  for (auto first : firsts_) {
    if (auto written = write_record(producer, batch, first, now, patience); !written) return written;
  }
  for (std::size_t i = 0; i < batch.gaps.size(); ++i) {
    if (auto written = write_gap(producer, batch, i, patience); !written) return written;
  }
  auto first = firsts_.begin();
  for (std::size_t i = 0; i < batch.records.size(); ++i) {
    if (first != firsts_.end() && *first == i) {
      ++first;
    } else if (auto written = write_record(producer, batch, i, now, patience); !written) {
      return written;
    }
  }
  return {};
}

Result<void> BatchWriter::write_record(Producer& producer, const Batch& batch, std::size_t index, WallTime now,
                                       const Patience& patience) {
  const auto& stored = batch.records[index];
  const auto& record = stored.record;
  const Place& place = places_[index];
  const std::string& lane = lane_name(stored.lane);
  key_template_.expand({settings_.agent, record.driver, record.stream, lane, record.key}, key_text_);
  Producer::Message message;
  message.topic = place.topic;
  message.partition = place.partition;
  message.key = key_text_;
  message.value = record.payload;
  if (DataTopics::takes(place.times, record.time, now)) {
    message.timestamp = kafka_timestamp(record.time, now, settings_.kafka.timestamp);
  }
  message.headers = &headers_.write(stored, lane);
  message.number = index + 1;
  auto produced = producer.produce(message, patience);
  if (produced) return {};
  return failure_of(batch, producer.failed_number().value_or(message.number), produced.error());
}

Result<void> BatchWriter::write_gap(Producer& producer, const Batch& batch, std::size_t index,
                                    const Patience& patience) {
  const auto& gap = batch.gaps[index];
  const std::string value = encode_gap(gap, settings_.agent, lane_name(gap.lane));
  Producer::Message message;
  message.topic = gaps_.topic;
  message.partition = gaps_.partition;
  message.key = settings_.agent;
  message.value = value;
  message.number = batch.records.size() + index + 1;
  auto produced = producer.produce(message, patience);
  if (produced) return {};
  return failure_of(batch, producer.failed_number().value_or(message.number), produced.error());
}

const std::string& BatchWriter::lane_name(Lane lane) {
  auto& name = lane_names_[lane];
  if (name.empty()) name = lanes_(lane);
  return name;
}

Error BatchWriter::failure_of(const Batch& batch, std::size_t number, const Error& error) {
  if (number < 1 || number > batch.records.size()) {
    const char* name = number == 0 || number > batch.records.size() + batch.gaps.size() ? "checkpoint" : "gap record";
    return {Fault::transient, fmt::format("{}: {}", name, error.what)};
  }
  const auto& stored = batch.records[number - 1];
  const auto& record = stored.record;
  const auto& lane = lane_name(stored.lane);
  key_template_.expand({settings_.agent, record.driver, record.stream, lane, record.key}, key_text_);
  auto size = key_text_.size() < kLargeKey
                  ? fmt::format("{} bytes", record.payload.size())
                  : fmt::format("payload of {} bytes, key of {} bytes", record.payload.size(), key_text_.size());
  return {error.fault, fmt::format("lane {}, sequence {} ({}): {}", lane, stored.sequence.value(), size, error.what)};
}

}  // namespace penstock
