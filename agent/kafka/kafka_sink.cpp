#include "agent/kafka/kafka_sink.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

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
#include "agent/kafka/wire.h"

namespace penstock {
namespace {

constexpr const char* kPlaceNote = "kafka/checkpoint";  // "partition:offset" of our newest checkpoint
constexpr std::chrono::milliseconds kTopicPatience{10'000};
constexpr std::chrono::milliseconds kProofPatience{1'000};
constexpr std::chrono::milliseconds kAilingPatience{2'000};

KafkaSinkSettings with_wire(KafkaSinkSettings settings) {
  settings.wire = std::make_shared<Wire>(settings.kafka.rate_limit);
  return settings;
}

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
      : settings(with_wire(given)),
        exactly_once(given.kafka.delivery == Delivery::exactly_once),
        writer(std::move(writes)),
        notes(kept),
        clock(time),
        lookout(settings, time, search),
        pace(given.kafka.rate_limit) {}

  Result<Standing> resume(const Patience& patience);
  void wait_for_rate(std::stop_token stop);
  Result<void> transact(const Batch& batch, const Patience& patience);
  Result<void> send(const Batch& batch, const Patience& patience);
  std::string checkpoint_for(const Batch& batch, WallTime now) const;
  Error learn_from(const Error& error);
  void distrust();
  Result<void> clean(const Patience& patience);
  Result<void> open_reader();
  std::optional<Checkpoint> proven();
  void close(const Checkpoint& proven, const Patience& patience);
  Result<void> produce_checkpoint(std::string value, const Patience& patience);
  Result<void> flush(const Batch& batch, const Patience& patience);
  std::chrono::milliseconds transaction_timeout() const { return settings.kafka.transaction_timeout; }

  void tell(bool ok, std::string error);

  const KafkaSinkSettings settings;
  const bool exactly_once;
  BatchWriter writer;
  Notes& notes;
  const Clock& clock;
  CheckpointSearch search;
  TwinLookout lookout;
  Pace pace;

  std::shared_ptr<Producer> producer;    // none: resume makes one
  std::shared_ptr<SharedClient> reader;  // reads uncommitted, while there are partitions to look at
  bool ready = false;                    // it was initialised and the checkpoint read
  bool verified = false;                 // our own topics are what they must be
  std::unique_ptr<ReadBack> read_back;   // that is not yet at its end
  Window window;
  RequestSize request_size;
  NewestCheckpoint newest;    // that Kafka has of us, or may have
  std::string failed_commit;  // why the last one did; empty: it did not

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
  if (auto checked = check_client_settings(settings); !checked) return checked.error();
  auto inside = std::make_unique<Inside>(settings, std::move(*writer), notes, clock);
  return std::unique_ptr<KafkaSink>(new KafkaSink(std::move(inside)));
}

Result<Standing> KafkaSink::resume(std::stop_token stop) {
  auto standing = inside_->resume(Patience(inside_->transaction_timeout(), std::move(stop)));
  inside_->tell(standing.ok(), standing ? "" : standing.error().what);
  return standing;
}

Result<std::vector<Obstacle>> KafkaSink::prepare(const Batch& batch, std::stop_token stop) {
  if (!inside_->ready) return transient("prepare without resume");
  inside_->doing = "looking up topics";
  auto planned = inside_->writer.plan(*inside_->producer, batch, std::move(stop));
  inside_->tell(planned.ok(), planned ? "" : planned.error().what);
  if (!planned) inside_->distrust();
  return planned;
}

void KafkaSink::pace(std::stop_token stop) { inside_->wait_for_rate(std::move(stop)); }

Result<void> KafkaSink::commit(const Batch& batch, std::stop_token stop) {
  auto committed = inside_->transact(batch, Patience(inside_->transaction_timeout(), std::move(stop)));
  inside_->failed_commit = committed ? "" : committed.error().what;
  inside_->tell(committed.ok(), inside_->failed_commit);
  if (!committed) inside_->distrust();
  return committed;
}

void KafkaSink::Inside::distrust() {
  ready = false;
  if (producer) producer->give_up();
  producer.reset();
}

std::optional<Checkpoint> KafkaSink::proven(std::stop_token) { return inside_->proven(); }

void KafkaSink::pause(const Checkpoint& proven, std::stop_token stop) {
  inside_->close(proven, Patience(kProofPatience, std::move(stop)));
}

KafkaSinkStatus KafkaSink::status() const {
  std::lock_guard lock(inside_->mutex);
  auto status = inside_->status;
  status.doing = inside_->doing.load();
  status.duplicate_id = inside_->lookout.duplicate();
  const auto carried = inside_->settings.wire->carried();
  status.sent_bytes = carried.sent;
  status.received_bytes = carried.received;
  return status;
}

/// What a transaction has met last stays wrong until one succeeds: that the brokers answer questions meanwhile mends nothing.
void KafkaSink::Inside::tell(bool ok, std::string error) {
  doing = "";
  if (error.empty()) {
    error = failed_commit;
  } else if (!failed_commit.empty() && error != failed_commit) {
    error += fmt::format(" (the last transaction: {})", failed_commit);
  }
  auto complaint = producer ? producer->complaint() : std::string();
  std::lock_guard lock(mutex);
  status.connected = ok;
  status.error = std::move(error);
  status.topics = writer.topics().unwritable();
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
    auto with = settings;
    with.request_bytes = request_size.bytes(clock.boottime());
    auto opened = Producer::open(with);
    if (!opened) return transient(opened.error().what);
    producer = std::move(*opened);
    std::lock_guard lock(mutex);
    ++status.producers;
  }
  // First this: from now on no transaction of an earlier producer can land. Only then is what we read the last word.
  if (!producer->initialised()) {
    doing = "init_transactions";
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
  const StandingQuestion question{settings, producer, reader, *partitions,
                                  expected, hint,     search, [this](const char* step) { doing = step; }};
  auto found = exactly_once ? read_standing(question, read_back, patience) : read_proven(question, patience);
  if (!found) {
    distrust();  // the next try begins with init_transactions, which waits for the broker and can be stopped
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
  if (!exactly_once) strange.clear();  // nothing of it is ever open
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

/// Never while a transaction is open. What is not waited for now is the next one's to wait for.
void KafkaSink::Inside::wait_for_rate(std::stop_token stop) {
  if (settings.kafka.rate_limit == 0) return;
  auto wait = pace.wait(settings.wire->carried().sent, clock.boottime());
  if (wait == BootTime::zero()) return;
  doing = "waiting for rate_limit";
  clock.sleep(wait, std::move(stop));
  doing = "";
}

Result<void> KafkaSink::Inside::transact(const Batch& batch, const Patience& patience) {
  if (!ready || !writer.is_planned(batch)) return transient("commit without resume and prepare");
  if (auto cleaned = clean(patience); !cleaned) return cleaned;
  const auto began = clock.boottime();
  auto sent = send(batch, patience);
  if (!sent) return learn_from(sent.error());
  request_size.moved(bytes_of(batch), clock.boottime() - began);
  writer.topics().written(writer.partitions());
  // Without transactions what is acknowledged is there: nothing has to be proven.
  window.committed(batch.after, batch.islands, exactly_once ? producer->written() : Offsets());
  std::lock_guard lock(mutex);
  ++status.transactions;
  status.records += batch.records.size();
  status.gaps += batch.gaps.size();
  return {};
}

/// What the failure of a transaction says of topics. A time stamp that is refused is no fault of its record: it is mended by
/// sending once more, or else by whoever sets the clocks.
Error KafkaSink::Inside::learn_from(const Error& error) {
  for (const auto& [topic, why] : producer->refused_topics()) writer.topics().refuse(topic, why);
  const bool set_by_user = settings.kafka.properties.count("batch.size") != 0;
  if (error.fault == Fault::rejected && producer->refused_size() && !set_by_user &&
      request_size.refused(clock.boottime())) {
    return transient(
        fmt::format("{}; maybe because of what is sent along with it: smaller requests from now on", error.what));
  }
  std::string what = error.what;
  for (const auto& topic : producer->refused_times()) {
    if (writer.topics().refuse_time(topic)) continue;
    what = fmt::format(
        "topic {} refuses even the present time as time stamp: the clock of the brokers or of this machine is wrong",
        topic);
    if (topic != kCheckpointTopic && topic != kGapTopic) writer.topics().refuse(topic, what, false);
  }
  return {error.fault, what};
}

/// What the checkpoint that goes with the batch says.
std::string KafkaSink::Inside::checkpoint_for(const Batch& batch, WallTime now) const {
  Checkpoint checkpoint = batch.after;
  if (!exactly_once) {  // nothing holds the two together
    checkpoint.sent = std::exchange(checkpoint.delivered, batch.base.delivered);
    checkpoint.ledger = batch.base.ledger;
  }
  return encode_checkpoint(checkpoint, window.note(batch.base, writer.partitions()), settings.agent, now);
}

Result<void> KafkaSink::Inside::produce_checkpoint(std::string value, const Patience& patience) {
  auto own = producer->topic(kCheckpointTopic, Patience(kTopicPatience, patience.stop()));
  if (!own) return own.error();
  newest.value = std::move(value);
  Producer::Message checkpoint;
  checkpoint.topic = own->handle;
  checkpoint.partition = newest.partition;
  checkpoint.key = settings.agent;
  checkpoint.value = newest.value;
  return producer->produce(checkpoint, patience);
}

/// At_least_once the newest checkpoint speaks of what was acknowledged before its batch. No harm if this one gets lost.
void KafkaSink::Inside::close(const Checkpoint& proven, const Patience& patience) {
  if (exactly_once || !ready) return;
  if (!producer->begin()) return;
  auto value = encode_checkpoint(proven, window.note(proven, {}), settings.agent, clock.wall());
  if (auto produced = produce_checkpoint(std::move(value), patience); !produced) return;
  if (!producer->flush(patience)) spdlog::debug("kafka: the closing checkpoint is not acknowledged yet");
}

/// Until all of the batch that was produced is acknowledged; else it says why, if the brokers tell.
Result<void> KafkaSink::Inside::flush(const Batch& batch, const Patience& patience) {
  doing = "flush";
  auto flushed = producer->flush(patience);
  if (flushed) return flushed;
  const auto& error = flushed.error();
  if (auto number = producer->failed_number()) return writer.failure_of(batch, *number, error);
  if (!patience.over() || patience.stopped()) return flushed;
  doing = "looking why nothing is acknowledged";
  auto partitions = writer.partitions();
  partitions.emplace_back(kCheckpointTopic, newest.partition);
  auto ailing = producer->ailing(partitions, Patience(kAilingPatience, patience.stop()));
  return ailing.empty() ? error : Error{error.fault, fmt::format("{}: {}", error.what, ailing)};
}

/// What was prepared: as one transaction, or just so.
Result<void> KafkaSink::Inside::send(const Batch& batch, const Patience& patience) {
  doing = "looking up topics";
  if (auto own = producer->topic(kCheckpointTopic, Patience(kTopicPatience, patience.stop())); !own) return own.error();
  if (auto begun = producer->begin(); !begun) return begun;
  doing = "produce";
  const WallTime now = clock.wall();
  if (auto produced = produce_checkpoint(checkpoint_for(batch, now), patience); !produced) {
    return writer.failure_of(batch, 0, produced.error());
  }
  // The checkpoint goes first: should the transaction be aborted, it may take back what an earlier one has left undecided,
  // and then only the checkpoint tells that this must be looked for. Without such an earlier one nobody need wait for it.
  if (window.unproven()) {
    if (auto flushed = flush(batch, patience); !flushed) return flushed;
    doing = "produce";
  }
  if (auto written = writer.write(*producer, batch, now, patience); !written) return written;
  if (auto flushed = flush(batch, patience); !flushed) return flushed;
  doing = "commit_transaction";
  if (auto committed = Producer::commit(producer, patience); !committed) return committed;
  auto last = producer->written();
  if (auto place = last.find({kCheckpointTopic, newest.partition}); place != last.end()) {
    notes.set(kPlaceNote, place_text({newest.partition, place->second}));
  }
  return {};
}

std::optional<Checkpoint> KafkaSink::Inside::proven() {
  if (!ready || !window.unproven()) return std::nullopt;
  return window.prove(producer->stable(window.asked(), kProofPatience));
}

}  // namespace penstock
