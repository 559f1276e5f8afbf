#include "agent/kafka/partitioner.h"

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>

namespace penstock {

Result<Partitioner> Partitioner::make(const KafkaSettings& kafka) {
  Partitioner made;
  auto given = kafka.properties.find("partitioner");
  std::string_view name = given == kafka.properties.end() ? "murmur2_random" : std::string_view(given->second);
  constexpr std::string_view kSuffix = "_random";
  made.random_without_key_ = name == "random" || name.ends_with(kSuffix);
  if (name.ends_with(kSuffix)) name.remove_suffix(kSuffix.size());
  if (name == "random") {
    made.kind_ = Kind::random;
  } else if (name == "consistent") {
    made.kind_ = Kind::consistent;
  } else if (name == "murmur2") {
    made.kind_ = Kind::murmur2;
  } else if (name == "fnv1a") {
    made.kind_ = Kind::fnv1a;
  } else {
    return rejected(
        fmt::format("kafka.properties: partitioner \"{}\": expected random, or consistent, murmur2 or fnv1a, "
                    "each also with _random behind it",
                    given->second));
  }
  return made;
}

std::int32_t Partitioner::choose(std::string_view key, std::int32_t partitions) {
  if (kind_ == Kind::random || (key.empty() && random_without_key_)) {
    return std::uniform_int_distribution<std::int32_t>(0, partitions - 1)(random_);
  }
  // None of these looks at the topic.
  auto ask = [&](auto* partitioner) {
    return partitioner(nullptr, key.data(), key.size(), partitions, nullptr, nullptr);
  };
  switch (kind_) {
    case Kind::consistent: return ask(rd_kafka_msg_partitioner_consistent);
    case Kind::fnv1a: return ask(rd_kafka_msg_partitioner_fnv1a);
    default: return ask(rd_kafka_msg_partitioner_murmur2);
  }
}

}  // namespace penstock
