// Handles of librdkafka with our settings on them: what the other files of this room share.
//
// A handle may be used by any thread and destroyed by one. Its own threads report to ClientEvents, which must outlive it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "agent/kafka/request_size.h"
#include "buffer/history.h"
#include "buffer/result.h"
#include "config/settings.h"

struct rd_kafka_s;
struct rd_kafka_error_s;
struct rd_kafka_topic_s;

namespace spdlog {
class logger;
}

namespace penstock {

class Wire;

struct KafkaSinkSettings {
  std::string agent;
  KafkaSettings kafka;
  bool look_after_topics =
      true;  // false: our own topics are known to be right (MockCluster, which has no admin requests)
  /// Whether this store wrote it (buffer/history.h); called by the thread that calls the sink. Empty: no other living
  /// agent with our id is looked for (TwinLookout).
  std::function<bool(const Checkpoint&)> written_here = {};
  std::chrono::milliseconds twin_watch{90'000};       // how long a foreign checkpoint must stand still
  std::size_t request_bytes = RequestSize::kLargest;  // of a produce request to one partition, before compression
  std::shared_ptr<Wire> wire = {};  // gives the clients their sockets; none: they make them themselves
};

/// What librdkafka says by itself. Its log lines go to our log at level debug (they repeat with every try); the last one
/// of weight is kept for status.
///
/// It holds a share of the logger there was when it was made: a client that was left behind in a call may still log when
/// the program has another logger, or is ending.
class ClientEvents {
 public:
  ClientEvents();
  struct Delivery {
    int error = 0;
    const void* opaque = nullptr;
    rd_kafka_topic_s* topic = nullptr;
    std::int32_t partition = 0;
    std::int64_t offset = 0;
  };
  /// Called for every produced record, in the thread that polls, flushes or commits.
  std::function<void(const Delivery&)> on_delivery;
  /// Where the client has its sockets from, if not from itself. Set by open_client.
  std::shared_ptr<Wire> wire;

  // any thread
  void log(const char* facility, const char* text) const;
  void note(std::string text);
  std::string last() const;
  /// The newest of them since forget(), a few dozen at most.
  std::vector<std::string> recent() const;
  void forget();

 private:
  const std::shared_ptr<spdlog::logger> log_;
  mutable std::mutex mutex_;
  std::string last_;
  std::vector<std::string> recent_;
};

struct ClientDeleter {
  void operator()(rd_kafka_s* client) const;
};
using Client = std::unique_ptr<rd_kafka_s, ClientDeleter>;

struct TopicDeleter {
  void operator()(rd_kafka_topic_s* topic) const;
};
/// Must be gone before its client is.
using Topic = std::unique_ptr<rd_kafka_topic_s, TopicDeleter>;
Result<Topic> open_topic(rd_kafka_s* client, const std::string& name);

enum class Role { transactional_producer, idempotent_producer, committed_reader, uncommitted_reader };

/// `rejected`: a property librdkafka does not know or a value it does not take. Never waits: it connects by itself.
Result<Client> open_client(Role role, const KafkaSinkSettings& settings, ClientEvents& events);

/// What open_client would find wrong before it touches the network.
Result<void> check_client_settings(const KafkaSinkSettings& settings);

/// How long an operation may go on: until the deadline or until stopped, looked at every slice.
class Patience {
 public:
  Patience(std::chrono::milliseconds most, std::stop_token stop)
      : deadline_(std::chrono::steady_clock::now() + most), stop_(std::move(stop)) {}
  bool over() const { return stop_.stop_requested() || left() <= std::chrono::milliseconds::zero(); }
  bool stopped() const { return stop_.stop_requested(); }
  /// For librdkafka's timeouts: at most 200 ms, at least 1.
  int slice_ms() const;
  const std::stop_token& stop() const { return stop_; }

 private:
  std::chrono::milliseconds left() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - std::chrono::steady_clock::now());
  }
  std::chrono::steady_clock::time_point deadline_;
  std::stop_token stop_;
};

/// Sleeps a slice; false when patience is over.
bool rest(const Patience& patience);

/// A client and what its callbacks speak to, shared with calls that cannot be ended.
struct SharedClient {
  ClientEvents events;
  Client client;
};

struct PartitionEnds {
  std::int64_t first = 0, end = 0;  // end: one behind the last, open transactions included
};

/// Of each partition, in that order: two round trips for all of them. `client` reads uncommitted. `transient` when patience ended.
Result<std::vector<PartitionEnds>> query_ends(const std::shared_ptr<SharedClient>& client, const std::string& topic,
                                              const std::vector<std::int32_t>& partitions, const Patience& patience);
Result<PartitionEnds> query_ends(const std::shared_ptr<SharedClient>& client, const std::string& topic,
                                 std::int32_t partition, const Patience& patience);

/// The text of a librdkafka error, which is freed. "" for none.
std::string take_text(rd_kafka_error_s* error);

}  // namespace penstock
