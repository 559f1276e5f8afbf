#include "agent/daemon/kafka.h"

#include <algorithm>
#include <utility>

namespace penstock {

SinkMaker kafka_sink(const KafkaSinkSettings& settings) {
  return [settings](const SinkParts& parts) -> Result<MadeSink> {
    const Store& store = parts.store;
    auto with = settings;
    with.written_here = [&store](const Checkpoint& checkpoint) { return written_here(store.history(), checkpoint); };
    // So long that a living one with our settings is seen to move in it.
    auto interval = std::max(parts.status_interval, settings.kafka.batch_interval);
    with.twin_watch = std::max(settings.kafka.duplicate_watch, interval + interval / 2);
    auto opened = KafkaSink::open(
        with, [&store](Lane lane) { return store.name_of(lane); }, parts.notes, parts.clock);
    if (!opened) return opened.error();
    const KafkaSink* sink = opened->get();
    return MadeSink{std::move(*opened), [sink] {
                      auto status = sink->status();
                      return SinkView{status.doing,     status.error,      status.topics,        status.duplicate_id,
                                      status.producers, status.sent_bytes, status.received_bytes};
                    }};
  };
}

}  // namespace penstock
