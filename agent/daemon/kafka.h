// The agent's usual sink: Kafka.
#pragma once

#include "agent/daemon/agent.h"
#include "agent/kafka/kafka_sink.h"

namespace penstock {

/// Makes a KafkaSink of the parts an Agent gives.
SinkMaker kafka_sink(const KafkaSinkSettings& settings);

}  // namespace penstock
