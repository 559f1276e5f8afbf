// BatchWriter: turns a batch into Kafka records, in two steps. plan() finds the topic and partition of each, before a
// transaction begins: so that none stays open while a topic is waited for, and so that the checkpoint, which goes first,
// can say where the rest will be. write() produces them.
//
// It remembers what it has learnt of topics: which cannot be written to now, and which refuse the time of an event as
// Kafka's time stamp.
//
// One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/forward/sink.h"
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
  /// What was planned is in Kafka.
  void written();
  /// The brokers have refused what was written there, and why. `may_set_aside`: if so configured.
  void refuse(const std::string& topic, const std::string& why, bool may_set_aside = true);
  /// Topics that cannot be written to, and why: as far as it is known.
  std::map<std::string, std::string> unwritable() const;
  /// The brokers have refused a time stamp there. False: it was the time of sending.
  bool refuse_time(const std::string& topic);

  /// The records and gap records of the batch that was planned, numbered from 1. `rejected`: one will never be taken.
  Result<void> write(Producer& producer, const Batch& batch, WallTime now, const Patience& patience);
  /// `rejected` stays so for a record: it, or one near it, will never be taken.
  Error failure_of(const Batch& batch, std::size_t number, const Error& error);

 private:
  BatchWriter(const KafkaSinkSettings& settings, LaneNames lanes, Template topic, Template key,
              Partitioner partitioner);
  enum class EventTime { any, recent, none };
  struct Place {
    rd_kafka_topic_s* topic = nullptr;
    std::int32_t partition = 0;
    EventTime times = EventTime::any;  // that it takes as Kafka's time stamp
  };
  struct Trouble {
    std::string why;
    bool for_good = false;
    std::chrono::steady_clock::time_point until;  // not tried again before
    std::chrono::milliseconds wait{0};            // since what was written was refused last
  };
  bool insists(const StoredRecord& stored);
  Result<const Trouble*> find(Producer& producer, const std::string& name, Producer::KnownTopic& topic,
                              std::stop_token stop);
  Trouble& trouble(const std::string& topic, std::string why, bool for_good, std::chrono::milliseconds wait);
  void forget_troubles();
  void note(const std::string& topic, const Place& place);
  const std::string& lane_name(Lane lane);

  KafkaSinkSettings settings_;
  LaneNames lanes_;
  Template topic_template_, key_template_;
  Partitioner partitioner_;
  HeaderWriter headers_;
  std::map<Lane, std::string> lane_names_;
  std::map<std::string, Trouble> unwritable_;
  Trouble too_many_;
  std::map<Lane, Sequence> insisted_;             // the newest retry that was tried though its topic was in trouble
  std::map<std::string, EventTime> event_times_;  // of topics that do not take any
  std::string topic_text_, key_text_;

  // of the batch that was planned
  bool planned_ = false;
  std::vector<Place> places_;  // of each record
  Place gaps_;
  std::vector<TopicPartition> partitions_;
  std::vector<Place> noted_;  // the same, without names
};

}  // namespace penstock
