#include "agent/kafka/verify_cluster.h"

#include <fmt/format.h>

#include <map>
#include <optional>

#include "agent/kafka/messages.h"
#include "agent/kafka/template.h"
#include "agent/kafka/topic_scan.h"

namespace penstock {
namespace {

/// The newest checkpoint of every agent, by time stamp where an agent has some in several partitions.
Result<void> tell_checkpoints(const VerifySettings& settings, const Patience& patience, Verifier& verifier) {
  struct Newest {
    std::int64_t time = 0;
    std::optional<std::string> value;
  };
  std::map<std::string, Newest> newest;
  auto seen = [&](const SeenRecord& record) {
    auto& kept = newest[std::string(record.key)];
    if (record.timestamp < kept.time) return;
    kept.time = record.timestamp;
    kept.value = record.deleted ? std::nullopt : std::optional(std::string(record.value));
  };
  auto scanned = scan_topics({settings.kafka, {kCheckpointTopic}, {}, true}, seen, patience);
  if (!scanned) return scanned.error();
  for (const auto& [agent, kept] : newest) {
    if (!kept.value) continue;
    auto checkpoint = decode_checkpoint(*kept.value, agent);
    if (!checkpoint) return rejected(fmt::format("agent {}: {}", agent, checkpoint.error().what));
    verifier.checkpoint(agent, std::move(*checkpoint));
  }
  return {};
}

}  // namespace

Result<ClusterProof> verify_cluster(const VerifySettings& settings, const Patience& patience) {
  Verifier verifier({settings.agents, settings.lanes, false, settings.delivery});
  // First these: what they speak of lies before the ends that the second reading goes up to.
  if (auto told = tell_checkpoints(settings, patience, verifier); !told) return told.error();

  std::optional<Error> wrong;
  auto seen = [&](const SeenRecord& record) {
    if (record.topic == kCheckpointTopic) return;
    if (record.topic == kGapTopic) {
      auto gap = decode_gap(record.value);
      if (gap) {
        verifier.gap(*gap);
      } else if (!wrong) {
        wrong = rejected(
            fmt::format("{} [{}] offset {}: {}", record.topic, record.partition, record.offset, gap.error().what));
      }
    } else if (record.name) {
      verifier.record(record.topic, record.partition, *record.name);
    } else {
      verifier.foreign_record();
    }
  };
  auto scanned = scan_topics({settings.kafka, settings.topics, {kGapTopic}, true}, seen, patience);
  if (!scanned) return scanned.error();
  if (wrong) return *wrong;
  if (scanned->trimmed) verifier.set_trimmed();
  return verifier.prove();
}

}  // namespace penstock
