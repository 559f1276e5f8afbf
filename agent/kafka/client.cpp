#include "agent/kafka/client.h"

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "agent/kafka/offsets.h"
#include "agent/kafka/wire.h"

namespace penstock {
namespace {

constexpr std::size_t kRecentNotes = 64;

using Properties = std::vector<std::pair<std::string, std::string>>;

struct ConfDeleter {
  void operator()(rd_kafka_conf_t* conf) const { rd_kafka_conf_destroy(conf); }
};

bool is_producer(Role role) { return role == Role::transactional_producer || role == Role::idempotent_producer; }

ClientEvents* events_of(void* opaque) { return static_cast<ClientEvents*>(opaque); }

void on_log(const rd_kafka_t* client, int level, const char* facility, const char* text) {
  if (std::string_view(facility) == "CONFWARN") return;  // properties meant for the other kind of client
  auto* events = client != nullptr ? events_of(rd_kafka_opaque(client)) : nullptr;
  if (events == nullptr) return;
  events->log(facility, text);
  if (level <= 4) events->note(text);  // syslog's warning and worse
}

void on_error(rd_kafka_t*, int error, const char* reason, void* opaque) {
  events_of(opaque)->note(fmt::format("{}: {}", rd_kafka_err2str(static_cast<rd_kafka_resp_err_t>(error)), reason));
}

void on_delivery(rd_kafka_t*, const rd_kafka_message_t* message, void* opaque) {
  auto* events = events_of(opaque);
  if (!events->on_delivery) return;
  events->on_delivery({message->err, message->_private, message->rkt, message->partition, message->offset});
}

int on_socket(int domain, int type, int protocol, void* opaque) {
  return events_of(opaque)->wire->open(domain, type, protocol);
}

int on_close_socket(int socket, void* opaque) { return events_of(opaque)->wire->close(socket); }

std::string brokers_of(const KafkaSettings& kafka) {
  std::string all;
  for (const auto& broker : kafka.brokers) all += (all.empty() ? "" : ",") + broker;
  return all;
}

/// Meant for bad links; the user may replace each of them.
Properties defaults(Role role, const KafkaSinkSettings& settings) {
  const auto& kafka = settings.kafka;
  auto socket_timeout =
      std::max<std::int64_t>(std::min<std::int64_t>(15'000, kafka.transaction_timeout.count() - 100), 10);
  Properties all = {
      {"socket.keepalive.enable", "true"}, {"socket.nagle.disable", "true"},
      {"reconnect.backoff.ms", "500"},     {"reconnect.backoff.max.ms", "30000"},
      {"broker.address.ttl", "60000"},     {"socket.timeout.ms", std::to_string(socket_timeout)},
      {"log.connection.close", "false"},
  };
  if (!is_producer(role)) {
    all.insert(
        all.end(),
        {{"fetch.wait.max.ms", "20"}, {"fetch.message.max.bytes", "262144"}, {"queued.max.messages.kbytes", "1024"}});
    return all;
  }
  // RAM is not the buffer: what a transaction needs, and no more.
  auto kilobytes = std::max<std::uint64_t>(16'384, 2 * kafka.batch_bytes / 1024);
  auto messages = std::max<std::uint64_t>(100'000, 2 * kafka.batch_records + 1'000);
  all.insert(all.end(),
             {{"compression.codec", "zstd"},
              {"linger.ms", "20"},  // the end of a batch flushes anyway
              {"batch.size", std::to_string(settings.request_bytes)},
              {"batch.num.messages", "1000000"},
              {"queue.buffering.max.kbytes", std::to_string(std::min<std::uint64_t>(kilobytes, 2'097'151))},
              {"queue.buffering.max.messages", std::to_string(std::min<std::uint64_t>(messages, 10'000'000))},
              // Before compression; what is too large after it is the broker's word.
              {"message.max.bytes", "16777216"},
              {"partitioner", "murmur2_random"}});  // as Java's own clients do
  return all;
}

/// What exactly once rests on: not the user's to change.
Properties fixed(Role role, const KafkaSinkSettings& settings) {
  Properties all = {{"bootstrap.servers", brokers_of(settings.kafka)}, {"client.id", "penstock-" + settings.agent}};
  if (role == Role::idempotent_producer) {
    // The queue keeps what cannot be sent: nothing is given up after a while.
    all.insert(all.end(), {{"enable.idempotence", "true"}, {"message.timeout.ms", "0"}});
  } else if (role == Role::transactional_producer) {
    all.insert(all.end(), {{"transactional.id", "penstock-" + settings.agent},
                           {"transaction.timeout.ms", std::to_string(settings.kafka.transaction_timeout.count())},
                           {"enable.idempotence", "true"}});
  } else {
    all.insert(all.end(), {{"isolation.level", role == Role::committed_reader ? "read_committed" : "read_uncommitted"},
                           {"enable.partition.eof", "true"},
                           {"enable.auto.commit", "false"},
                           {"auto.offset.reset", "earliest"},  // never past something unread
                           {"allow.auto.create.topics", "false"}});
  }
  return all;
}

/// Names that `fixed` sets for either role, and others that would undo it.
bool is_fixed(const std::string& name) {
  static constexpr std::string_view names[] = {"bootstrap.servers",
                                               "metadata.broker.list",
                                               "client.id",
                                               "transactional.id",
                                               "transaction.timeout.ms",
                                               "enable.idempotence",
                                               "isolation.level",
                                               "enable.partition.eof",
                                               "enable.auto.commit",
                                               "auto.offset.reset",
                                               "group.id",
                                               "message.timeout.ms",
                                               "delivery.timeout.ms",
                                               "acks",
                                               "request.required.acks"};
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

using Conf = std::unique_ptr<rd_kafka_conf_t, ConfDeleter>;

Result<Conf> make_conf(Role role, const KafkaSinkSettings& settings) {
  if (settings.kafka.brokers.empty()) return rejected("kafka: no brokers given");
  Conf conf(rd_kafka_conf_new());
  char wrong[512];
  auto set = [&](const std::string& name, const std::string& value) {
    return rd_kafka_conf_set(conf.get(), name.c_str(), value.c_str(), wrong, sizeof wrong) == RD_KAFKA_CONF_OK;
  };
  for (const auto& [name, value] : defaults(role, settings)) {
    if (!set(name, value)) return broken(fmt::format("kafka: {}", wrong));
  }
  for (const auto& [name, value] : settings.kafka.properties) {
    if (is_fixed(name)) return rejected(fmt::format("kafka.properties: \"{}\" is set by penstock itself", name));
    if (!set(name, value)) return rejected(fmt::format("kafka.properties: {}", wrong));
  }
  for (const auto& [name, value] : fixed(role, settings)) {
    if (!set(name, value)) return rejected(fmt::format("kafka: {}", wrong));
  }
  return conf;
}

}  // namespace

ClientEvents::ClientEvents() : log_(spdlog::default_logger()) {}

void ClientEvents::log(const char* facility, const char* text) const { log_->debug("kafka: {}: {}", facility, text); }

void ClientEvents::note(std::string text) {
  std::lock_guard lock(mutex_);
  last_ = std::move(text);
  if (recent_.size() == kRecentNotes) recent_.erase(recent_.begin());
  recent_.push_back(last_);
}

std::vector<std::string> ClientEvents::recent() const {
  std::lock_guard lock(mutex_);
  return recent_;
}

void ClientEvents::forget() {
  std::lock_guard lock(mutex_);
  recent_.clear();
}

std::string ClientEvents::last() const {
  std::lock_guard lock(mutex_);
  return last_;
}

void ClientDeleter::operator()(rd_kafka_s* client) const {
  if (rd_kafka_type(client) == RD_KAFKA_PRODUCER) {
    rd_kafka_purge(client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
  }
  rd_kafka_destroy(client);
}

void TopicDeleter::operator()(rd_kafka_topic_s* topic) const { rd_kafka_topic_destroy(topic); }

Result<Topic> open_topic(rd_kafka_s* client, const std::string& name) {
  Topic topic(rd_kafka_topic_new(client, name.c_str(), nullptr));
  if (!topic) return rejected(fmt::format("topic {}: {}", name, rd_kafka_err2str(rd_kafka_last_error())));
  return topic;
}

Result<Client> open_client(Role role, const KafkaSinkSettings& settings, ClientEvents& events) {
  auto conf = make_conf(role, settings);
  if (!conf) return conf.error();
  rd_kafka_conf_set_opaque(conf->get(), &events);
  rd_kafka_conf_set_log_cb(conf->get(), on_log);
  rd_kafka_conf_set_error_cb(conf->get(), on_error);
  if (is_producer(role)) rd_kafka_conf_set_dr_msg_cb(conf->get(), on_delivery);
  events.wire = settings.wire;
  if (events.wire) {
    rd_kafka_conf_set_socket_cb(conf->get(), on_socket);
    rd_kafka_conf_set_closesocket_cb(conf->get(), on_close_socket);
  }

  char wrong[512];
  auto type = is_producer(role) ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER;
  Client client(rd_kafka_new(type, conf->get(), wrong, sizeof wrong));
  if (!client) return rejected(fmt::format("kafka: {}", wrong));
  conf->release();  // the client has it
  return client;
}

Result<void> check_client_settings(const KafkaSinkSettings& settings) {
  if (auto conf = make_conf(Role::transactional_producer, settings); !conf) return conf.error();
  return {};
}

int Patience::slice_ms() const { return static_cast<int>(std::clamp<std::int64_t>(left().count(), 1, 200)); }

bool rest(const Patience& patience) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, patience.stop(), std::chrono::milliseconds(patience.slice_ms()), [] { return false; });
  return !patience.over();
}

std::string take_text(rd_kafka_error_s* error) {
  if (error == nullptr) return {};
  std::string text = rd_kafka_error_string(error);
  rd_kafka_error_destroy(error);
  return text;
}

Result<std::vector<PartitionEnds>> query_ends(const std::shared_ptr<SharedClient>& client, const std::string& topic,
                                              const std::vector<std::int32_t>& partitions, const Patience& patience) {
  std::vector<TopicPartition> missing;
  for (auto partition : partitions) missing.emplace_back(topic, partition);
  Offsets firsts, ends;
  std::string why = "no answer";
  do {
    const std::chrono::milliseconds most(patience.slice_ms() * 5);
    auto first = list_offsets(client->client.get(), missing, End::first, most);
    auto end = first ? list_offsets(client->client.get(), missing, End::last, most) : first;
    if (!end) {
      why = end.error().what;
      continue;
    }
    firsts.merge(*first);
    ends.merge(*end);
    std::erase_if(missing,
                  [&](const TopicPartition& each) { return firsts.count(each) != 0 && ends.count(each) != 0; });
    if (!missing.empty()) continue;
    std::vector<PartitionEnds> all;
    for (auto partition : partitions) all.push_back({firsts.at({topic, partition}), ends.at({topic, partition})});
    return all;
  } while (rest(patience));
  return transient(
      fmt::format("topic {}: the end of partition {} could not be asked for: {}", topic, missing.front().second, why));
}

Result<PartitionEnds> query_ends(const std::shared_ptr<SharedClient>& client, const std::string& topic,
                                 std::int32_t partition, const Patience& patience) {
  auto ends = query_ends(client, topic, std::vector{partition}, patience);
  if (!ends) return ends.error();
  return ends->front();
}

}  // namespace penstock
