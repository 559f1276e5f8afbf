#include "agent/kafka/read_back.h"

#include <fmt/format.h>

#include <chrono>

#include "agent/kafka/messages.h"
#include "agent/kafka/template.h"
#include "agent/kafka/topic_reader.h"

namespace penstock {

Result<void> ReadBack::read(const Offsets& ends, const Patience& patience) {
  Offsets from;
  for (const auto& [partition, position] : positions_) {
    auto end = ends.find(partition);
    if (end != ends.end() && position < end->second) from.insert({partition, position});
  }
  if (from.empty()) return {};

  TopicReader::Settings reading{settings_.kafka, {}};
  reading.from = from;
  reading.agent = settings_.agent;
  reading.wire = settings_.wire;
  auto reader = TopicReader::open(reading);
  if (!reader) return reader.error();
  auto take = [&](const SeenRecord& record) {
    if (record.topic == kGapTopic) {
      auto gap = decode_gap(record.value);
      if (!gap || gap->agent != settings_.agent) return;
      ++records_;
      if (gap->last == Sequence()) return landed_.add_count(gap->epoch, gap->entry);
      return landed_.add(gap->epoch, gap->lane, gap->first, gap->last);
    }
    if (!record.name || record.name->agent != settings_.agent) return;
    ++records_;
    landed_.add(record.name->epoch, record.name->lane, record.name->sequence, record.name->sequence);
  };
  while (true) {
    const TopicPartition* behind = nullptr;
    for (const auto& [partition, start] : from) {
      positions_[partition] = (*reader)->position(partition.first, partition.second);
      if (positions_[partition] < ends.at(partition)) behind = &partition;
    }
    if (behind == nullptr) return {};
    if ((*reader)->refused()) {
      return rejected(fmt::format("topic {}: this agent may not read it", behind->first));
    }
    if (patience.over()) {
      return transient(fmt::format("reading back {} [{}]: at offset {} of {}{}{}", behind->first, behind->second,
                                   positions_.at(*behind), ends.at(*behind), (*reader)->trouble().empty() ? "" : ": ",
                                   (*reader)->trouble()));
    }
    (*reader)->read(std::chrono::milliseconds(patience.slice_ms()), take);
  }
}

}  // namespace penstock
