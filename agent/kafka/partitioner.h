// Which partition a key goes to: librdkafka's own partitioners, asked before anything is produced, since a checkpoint
// names the partitions of its transaction before they are written.
//
// One thread.
#pragma once

#include <cstdint>
#include <random>
#include <string_view>

#include "buffer/result.h"
#include "config/settings.h"

namespace penstock {

class Partitioner {
 public:
  /// `rejected`: `kafka.properties` names one that librdkafka does not have.
  static Result<Partitioner> make(const KafkaSettings& kafka);

  /// `partitions` > 0. An empty key goes anywhere, as with Java's clients, unless the partitioner says otherwise.
  std::int32_t choose(std::string_view key, std::int32_t partitions);

 private:
  enum class Kind { random, consistent, murmur2, fnv1a };
  Kind kind_ = Kind::murmur2;
  bool random_without_key_ = true;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace penstock
