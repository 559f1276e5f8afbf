// Where does Kafka stand? The question that KafkaSink::resume asks, in the order that makes the answer the last word:
//
//  1. init_transactions has returned: no transaction of ours can still land.
//  2. The newest checkpoint of ours is read, whatever became of its transaction. It names the partitions that hold, from
//     given offsets on, all that we have written without proof: its window.
//  3. Every transaction in these partitions is decided, or is made so: what is still open after three seconds may be one
//     of ours that Kafka forgot, and is ended by aborting a transaction of ours there.
//  4. The newest checkpoint was committed, and we ended nothing: then so was all before it, and it says where Kafka stands.
//  5. Else a part of the window may have been taken back and another not. It is read, and what is seen there has landed.
//
// One thread, that of the producer. A crash leaves at most one open transaction of ours, with no record in it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/forward/sink.h"
#include "agent/kafka/checkpoint_reader.h"
#include "agent/kafka/client.h"
#include "agent/kafka/producer.h"
#include "agent/kafka/read_back.h"
#include "agent/kafka/window.h"

namespace penstock {

struct FoundStanding {
  Standing standing;
  std::optional<CheckpointPlace> place;  // of the newest checkpoint
  std::string newest;                    // and its value, as it was produced
  Offsets since;                         // where what has landed above the checkpoint lies
  Offsets ends;                          // nothing undecided of ours lies before these
};

struct StandingQuestion {
  const KafkaSinkSettings& settings;
  std::shared_ptr<Producer> producer;         // initialised
  std::shared_ptr<SharedClient> uncommitted;  // a client of that role
  std::int32_t partitions = 0, expected = 0;  // of the checkpoints
  std::optional<CheckpointPlace> hint;
  CheckpointSearch& search;
  std::function<void(const char*)> doing;  // told what is waited for
};

/// `transient`: not now; also when the newest checkpoint cannot be understood, for going on from anything else would be a
/// guess. `kept` is what was read back so far, for the next call; it is made when it is needed.
Result<FoundStanding> read_standing(const StandingQuestion& question, std::unique_ptr<ReadBack>& kept,
                                    const Patience& patience);

/// The same at_least_once, where nothing can be known of what is under way: what is proven by the newest checkpoint is
/// there, and all that follows is sent (again). Only place and standing of the answer are filled in. The producer is not used.
Result<FoundStanding> read_proven(const StandingQuestion& question, const Patience& patience);

/// The newest checkpoint of ours, to be repeated in a transaction that is aborted.
struct NewestCheckpoint {
  std::string agent;
  std::int32_t partition = 0;
  std::string value;  // empty: there is none yet
};

/// Waits until every transaction that has written to these partitions is decided, and gives their ends as they were at the
/// call; those that are gone with their topic are left out. What is open for three seconds is ended, if it is ours, by
/// aborting a transaction of ours that writes there; `took_back` says so. The newest checkpoint goes in first, so that
/// whoever finds it later knows that a part of its window may have been taken back.
Result<Offsets> settle_partitions(Producer& producer, rd_kafka_s* uncommitted,
                                  const std::vector<TopicPartition>& partitions, const NewestCheckpoint& newest,
                                  bool& took_back, const Patience& patience);

}  // namespace penstock
