#include "agent/daemon/kafka.h"

#include <utility>

namespace penstock {

SinkMaker kafka_sink(const KafkaSinkSettings& settings) {
  return [settings](const SinkParts& parts) -> Result<MadeSink> {
    const Store& store = parts.store;
    auto opened = KafkaSink::open(
        settings, [&store](Lane lane) { return store.name_of(lane); }, parts.notes, parts.clock);
    if (!opened) return opened.error();
    const KafkaSink* sink = opened->get();
    return MadeSink{std::move(*opened), [sink] {
                      auto status = sink->status();
                      return SinkView{status.doing, status.error, status.topics};
                    }};
  };
}

}  // namespace penstock
