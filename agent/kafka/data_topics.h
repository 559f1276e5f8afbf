// DataTopics: what is known of the topics that records go to: which are there, which cannot be written to and why, and which do
// not take the time of an event as Kafka's time stamp.
//
// One thread. In RAM only: another life asks anew.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/kafka/producer.h"
#include "buffer/clock.h"
#include "config/settings.h"

namespace penstock {

class DataTopics {
 public:
  explicit DataTopics(const KafkaSettings& settings) : settings_(settings) {}

  struct Trouble {
    std::string why;
    bool for_good = false;  // its records are to be set aside; else they wait
  };
  /// Gives the topic and null; or what is wrong with it, valid until the next call. One that has never been seen is waited for,
  /// for it may be made by asking for it: until `patience` is over, or for three seconds if it is or another one is missing, too.
  /// `transient`: the brokers do not answer, or a stop. `insist`: whatever is remembered of it.
  Result<const Trouble*> find(Producer& producer, const std::string& name, Producer::KnownTopic& topic,
                              const Patience& patience, bool insist = false);

  /// The brokers have refused what was written there, and why. It is tried again after ten seconds, and then later and later.
  /// `may_set_aside`: if so configured.
  void refuse(const std::string& topic, const std::string& why, bool may_set_aside = true);
  /// What was written there is in Kafka.
  void written(const std::vector<TopicPartition>& partitions);
  /// The topics that cannot be written to, and why, as far as it is known.
  std::map<std::string, std::string> unwritable() const;

  /// What a topic takes as Kafka's time stamp: the time of any event, that of one of the last ten minutes, or only that of sending.
  enum class EventTime { any, recent, none };
  EventTime event_time(const std::string& topic) const;
  static bool takes(EventTime which, WallTime event, WallTime now);
  /// It has refused one: then it takes less from now on. False: it was the time of sending, so that a clock must be wrong.
  bool refuse_time(const std::string& topic);

  /// Forgets what is old: to be called now and then.
  void tidy();

 private:
  struct Remembered {
    Trouble trouble;
    std::chrono::steady_clock::time_point until;  // not tried again before
    std::chrono::milliseconds wait{0};            // since what was written was refused last
  };
  Remembered& remember(const std::string& topic, std::string why, bool for_good, std::chrono::milliseconds wait);

  const KafkaSettings settings_;
  std::map<std::string, Remembered> unwritable_;
  Trouble too_many_;
  std::map<std::string, EventTime> event_times_;  // of topics that do not take any
};

}  // namespace penstock
