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

  /// For the batch that is written next. `transient`: a topic is not there, or has no leaders; unwritable() says which.
  Result<void> plan(Producer& producer, const Batch& batch, const Patience& patience);
  /// Where it will be written, each once; our own topics, but for the checkpoint's, too.
  const std::vector<TopicPartition>& partitions() const { return partitions_; }
  /// Topics that the last plan could not find, and why.
  const std::map<std::string, std::string>& unwritable() const { return unwritable_; }

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
  };
  Result<Producer::KnownTopic> find(Producer& producer, const std::string& name, const Patience& patience);
  void note(const std::string& topic, const Place& place);
  const std::string& lane_name(Lane lane);

  KafkaSinkSettings settings_;
  LaneNames lanes_;
  Template topic_template_, key_template_;
  Partitioner partitioner_;
  HeaderWriter headers_;
  std::map<Lane, std::string> lane_names_;
  std::string topic_text_, key_text_;

  // of the batch that was planned
  std::vector<Place> places_;  // of each record
  Place gaps_;
  std::vector<TopicPartition> partitions_;
  std::vector<Place> noted_;  // the same, without names
  std::map<std::string, std::string> unwritable_;
};

}  // namespace penstock
