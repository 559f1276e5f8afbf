#include "agent/kafka/producer.h"

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "agent/kafka/offsets.h"
#include "agent/kafka/topics.h"

namespace penstock {
namespace {

/// Where a call that cannot be interrupted leaves its result.
struct CommitCall {
  std::mutex mutex;
  std::condition_variable_any finished;
  bool done = false;
  rd_kafka_error_t* error = nullptr;

  ~CommitCall() {
    if (error != nullptr) rd_kafka_error_destroy(error);
  }
};

/// Not of its topic, nor of the link: no other time and no other cluster state makes it fit.
bool is_of_the_record(rd_kafka_resp_err_t error) {
  switch (error) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD: return true;
    default: return false;
  }
}

/// Of the record, or of all that was sent to a partition along with it.
bool is_of_the_size(rd_kafka_resp_err_t error) {
  return error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || error == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE;
}

/// Not to be mended by sending again at once, no fault of the record, and not seen before something is written. Whether a
/// topic is there is seen before.
bool is_of_the_topic(rd_kafka_resp_err_t error) { return error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; }

/// A topic may get more partitions while we write to it; Java's clients look as often.
constexpr std::chrono::minutes kTopicIsKnownFor{5};

constexpr std::size_t kAilingNamed = 3;

constexpr std::chrono::milliseconds kReasonPatience{1'000};

constexpr const char* kFencedBecause =
    " (fenced: the link was away for longer than transaction_timeout, or a second agent uses this id)";

}  // namespace

Result<std::shared_ptr<Producer>> Producer::open(const KafkaSinkSettings& settings) {
  std::shared_ptr<Producer> producer(new Producer);
  producer->events_.on_delivery = [p = producer.get()](const ClientEvents::Delivery& delivery) {
    const auto number = reinterpret_cast<std::uintptr_t>(delivery.opaque);
    const auto error = static_cast<rd_kafka_resp_err_t>(delivery.error);
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return p->note_written(delivery);
    if (is_of_the_topic(error)) p->refused_topics_[rd_kafka_topic_name(delivery.topic)] = rd_kafka_err2str(error);
    if (is_of_the_size(error)) p->refused_size_ = true;
    if (error == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP) p->refused_times_.insert(rd_kafka_topic_name(delivery.topic));
    // The first failure drags the rest along: those are only purged, and say nothing of why.
    bool dragged = error == RD_KAFKA_RESP_ERR__PURGE_QUEUE || error == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
    if (p->failed_number_ && (dragged || (!p->dragged_ && *p->failed_number_ <= number))) return;
    p->dragged_ = dragged;
    p->failed_number_ = number;
    p->failure_ = {is_of_the_record(error) ? Fault::rejected : Fault::transient, rd_kafka_err2str(error)};
  };
  producer->transactional_ = settings.kafka.delivery == Delivery::exactly_once;
  auto role = producer->transactional_ ? Role::transactional_producer : Role::idempotent_producer;
  auto client = open_client(role, settings, producer->events_);
  if (!client) return client.error();
  producer->client_ = std::move(*client);
  return producer;
}

void Producer::note_written(const ClientEvents::Delivery& delivery) {
  // They come back from one partition after the other, so the one found last is the one, as a rule.
  for (auto written = written_.rbegin(); written != written_.rend(); ++written) {
    if (written->topic != delivery.topic || written->partition != delivery.partition) continue;
    written->offset = std::max(written->offset, delivery.offset);
    std::swap(*written, written_.back());
    return;
  }
  written_.push_back({delivery.topic, delivery.partition, delivery.offset});
}

Offsets Producer::written() const {
  Offsets offsets;
  for (const auto& each : written_) offsets[{rd_kafka_topic_name(each.topic), each.partition}] = each.offset;
  return offsets;
}

// ListOffsets answers with the last stable offset to whoever asks with isolation level read_committed, which librdkafka
// sends by default, producers included.
Offsets Producer::stable(const std::vector<TopicPartition>& partitions, std::chrono::milliseconds most) const {
  auto offsets = list_offsets(client_.get(), partitions, End::last, most);
  return offsets ? std::move(*offsets) : Offsets();
}

std::string Producer::text_of(rd_kafka_error_s* error) {
  bool fenced = rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__FENCED;
  std::string text = rd_kafka_error_string(error);
  rd_kafka_error_destroy(error);
  if (fenced) text += kFencedBecause;
  return text;
}

std::string Producer::fatal_text() const {
  char reason[512];
  auto code = rd_kafka_fatal_error(client_.get(), reason, sizeof reason);
  if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return {};
  bool fenced = code == RD_KAFKA_RESP_ERR__FENCED || code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
                code == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
  return std::string(reason) + (fenced ? kFencedBecause : "");
}

/// Why a message failed is on its way here when its transaction has failed, or when others were purged for it.
void Producer::await_reason(const Patience& patience) {
  for (const Patience most(kReasonPatience, patience.stop()); (!failed_number_ || dragged_) && !most.over();) {
    rd_kafka_poll(client_.get(), most.slice_ms());
  }
}

/// What made a message fail. One that was only purged says nothing of why: then the transaction cannot go on, and says so
/// to whoever would begin another one. So it tells of partitions that could not be made part of it; which these are,
/// librdkafka only logs ("... add partition "topic" [0] to transaction: ...").
Error Producer::failure() {
  if (!dragged_ || !transactional_) return failure_;
  auto* error = rd_kafka_begin_transaction(client_.get());
  if (error == nullptr || !rd_kafka_error_txn_requires_abort(error)) {
    if (error != nullptr) rd_kafka_error_destroy(error);
    return failure_;
  }
  const auto code = rd_kafka_error_code(error);
  const std::string why = rd_kafka_err2str(code);
  auto text = text_of(error);
  if (!is_of_the_topic(code)) return {failure_.fault, text};
  for (const auto& line : events_.recent()) {
    for (const auto& [name, topic] : topics_) {
      if (line.find(fmt::format("\"{}\" [", name)) == std::string::npos || line.find(why) == std::string::npos)
        continue;
      refused_topics_[name] = why;
    }
  }
  return {failure_.fault, text};
}

Result<void> Producer::initialise(const Patience& patience) {
  if (!transactional_) return {};
  // Resumable: a call that timed out goes on with the next one.
  while (true) {
    rd_kafka_error_t* error = rd_kafka_init_transactions(client_.get(), patience.slice_ms());
    if (error == nullptr) break;
    bool again = rd_kafka_error_is_retriable(error) && !rd_kafka_error_is_fatal(error);
    auto text = text_of(error);
    if (!again) return rejected(fmt::format("init_transactions: {}", text));
    rd_kafka_poll(client_.get(), 0);
    if (patience.over()) {
      auto last = events_.last();
      return transient(fmt::format("no transaction coordinator yet{}{}", last.empty() ? "" : ": ", last));
    }
  }
  initialised_ = true;
  return {};
}

Result<void> Producer::begin() {
  failed_number_.reset();
  dragged_ = false;
  written_.clear();
  refused_topics_.clear();
  refused_times_.clear();
  refused_size_ = false;
  events_.forget();
  if (!transactional_) return {};
  if (auto* error = rd_kafka_begin_transaction(client_.get())) {
    return transient(fmt::format("begin_transaction: {}", text_of(error)));
  }
  return {};
}

Result<void> Producer::produce(const Message& message, const Patience& patience) {
  rd_kafka_headers_t* headers = nullptr;
  if (message.headers != nullptr && !message.headers->empty()) {
    headers = rd_kafka_headers_new(message.headers->size());
    for (const auto& header : *message.headers) {
      rd_kafka_header_add(headers, header.name.data(), static_cast<ssize_t>(header.name.size()), header.value.data(),
                          static_cast<ssize_t>(header.value.size()));
    }
  }
  rd_kafka_vu_t values[8];
  values[0].vtype = RD_KAFKA_VTYPE_RKT;
  values[0].u.rkt = message.topic;
  values[1].vtype = RD_KAFKA_VTYPE_PARTITION;
  values[1].u.i32 = message.partition < 0 ? RD_KAFKA_PARTITION_UA : message.partition;
  values[2].vtype = RD_KAFKA_VTYPE_VALUE;
  values[2].u.mem.ptr = message.deleted ? nullptr : const_cast<char*>(message.value.data());
  values[2].u.mem.size = message.value.size();
  values[3].vtype = RD_KAFKA_VTYPE_KEY;
  values[3].u.mem.ptr = message.key.empty() ? nullptr : const_cast<char*>(message.key.data());
  values[3].u.mem.size = message.key.size();
  values[4].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
  values[4].u.i =
      RD_KAFKA_MSG_F_COPY;  // into the message's own allocation: what a purge leaves on the wire must not be ours
  values[5].vtype = RD_KAFKA_VTYPE_TIMESTAMP;
  values[5].u.i64 = message.timestamp;
  values[6].vtype = RD_KAFKA_VTYPE_OPAQUE;
  values[6].u.ptr = reinterpret_cast<void*>(static_cast<std::uintptr_t>(message.number));
  values[7].vtype = RD_KAFKA_VTYPE_HEADERS;
  values[7].u.headers = headers;
  std::size_t count = headers != nullptr ? 8 : 7;

  while (auto* error = rd_kafka_produceva(client_.get(), values, count)) {
    bool queue_full = rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__QUEUE_FULL;
    bool never = is_of_the_record(rd_kafka_error_code(error));
    auto text = text_of(error);
    if (queue_full && !patience.over()) {
      rd_kafka_poll(client_.get(), patience.slice_ms());
      continue;
    }
    if (headers != nullptr) rd_kafka_headers_destroy(headers);
    // An earlier message may have been refused meanwhile, and its transaction with it: then that is what happened.
    if (!never && !queue_full) await_reason(patience);
    if (failed_number_) return failure();
    return Error{never ? Fault::rejected : Fault::transient, text};
  }
  return {};
}

Result<void> Producer::flush(const Patience& patience) {
  rd_kafka_resp_err_t error;
  do {
    error = rd_kafka_flush(client_.get(), patience.slice_ms());
    if (auto fatal = fatal_text(); !fatal.empty()) {
      failed_number_.reset();  // no fault of a message
      return transient(fatal);
    }
    if (failed_number_) {
      await_reason(patience);
      return failure();
    }
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return {};
  } while (!patience.over());
  return transient(fmt::format("{} messages are not acknowledged{}", rd_kafka_outq_len(client_.get()),
                               patience.stopped() ? ", stopped" : ""));
}

std::string Producer::ailing(const std::vector<TopicPartition>& partitions, const Patience& patience) const {
  std::map<std::string, TopicLook> looks;
  std::string text;
  std::size_t found = 0;
  for (const auto& [name, partition] : partitions) {
    auto known = topics_.find(name);
    if (known == topics_.end()) continue;
    auto look = looks.find(name);
    if (look == looks.end()) {
      if (patience.over()) break;
      look = looks.emplace(name, look_at_topic(client_.get(), known->second.topic.get(), patience)).first;
    }
    auto why = look->second.ailing.find(partition);
    if (why == look->second.ailing.end() || ++found > kAilingNamed) continue;
    text += fmt::format("{}{}-{}: {}", text.empty() ? "" : "; ", name, partition, why->second);
  }
  if (found > kAilingNamed) text += fmt::format("; and {} more", found - kAilingNamed);
  return text;
}

Result<void> Producer::commit(const std::shared_ptr<Producer>& producer, const Patience& patience) {
  if (!producer->transactional_) return {};
  // -1, "the remaining transaction time", as librdkafka asks for: a shorter time would turn into an abort. So a stop cannot
  // end the call; it leaves the call behind, in a thread of its own.
  auto call = std::make_shared<CommitCall>();
  std::thread([call, producer, patience] {
    rd_kafka_error_t* error = nullptr;
    while ((error = rd_kafka_commit_transaction(producer->client_.get(), -1)) != nullptr) {
      bool again = rd_kafka_error_is_retriable(error) && !rd_kafka_error_is_fatal(error) &&
                   !rd_kafka_error_txn_requires_abort(error);
      if (!again || !rest(patience)) break;
      rd_kafka_error_destroy(error);
    }
    std::lock_guard lock(call->mutex);
    call->error = error;
    call->done = true;
    call->finished.notify_all();
  }).detach();

  std::unique_lock lock(call->mutex);
  auto done = [&] { return call->done; };
  if (!call->finished.wait(lock, patience.stop(), done) &&
      !call->finished.wait_for(lock, std::chrono::seconds(1), done)) {
    return transient("stopped while a commit was under way");
  }
  if (call->error == nullptr) return {};
  auto* error = std::exchange(call->error, nullptr);
  return transient(fmt::format("commit_transaction: {}", producer->text_of(error)));
}

// librdkafka 2.0.2 ends the process (an assertion in its handler of AddPartitionsToTxn) if it is destroyed at the very instant
// at which it would make partitions part of a transaction, a millisecond after the first message. Once it aborts, it does not.
void Producer::give_up() {
  if (!transactional_ || !initialised_) return;
  if (auto* error = rd_kafka_abort_transaction(client_.get(), 200)) rd_kafka_error_destroy(error);
}

Result<void> Producer::abort(const Patience& patience) {
  if (!transactional_) return {};
  // Resumable, as init_transactions.
  while (auto* error = rd_kafka_abort_transaction(client_.get(), patience.slice_ms() * 5)) {
    bool again = rd_kafka_error_is_retriable(error) && !rd_kafka_error_is_fatal(error);
    auto text = text_of(error);
    if (!again || !rest(patience)) return transient(fmt::format("abort_transaction: {}", text));
  }
  return {};
}

Result<Producer::KnownTopic> Producer::topic(const std::string& name, const Patience& patience, TopicState* state) {
  const auto now = std::chrono::steady_clock::now();
  auto found = topics_.find(name);
  if (found != topics_.end() && now - found->second.when < kTopicIsKnownFor) {
    return KnownTopic{found->second.topic.get(), found->second.partitions};
  }
  Topic opened;
  if (found == topics_.end()) {
    auto topic = open_topic(client_.get(), name);
    if (!topic) return topic.error();
    opened = std::move(*topic);
  }
  auto* handle = opened ? opened.get() : found->second.topic.get();
  TopicLook look;
  do {
    look = look_at_topic(client_.get(), handle, patience);
    if (look.state != TopicState::known) continue;
    auto& known = topics_[name];
    if (opened) known.topic = std::move(opened);
    known.partitions = look.partitions;
    known.when = now;
    return KnownTopic{handle, look.partitions};
  } while (look.state != TopicState::refused && rest(patience));
  if (state != nullptr) *state = look.state;
  return transient(fmt::format("topic {}: {}", name, look.why));
}

}  // namespace penstock
