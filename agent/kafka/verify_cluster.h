// Feeds a Verifier from a cluster: first the checkpoints, then the gap records and the records, all as read_committed.
//
// One thread.
#pragma once

#include <string>
#include <vector>

#include "agent/kafka/client.h"
#include "agent/kafka/verifier.h"
#include "buffer/result.h"

namespace penstock {

struct VerifySettings {
  KafkaSettings kafka;              // brokers and properties
  std::vector<std::string> topics;  // names or ^expressions; our own two are left out
  std::vector<std::string> agents, lanes;
  Delivery delivery = Delivery::exactly_once;
};

/// An error: no proof could be made, for or against.
Result<ClusterProof> verify_cluster(const VerifySettings& settings, const Patience& patience);

}  // namespace penstock
