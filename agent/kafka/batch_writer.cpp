#include "agent/kafka/batch_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/kafka/messages.h"

namespace penstock {

BatchWriter::BatchWriter(const KafkaSinkSettings& settings, LaneNames lanes, Template topic, Template key,
                         Partitioner partitioner)
    : settings_(settings),
      lanes_(std::move(lanes)),
      topic_template_(std::move(topic)),
      key_template_(std::move(key)),
      partitioner_(std::move(partitioner)),
      headers_(settings.agent, settings.kafka.headers) {}

Result<BatchWriter> BatchWriter::make(const KafkaSinkSettings& settings, LaneNames lanes) {
  auto topic = Template::parse(settings.kafka.topic);
  if (!topic) return rejected("kafka.topic: " + topic.error().what);
  auto key = Template::parse(settings.kafka.key);
  if (!key) return rejected("kafka.key: " + key.error().what);
  auto partitioner = Partitioner::make(settings.kafka);
  if (!partitioner) return partitioner.error();
  return BatchWriter(settings, std::move(lanes), std::move(*topic), std::move(*key), std::move(*partitioner));
}

Result<Producer::KnownTopic> BatchWriter::find(Producer& producer, const std::string& name, const Patience& patience) {
  auto found = producer.topic(name, patience);
  if (!found && !patience.stopped()) unwritable_[name] = found.error().what;
  return found;
}

void BatchWriter::note(const std::string& topic, const Place& place) {
  // Records of one stream follow each other, so the one noted last is the one, as a rule.
  for (auto known = noted_.rbegin(); known != noted_.rend(); ++known) {
    if (known->topic == place.topic && known->partition == place.partition) return std::swap(*known, noted_.back());
  }
  noted_.push_back(place);
  partitions_.emplace_back(topic, place.partition);
}

Result<void> BatchWriter::plan(Producer& producer, const Batch& batch, const Patience& patience) {
  places_.clear();
  places_.reserve(batch.records.size());
  partitions_.clear();
  noted_.clear();
  unwritable_.clear();
  const bool varies = topic_template_.varies_by_record();
  Producer::KnownTopic topic;
  for (std::size_t i = 0; i < batch.records.size(); ++i) {
    const auto& stored = batch.records[i];
    const auto& record = stored.record;
    const TemplateFields fields{settings_.agent, record.driver, record.stream, lane_name(stored.lane), record.key};
    if (varies || i == 0 || stored.lane != batch.records[i - 1].lane) {
      topic_template_.expand(fields, topic_text_);
      make_topic_name(topic_text_);
      auto found = find(producer, topic_text_, patience);
      if (!found) return found.error();
      topic = *found;
      if (producer.topics() > settings_.kafka.max_topics + 2) {
        return transient(fmt::format("lane {}, sequence {}: topic {} would be one more than max_topics = {}",
                                     lane_name(stored.lane), stored.sequence.value(), topic_text_,
                                     settings_.kafka.max_topics));
      }
    }
    key_template_.expand(fields, key_text_);
    Place place{topic.handle, partitioner_.choose(key_text_, topic.partitions)};
    places_.push_back(place);
    note(topic_text_, place);
  }
  if (batch.gaps.empty()) return {};
  auto found = find(producer, kGapTopic, patience);
  if (!found) return found.error();
  gaps_ = {found->handle, partitioner_.choose(settings_.agent, found->partitions)};
  note(kGapTopic, gaps_);
  return {};
}

Result<void> BatchWriter::write(Producer& producer, const Batch& batch, WallTime now, const Patience& patience) {
  std::size_t number = 0;
  auto produce = [&](Producer::Message& message, const Place& place) -> Result<void> {
    message.topic = place.topic;
    message.partition = place.partition;
    message.number = ++number;
    auto produced = producer.produce(message, patience);
    if (produced) return {};
    return failure_of(batch, producer.failed_number().value_or(number), produced.error());
  };
  for (const auto& stored : batch.records) {
    const auto& record = stored.record;
    const std::string& lane = lane_name(stored.lane);
    key_template_.expand({settings_.agent, record.driver, record.stream, lane, record.key}, key_text_);
    Producer::Message message;
    message.key = key_text_;
    message.value = record.payload;
    message.timestamp = kafka_timestamp(record.time, now, settings_.kafka.timestamp);
    message.headers = &headers_.write(stored, lane);
    if (auto produced = produce(message, places_[number]); !produced) return produced;
  }
  for (const auto& gap : batch.gaps) {
    const std::string value = encode_gap(gap, settings_.agent, lane_name(gap.lane));
    Producer::Message message;
    message.key = settings_.agent;
    message.value = value;
    if (auto produced = produce(message, gaps_); !produced) return produced;
  }
  return {};
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
  return {error.fault, fmt::format("lane {}, sequence {} ({} bytes): {}", lane_name(stored.lane),
                                   stored.sequence.value(), stored.record.payload.size(), error.what)};
}

}  // namespace penstock
