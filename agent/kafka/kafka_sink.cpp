#include "agent/kafka/kafka_sink.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <utility>

#include "agent/kafka/checkpoint_reader.h"
#include "agent/kafka/headers.h"
#include "agent/kafka/messages.h"
#include "agent/kafka/producer.h"
#include "agent/kafka/template.h"
#include "agent/kafka/topics.h"
#include "agent/kafka/twin_lookout.h"

namespace penstock {
namespace {

constexpr const char* kPlaceNote = "kafka/checkpoint";  // "partition:offset" of our newest checkpoint
constexpr std::chrono::milliseconds kTopicPatience{10'000};
constexpr std::chrono::milliseconds kProofPatience{1'000};
/// The key of what end_undecided writes: no value, so that compaction removes it.
constexpr const char* kEndingKey = "penstock:ending";

std::string place_text(const CheckpointPlace& place) { return fmt::format("{}:{}", place.partition, place.offset); }

std::optional<CheckpointPlace> parse_place(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  CheckpointPlace place;
  const char* end = text->data() + text->size();
  auto [colon, wrong] = std::from_chars(text->data(), end, place.partition);
  if (wrong != std::errc() || colon == end || *colon != ':') return std::nullopt;
  auto [last, also_wrong] = std::from_chars(colon + 1, end, place.offset);
  if (also_wrong != std::errc() || last != end || place.partition < 0 || place.offset < 0) return std::nullopt;
  return place;
}

}  // namespace

struct KafkaSink::Inside {
  Inside(const KafkaSinkSettings& given, LaneNames names, Notes& kept, const Clock& time, Template topic, Template key)
      : settings(given),
        lanes(std::move(names)),
        notes(kept),
        clock(time),
        lookout(settings, time),
        topic_template(std::move(topic)),
        key_template(std::move(key)),
        headers(given.agent, given.kafka.headers) {}

  Result<std::optional<Checkpoint>> resume(const Patience& patience);
  Result<void> transact(const Batch& batch, const Patience& patience);
  Result<void> end_undecided(std::int32_t where, const Patience& patience);
  Result<void> produce_all(const Batch& batch, const Patience& patience);
  Result<void> find_topics(const Batch& batch, const Patience& patience);
  Result<rd_kafka_topic_s*> find_topic(const std::string& name, const Patience& patience);
  const std::string& lane_name(Lane lane);
  std::string name_of_message(const Batch& batch, std::size_t number);
  Error failure_of(const Batch& batch, std::size_t number, const Error& error);
  std::chrono::milliseconds transaction_timeout() const { return settings.kafka.transaction_timeout; }

  template <class Result>
  void tell(const Result& result);

  const KafkaSinkSettings settings;
  const LaneNames lanes;
  Notes& notes;
  const Clock& clock;
  TwinLookout lookout;
  const Template topic_template, key_template;
  HeaderWriter headers;

  std::shared_ptr<Producer> producer;  // none: resume makes one
  bool ready = false;                  // it was initialised and the checkpoint read
  bool verified = false;               // our own topics are what they must be
  std::int32_t partition = 0;          // of our checkpoints
  std::map<Lane, std::string> lane_names;
  std::vector<rd_kafka_topic_s*> topics;  // of the records of the batch at hand
  std::string topic_text, key_text;

  std::atomic<const char*> doing{""};
  mutable std::mutex mutex;
  KafkaSinkStatus status;  // under the mutex
};

KafkaSink::KafkaSink(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}
KafkaSink::~KafkaSink() = default;

Result<std::unique_ptr<KafkaSink>> KafkaSink::open(const KafkaSinkSettings& settings, LaneNames lanes, Notes& notes,
                                                   const Clock& clock) {
  auto topic = Template::parse(settings.kafka.topic);
  if (!topic) return rejected("kafka.topic: " + topic.error().what);
  auto key = Template::parse(settings.kafka.key);
  if (!key) return rejected("kafka.key: " + key.error().what);
  if (settings.kafka.delivery != Delivery::exactly_once) {
    return rejected("kafka.delivery: only \"exactly_once\" is available in this version");
  }
  if (auto checked = check_client_settings(settings); !checked) return checked.error();
  auto inside = std::make_unique<Inside>(settings, std::move(lanes), notes, clock, std::move(*topic), std::move(*key));
  return std::unique_ptr<KafkaSink>(new KafkaSink(std::move(inside)));
}

Result<std::optional<Checkpoint>> KafkaSink::resume(std::stop_token stop) {
  auto checkpoint = inside_->resume(Patience(inside_->transaction_timeout(), std::move(stop)));
  inside_->tell(checkpoint);
  return checkpoint;
}

Result<void> KafkaSink::commit(const Batch& batch, std::stop_token stop) {
  auto committed = inside_->transact(batch, Patience(inside_->transaction_timeout(), std::move(stop)));
  inside_->tell(committed);
  if (!committed) {
    inside_->ready = false;
    inside_->producer.reset();
  }
  return committed;
}

bool KafkaSink::proven(std::stop_token) { return inside_->ready && inside_->producer->decided(kProofPatience); }

KafkaSinkStatus KafkaSink::status() const {
  std::lock_guard lock(inside_->mutex);
  auto status = inside_->status;
  status.doing = inside_->doing.load();
  status.duplicate_id = inside_->lookout.duplicate();
  return status;
}

template <class Result>
void KafkaSink::Inside::tell(const Result& result) {
  doing = "";
  auto complaint = producer ? producer->complaint() : std::string();
  std::lock_guard lock(mutex);
  status.connected = result.ok();
  status.error = result.ok() ? std::string() : result.error().what;
  if (result.ok()) status.topics.clear();
  if (!complaint.empty()) status.librdkafka = std::move(complaint);
}

Result<std::optional<Checkpoint>> KafkaSink::Inside::resume(const Patience& patience) {
  // One that has been in use begins anew: asking means doubt. One that got no further than initialise() goes on.
  if (std::exchange(ready, false)) producer.reset();
  doing = "looking for another agent with this id";
  if (auto clear = lookout.clear(parse_place(notes.get(kPlaceNote)), patience); !clear) return clear.error();
  if (!producer) {
    auto opened = Producer::open(settings);
    if (!opened) return transient(opened.error().what);
    producer = std::move(*opened);
    std::lock_guard lock(mutex);
    ++status.producers;
  }
  // First this: from now on no transaction of an earlier producer can land. Only then is what we read the last word.
  doing = "init_transactions";
  if (!producer->initialised()) {
    auto initialised = producer->initialise(patience);
    if (!initialised) {
      if (initialised.error().fault != Fault::transient) producer.reset();
      return transient(initialised.error().what);
    }
  }
  doing = "reading the checkpoint";
  auto reader = std::make_shared<SharedClient>();
  auto client = open_client(Role::uncommitted_reader, settings, reader->events);
  if (!client) return transient(client.error().what);
  reader->client = std::move(*client);
  auto partitions = prepare_own_topics(reader->client.get(), settings.look_after_topics && !verified, patience);
  if (!partitions) return partitions.error();
  verified = true;

  auto hint = parse_place(notes.get(kPlaceNote));
  if (hint && hint->partition >= *partitions) hint.reset();
  auto expected = hint ? hint->partition : checkpoint_partition(settings.agent, *partitions);
  auto end = [&](std::int32_t where) { return end_undecided(where, patience); };
  auto found = read_checkpoint(settings, reader, *partitions, expected, hint, end, patience);
  if (!found) {
    producer.reset();  // the next try begins with init_transactions, which waits for the broker and can be stopped
    return found.error();
  }
  partition = expected;
  ready = true;
  if (!*found) return std::optional<Checkpoint>();
  if ((*found)->place.partition == expected) notes.set(kPlaceNote, place_text((*found)->place));
  return std::optional(std::move((*found)->checkpoint));
}

/// Decides whatever of ours is undecided in a partition of checkpoints, as "committed": that is what the coordinator said
/// of it (see KafkaSink). Does nothing to the transactions of others.
Result<void> KafkaSink::Inside::end_undecided(std::int32_t where, const Patience& patience) {
  doing = "ending an undecided transaction";
  auto own = find_topic(kCheckpointTopic, patience);
  if (!own) return own.error();
  if (auto begun = producer->begin(); !begun) return begun;
  Producer::Message message;
  message.topic = *own;
  message.partition = where;
  message.key = kEndingKey;
  message.deleted = true;
  if (auto produced = producer->produce(message, patience); !produced) return produced;
  if (auto flushed = producer->flush(patience); !flushed) return flushed;
  return Producer::commit(producer, patience);
}

Result<void> KafkaSink::Inside::transact(const Batch& batch, const Patience& patience) {
  if (!ready) return transient("commit without resume");
  doing = "looking up topics";
  if (auto found = find_topics(batch, Patience(kTopicPatience, patience.stop())); !found) return found;
  if (auto begun = producer->begin(); !begun) return begun;
  doing = "produce";
  if (auto produced = produce_all(batch, patience); !produced) return produced;
  doing = "flush";
  if (auto flushed = producer->flush(patience); !flushed) {
    auto number = producer->failed_number();
    if (!number) return flushed;
    return failure_of(batch, *number, flushed.error());
  }
  doing = "commit_transaction";
  if (auto committed = Producer::commit(producer, patience); !committed) return committed;

  auto own = find_topic(kCheckpointTopic, patience);
  for (const auto& written : producer->written()) {
    if (own && written.topic == *own && written.partition == partition) {
      notes.set(kPlaceNote, place_text({partition, written.offset}));
    }
  }
  std::lock_guard lock(mutex);
  ++status.transactions;
  status.records += batch.records.size();
  status.gaps += batch.gaps.size();
  return {};
}

Result<rd_kafka_topic_s*> KafkaSink::Inside::find_topic(const std::string& name, const Patience& patience) {
  auto found = producer->topic(name, patience);
  if (!found && !patience.stopped()) {
    std::lock_guard lock(mutex);
    status.topics[name] = found.error().what;
  }
  return found;
}

/// Before the transaction begins, so that it does not stay open while a topic is waited for.
Result<void> KafkaSink::Inside::find_topics(const Batch& batch, const Patience& patience) {
  topics.clear();
  topics.reserve(batch.records.size());
  const bool varies = topic_template.varies_by_record();
  for (std::size_t i = 0; i < batch.records.size(); ++i) {
    const StoredRecord& stored = batch.records[i];
    if (!varies && i > 0 && stored.lane == batch.records[i - 1].lane) {
      topics.push_back(topics.back());
      continue;
    }
    const Record& record = stored.record;
    topic_template.expand({settings.agent, record.driver, record.stream, lane_name(stored.lane), record.key},
                          topic_text);
    make_topic_name(topic_text);
    auto found = find_topic(topic_text, patience);
    if (!found) return found.error();
    topics.push_back(*found);
    if (producer->topics() > settings.kafka.max_topics + 2) {
      return transient(fmt::format("lane {}, sequence {}: topic {} would be one more than max_topics = {}",
                                   lane_name(stored.lane), stored.sequence.value(), topic_text,
                                   settings.kafka.max_topics));
    }
  }
  if (auto own = find_topic(kCheckpointTopic, patience); !own) return own.error();
  if (batch.gaps.empty()) return {};
  if (auto own = find_topic(kGapTopic, patience); !own) return own.error();
  return {};
}

Result<void> KafkaSink::Inside::produce_all(const Batch& batch, const Patience& patience) {
  const WallTime now = clock.wall();
  auto produce = [&](Producer::Message& message, std::size_t number) -> Result<void> {
    message.number = number;
    auto produced = producer->produce(message, patience);
    return produced ? Result<void>() : failure_of(batch, number, produced.error());
  };
  // The checkpoint goes first, so that its partition belongs to the transaction before any other: should it be aborted,
  // it takes back what an earlier one left undecided there as well, and we go on from where Kafka really stands.
  auto checkpoints = find_topic(kCheckpointTopic, patience);
  if (!checkpoints) return checkpoints.error();
  std::string value = encode_checkpoint(batch.after, settings.agent, now);
  Producer::Message checkpoint;
  checkpoint.topic = *checkpoints;
  checkpoint.partition = partition;
  checkpoint.key = settings.agent;
  checkpoint.value = value;
  if (auto produced = produce(checkpoint, batch.records.size() + batch.gaps.size() + 1); !produced) return produced;

  std::size_t number = 0;
  for (const auto& stored : batch.records) {
    const Record& record = stored.record;
    const std::string& lane = lane_name(stored.lane);
    key_template.expand({settings.agent, record.driver, record.stream, lane, record.key}, key_text);
    Producer::Message message;
    message.topic = topics[number];
    message.key = key_text;
    message.value = record.payload;
    message.timestamp = kafka_timestamp(record.time, now, settings.kafka.timestamp);
    message.headers = &headers.write(stored, lane);
    if (auto produced = produce(message, ++number); !produced) return produced;
  }
  if (batch.gaps.empty()) return {};
  auto gaps = find_topic(kGapTopic, patience);
  if (!gaps) return gaps.error();
  for (const auto& gap : batch.gaps) {
    value = encode_gap(gap, settings.agent, lane_name(gap.lane));
    Producer::Message message;
    message.topic = *gaps;
    message.key = settings.agent;
    message.value = value;
    if (auto produced = produce(message, ++number); !produced) return produced;
  }
  return {};
}

const std::string& KafkaSink::Inside::lane_name(Lane lane) {
  auto& name = lane_names[lane];
  if (name.empty()) name = lanes(lane);
  return name;
}

/// `rejected` stays so: a message near it, if not itself, will never be taken. But it must be a record.
Error KafkaSink::Inside::failure_of(const Batch& batch, std::size_t number, const Error& error) {
  bool record = number <= batch.records.size();
  return {record ? error.fault : Fault::transient, fmt::format("{}: {}", name_of_message(batch, number), error.what)};
}

/// Numbers begin at 1: the records, the gaps, the checkpoint.
std::string KafkaSink::Inside::name_of_message(const Batch& batch, std::size_t number) {
  if (number >= 1 && number <= batch.records.size()) {
    const auto& stored = batch.records[number - 1];
    return fmt::format("lane {}, sequence {} ({} bytes)", lane_name(stored.lane), stored.sequence.value(),
                       stored.record.payload.size());
  }
  return number <= batch.records.size() + batch.gaps.size() ? "gap record" : "checkpoint";
}

}  // namespace penstock
