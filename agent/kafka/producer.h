// Producer: one life of a producer, up to its first failure. A transactional one begins with init_transactions, and what it
// produces belongs to transactions; an idempotent one just produces.
//
// One thread uses it. It is shared only so that a commit that hangs in the network can be left behind by a stop: the
// thread inside that call then keeps it alive and ends it.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/kafka/client.h"
#include "agent/kafka/headers.h"
#include "agent/kafka/topics.h"
#include "agent/kafka/window.h"
#include "buffer/result.h"

namespace penstock {

class Producer {
 public:
  /// As settings.kafka.delivery says: transactional for exactly_once.
  static Result<std::shared_ptr<Producer>> open(const KafkaSinkSettings& settings);

  /// Of an idempotent one initialise(), commit() and abort() have nothing to do, and begin() only forgets what became of the messages before.

  /// init_transactions: ends what earlier producers of this id have begun, and fences them. `transient` when patience
  /// ended: call again. Any other failure: `rejected`, and this producer is of no more use.
  Result<void> initialise(const Patience& patience);
  bool initialised() const { return initialised_ || !transactional_; }

  struct KnownTopic {
    rd_kafka_topic_s* handle = nullptr;
    std::int32_t partitions = 0;  // looked up again now and then: a topic may grow
  };
  /// The topic, once the brokers know it and it has leaders, so that no transaction waits for that. In a failure `state`,
  /// unless null, says which it is.
  Result<KnownTopic> topic(const std::string& name, const Patience& patience, TopicState* state = nullptr);
  bool knows(const std::string& topic) const { return topics_.count(topic) != 0; }
  std::size_t topics() const { return topics_.size(); }

  Result<void> begin();

  /// One message of the batch, or the open transaction; copied. `number` is given back by failed_number. Waits while the queue is full.
  struct Message {
    rd_kafka_topic_s* topic = nullptr;
    std::int32_t partition = -1;  // -1: by the key
    std::string_view key, value;
    bool deleted = false;        // no value at all: a tombstone
    std::int64_t timestamp = 0;  // milliseconds; 0: now
    const std::vector<HeaderView>* headers = nullptr;
    std::size_t number = 0;
  };
  /// `rejected`: it will never be taken, or one before it won't: then failed_number() says which.
  Result<void> produce(const Message& message, const Patience& patience);

  /// Until every message is acknowledged. `transient`, with the first failure among them, or when patience ended;
  /// `rejected` if that says that a message will never be taken: this one, or one that was sent along with it.
  Result<void> flush(const Patience& patience);
  /// What the brokers say of these partitions that may keep them from acknowledging: one without a leader, replicas that
  /// are out of sync. Empty: nothing, or they do not say it in time. In words, of at most three partitions.
  std::string ailing(const std::vector<TopicPartition>& partitions, const Patience& patience) const;
  /// The number of the first message that was refused; nothing if none was.
  std::optional<std::size_t> failed_number() const { return failed_number_; }
  /// The topics that the brokers did not let us write to, though they know them and us, and their words.
  const std::map<std::string, std::string>& refused_topics() const { return refused_topics_; }
  /// The topics that did not take the time stamp of a message.
  const std::set<std::string>& refused_times() const { return refused_times_; }
  /// Whether a request, or a record in it, was larger than its topic takes.
  bool refused_size() const { return refused_size_; }
  /// Where the transaction has written: the newest offset in each partition.
  Offsets written() const;

  /// Commits what was flushed. A stop leaves it behind after about a second, its outcome unknown.
  static Result<void> commit(const std::shared_ptr<Producer>& producer, const Patience& patience);

  /// Before one that has failed is destroyed: a transaction that is open is aborted, as far as that goes in a moment.
  void give_up();

  /// Takes back what was produced, whether it was flushed or not. Any failure: this producer is of no more use.
  Result<void> abort(const Patience& patience);

  /// The last stable offsets, of those partitions whose leaders say it within `most`.
  Offsets stable(const std::vector<TopicPartition>& partitions, std::chrono::milliseconds most) const;

  std::string complaint() const { return events_.last(); }

 private:
  Producer() = default;
  void note_written(const ClientEvents::Delivery& delivery);
  void await_reason(const Patience& patience);
  Error failure();
  std::string text_of(rd_kafka_error_s* error);  // and destroys it
  std::string fatal_text() const;                // empty: nothing fatal has happened

  ClientEvents events_;
  Client client_;
  struct LookedUp {
    Topic topic;
    std::int32_t partitions = 0;
    std::chrono::steady_clock::time_point when;
  };
  std::unordered_map<std::string, LookedUp> topics_;  // gone before the client
  bool transactional_ = true, initialised_ = false;
  std::optional<std::size_t> failed_number_;
  bool dragged_ = false;  // what failed is known only by what it dragged along
  Error failure_;
  std::map<std::string, std::string> refused_topics_;
  std::set<std::string> refused_times_;
  bool refused_size_ = false;
  struct Written {
    rd_kafka_topic_s* topic = nullptr;
    std::int32_t partition = 0;
    std::int64_t offset = 0;
  };
  std::vector<Written> written_;
};

}  // namespace penstock
