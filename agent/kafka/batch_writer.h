// BatchWriter: turns a batch into Kafka records, in two steps. plan() finds the topic and partition of each, before a
// transaction begins: so that none stays open while a topic is waited for, and so that the checkpoint, which goes first,
// can say where the rest will be. write() produces them.
//
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/forward/sink.h"
#include "agent/kafka/data_topics.h"
#include "agent/kafka/headers.h"
#include "agent/kafka/partitioner.h"
#include "agent/kafka/producer.h"
#include "agent/kafka/template.h"
#include "buffer/store.h"

namespace penstock {

/// The name of a lane, for ever the same.
using LaneNames = std::function<std::string(Lane)>;

class BatchWriter {
 public:
  /// `rejected`: a template or partitioner that can never work.
  static Result<BatchWriter> make(const KafkaSinkSettings& settings, LaneNames lanes);

  /// For the batch that is written next, if there are no obstacles. `transient`: the brokers do not answer, or our own
  /// topic for gap records is not there.
  Result<std::vector<Obstacle>> plan(Producer& producer, const Batch& batch, std::stop_token stop);
  /// Whether it is this batch that was planned, without obstacles, as far as that can be told.
  bool is_planned(const Batch& batch) const { return planned_ && places_.size() == batch.records.size(); }
  /// Where it will be written, each once; our own topics, but for the checkpoint's, too.
  const std::vector<TopicPartition>& partitions() const { return partitions_; }
  DataTopics& topics() { return topics_; }
  const DataTopics& topics() const { return topics_; }

  /// The records and gap records of the batch that was planned, numbered from 1. `rejected`: one will never be taken.
  Result<void> write(Producer& producer, const Batch& batch, WallTime now, const Patience& patience);
  /// `rejected` stays so for a record: it, or one near it, will never be taken.
  Error failure_of(const Batch& batch, std::size_t number, const Error& error);

 private:
  BatchWriter(const KafkaSinkSettings& settings, LaneNames lanes, Template topic, Template key,
              Partitioner partitioner);
  struct Place {
    rd_kafka_topic_s* topic = nullptr;
    std::int32_t partition = 0;
    DataTopics::EventTime times = DataTopics::EventTime::any;  // that it takes
  };
  bool insists(const StoredRecord& stored);
  bool note(const std::string& topic, const Place& place);
  Result<void> write_record(Producer& producer, const Batch& batch, std::size_t index, WallTime now,
                            const Patience& patience);
  Result<void> write_gap(Producer& producer, const Batch& batch, std::size_t index, const Patience& patience);
  const std::string& lane_name(Lane lane);

  KafkaSinkSettings settings_;
  LaneNames lanes_;
  Template topic_template_, key_template_;
  Partitioner partitioner_;
  HeaderWriter headers_;
  std::map<Lane, std::string> lane_names_;
  DataTopics topics_;
  std::map<Lane, Sequence> insisted_;  // the newest retry that was tried though its topic was in trouble
  std::string topic_text_, key_text_;

  // of the batch that was planned
  bool planned_ = false;
  std::vector<Place> places_;        // of each record
  std::vector<std::size_t> firsts_;  // the first record of each partition
  Place gaps_;
  std::vector<TopicPartition> partitions_;
  std::vector<Place> noted_;  // the same, without names
};

}  // namespace penstock
