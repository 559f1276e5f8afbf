#include "agent/kafka/kafka_sink.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <utility>

#include "agent/kafka/batch_writer.h"
#include "agent/kafka/messages.h"
#include "agent/kafka/producer.h"
#include "agent/kafka/standing.h"
#include "agent/kafka/template.h"
#include "agent/kafka/topics.h"
#include "agent/kafka/twin_lookout.h"
#include "agent/kafka/window.h"

namespace penstock {
namespace {

constexpr const char* kPlaceNote = "kafka/checkpoint";  // "partition:offset" of our newest checkpoint
constexpr std::chrono::milliseconds kTopicPatience{10'000};
constexpr std::chrono::milliseconds kProofPatience{1'000};

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
  Inside(const KafkaSinkSettings& given, BatchWriter writes, Notes& kept, const Clock& time)
      : settings(given), writer(std::move(writes)), notes(kept), clock(time), lookout(settings, time) {}

  Result<Standing> resume(const Patience& patience);
  Result<void> transact(const Batch& batch, const Patience& patience);
  Result<void> clean(const Patience& patience);
  Result<void> open_reader();
  std::optional<Checkpoint> proven();
  std::chrono::milliseconds transaction_timeout() const { return settings.kafka.transaction_timeout; }

  template <class Result>
  void tell(const Result& result);

  const KafkaSinkSettings settings;
  BatchWriter writer;
  Notes& notes;
  const Clock& clock;
  TwinLookout lookout;

  std::shared_ptr<Producer> producer;    // none: resume makes one
  std::shared_ptr<SharedClient> reader;  // reads uncommitted, while there are partitions to look at
  bool ready = false;                    // it was initialised and the checkpoint read
  bool verified = false;                 // our own topics are what they must be
  std::unique_ptr<ReadBack> read_back;   // that is not yet at its end
  Window window;
  NewestCheckpoint newest;  // that Kafka has of us, or may have

  std::atomic<const char*> doing{""};
  mutable std::mutex mutex;
  KafkaSinkStatus status;  // under the mutex
};

KafkaSink::KafkaSink(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}
KafkaSink::~KafkaSink() = default;

Result<std::unique_ptr<KafkaSink>> KafkaSink::open(const KafkaSinkSettings& settings, LaneNames lanes, Notes& notes,
                                                   const Clock& clock) {
  auto writer = BatchWriter::make(settings, std::move(lanes));
  if (!writer) return writer.error();
  if (settings.kafka.delivery != Delivery::exactly_once) {
    return rejected("kafka.delivery: only \"exactly_once\" is available in this version");
  }
  if (auto checked = check_client_settings(settings); !checked) return checked.error();
  auto inside = std::make_unique<Inside>(settings, std::move(*writer), notes, clock);
  return std::unique_ptr<KafkaSink>(new KafkaSink(std::move(inside)));
}

Result<Standing> KafkaSink::resume(std::stop_token stop) {
  auto standing = inside_->resume(Patience(inside_->transaction_timeout(), std::move(stop)));
  inside_->tell(standing);
  return standing;
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

std::optional<Checkpoint> KafkaSink::proven(std::stop_token) { return inside_->proven(); }

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
  for (const auto& [topic, why] : writer.unwritable()) status.topics[topic] = why;
  if (!complaint.empty()) status.librdkafka = std::move(complaint);
}

Result<void> KafkaSink::Inside::open_reader() {
  if (reader) return {};
  auto made = std::make_shared<SharedClient>();
  auto client = open_client(Role::uncommitted_reader, settings, made->events);
  if (!client) return transient(client.error().what);
  made->client = std::move(*client);
  reader = std::move(made);
  return {};
}

Result<Standing> KafkaSink::Inside::resume(const Patience& patience) {
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
  doing = "looking up our own topics";
  reader.reset();
  if (auto opened = open_reader(); !opened) return opened.error();
  auto partitions = prepare_own_topics(reader->client.get(), settings.look_after_topics && !verified, patience);
  if (!partitions) return partitions.error();
  verified = true;

  auto hint = parse_place(notes.get(kPlaceNote));
  if (hint && hint->partition >= *partitions) hint.reset();
  auto expected = hint ? hint->partition : checkpoint_partition(settings.agent, *partitions);
  auto found = read_standing(
      {settings, producer, reader, *partitions, expected, hint, [this](const char* step) { doing = step; }}, read_back,
      patience);
  if (!found) {
    producer.reset();  // the next try begins with init_transactions, which waits for the broker and can be stopped
    return found.error();
  }
  window.begin(std::move(found->since));
  for (const auto& [partition, end] : found->ends) {
    if (partition.first != kCheckpointTopic) window.clean(partition, end);
  }
  newest = {settings.agent, expected, std::move(found->newest)};
  if (found->place && found->place->partition == expected) notes.set(kPlaceNote, place_text(*found->place));
  ready = true;
  return std::move(found->standing);
}

/// The partitions of the batch that are new to this producer: what an earlier life of ours left open there, whose
/// checkpoint never came to lie in Kafka, would be decided along with what we write now.
Result<void> KafkaSink::Inside::clean(const Patience& patience) {
  std::vector<TopicPartition> strange;
  for (const auto& partition : writer.partitions()) {
    if (!window.is_clean(partition)) strange.push_back(partition);
  }
  if (strange.empty()) {
    reader.reset();
    return {};
  }
  doing = "waiting for open transactions";
  if (auto opened = open_reader(); !opened) return opened;
  bool took_back = false;
  auto ends = settle_partitions(*producer, reader->client.get(), strange, newest, took_back, patience);
  if (!ends) return ends.error();
  // What an earlier commit of this producer left undecided there is gone with it. Only asking tells.
  if (took_back && window.unproven()) return transient("an open transaction had to be ended");
  for (const auto& [partition, end] : *ends) window.clean(partition, end);
  return {};
}

Result<void> KafkaSink::Inside::transact(const Batch& batch, const Patience& patience) {
  if (!ready) return transient("commit without resume");
  doing = "looking up topics";
  const Patience for_topics(kTopicPatience, patience.stop());
  auto own = producer->topic(kCheckpointTopic, for_topics);
  if (!own) return own.error();
  if (auto planned = writer.plan(*producer, batch, for_topics); !planned) return planned;
  if (auto cleaned = clean(patience); !cleaned) return cleaned;

  if (auto begun = producer->begin(); !begun) return begun;
  doing = "produce";
  const WallTime now = clock.wall();
  newest.value = encode_checkpoint(batch.after, window.note(batch.base, writer.partitions()), settings.agent, now);
  Producer::Message checkpoint;
  checkpoint.topic = own->handle;
  checkpoint.partition = newest.partition;
  checkpoint.key = settings.agent;
  checkpoint.value = newest.value;
  auto failure = [&](const Error& error) {
    auto number = producer->failed_number();
    return number ? writer.failure_of(batch, *number, error) : error;
  };
  if (auto produced = producer->produce(checkpoint, patience); !produced) {
    return writer.failure_of(batch, 0, produced.error());
  }
  // The checkpoint goes first: should the transaction be aborted, it may take back what an earlier one has left undecided,
  // and then only the checkpoint tells that this must be looked for. Without such an earlier one nobody need wait for it.
  if (window.unproven()) {
    doing = "flush";
    if (auto flushed = producer->flush(patience); !flushed) return failure(flushed.error());
    doing = "produce";
  }
  if (auto written = writer.write(*producer, batch, now, patience); !written) return written;
  doing = "flush";
  if (auto flushed = producer->flush(patience); !flushed) return failure(flushed.error());
  doing = "commit_transaction";
  if (auto committed = Producer::commit(producer, patience); !committed) return committed;

  auto last = producer->written();
  if (auto place = last.find({kCheckpointTopic, newest.partition}); place != last.end()) {
    notes.set(kPlaceNote, place_text({newest.partition, place->second}));
  }
  window.committed(batch.after, batch.islands, last);
  std::lock_guard lock(mutex);
  ++status.transactions;
  status.records += batch.records.size();
  status.gaps += batch.gaps.size();
  return {};
}

std::optional<Checkpoint> KafkaSink::Inside::proven() {
  if (!ready || !window.unproven()) return std::nullopt;
  return window.prove(producer->stable(window.asked(), kProofPatience));
}

}  // namespace penstock
