// BareProducer: the limit of the Kafka part. librdkafka's idempotent producer, sending ready-made bytes with ready-made
// headers from memory: no store, no transactions, no checkpoint.
//
// One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace penstock::bench {

struct Message {
  std::string key, value;
  std::int64_t timestamp = 0;  // milliseconds
  std::vector<std::pair<std::string, std::string>> headers;
};

class BareProducer {
 public:
  BareProducer(const std::string& brokers, const std::string& topic);
  ~BareProducer();
  BareProducer(const BareProducer&) = delete;
  BareProducer& operator=(const BareProducer&) = delete;

  /// Sends `count` messages, round and round, and waits until Kafka has acknowledged them all.
  void send(const std::vector<Message>& messages, std::uint64_t count);

 private:
  struct Inside;
  std::unique_ptr<Inside> inside_;
};

/// Reads a topic as `read_committed` from its present end on.
class Reader {
 public:
  Reader(const std::string& brokers, const std::string& topic);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  /// The next message's value; false when none came within `seconds`.
  bool next(std::string& value, double seconds);

 private:
  struct Inside;
  std::unique_ptr<Inside> inside_;
};

/// How many messages a `read_committed` reader finds in the topic from its beginning to its present end.
std::uint64_t count_committed(const std::string& brokers, const std::string& topic);

}  // namespace penstock::bench
