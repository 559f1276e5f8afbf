// Receiver: a consumer that reads along and books every record it gets in the Account.
//
// It reads along because the stand-in for Kafka keeps only the newest of a partition. A thread of its own; the other
// functions from any. It keeps nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "agent/demo/account.h"
#include "agent/kafka/topic_reader.h"

namespace penstock {

/// Reads the name, number and content of a record and books it.
void book(const SeenRecord& record, Account& account);

class Receiver {
 public:
  /// What happens to a record on its way into the books. The real one hands it on once; a test shows with another one
  /// that the proof can fail.
  using OnTheWay = std::function<void(const SeenRecord& record, const TopicReader::Take& hand_on)>;

  Receiver(std::unique_ptr<TopicReader> reader, Account& account, OnTheWay on_the_way = {});

  /// Asks for a look at the ends of the topics; forgets an earlier one.
  void ask_for_end();
  /// True once everything that lay in the topics after ask_for_end() has been booked.
  bool at_end() const { return answer_ == asked_; }

 private:
  void run(std::stop_token stop);

  std::unique_ptr<TopicReader> reader_;
  Account& account_;
  const OnTheWay on_the_way_;
  std::atomic<std::uint64_t> asked_{1}, answer_{0};
  std::jthread thread_;  // last: it ends first
};

}  // namespace penstock
