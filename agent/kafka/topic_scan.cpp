#include "agent/kafka/topic_scan.h"

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <map>
#include <memory>
#include <regex>

namespace penstock {
namespace {

Result<bool> matches(const std::string& expression, const std::string& name) {
  try {
    return std::regex_match(name, std::regex(expression));
  } catch (const std::regex_error& wrong) {
    return rejected(fmt::format("\"{}\" is not a regular expression: {}", expression, wrong.what()));
  }
}

/// The names and partitions of the topics asked for.
Result<std::map<std::string, std::int32_t>> choose(rd_kafka_t* client, const std::vector<std::string>& wanted,
                                                   const std::vector<std::string>& if_there, const Patience& patience) {
  const rd_kafka_metadata_t* raw = nullptr;
  rd_kafka_resp_err_t error;
  do {
    error = rd_kafka_metadata(client, 1, nullptr, &raw, patience.slice_ms() * 5);
  } while (error != RD_KAFKA_RESP_ERR_NO_ERROR && rest(patience));
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return transient(fmt::format("the topics could not be listed: {}", rd_kafka_err2str(error)));
  }
  std::unique_ptr<const rd_kafka_metadata_t, decltype(&rd_kafka_metadata_destroy)> metadata(raw,
                                                                                            rd_kafka_metadata_destroy);
  std::map<std::string, std::int32_t> chosen;
  for (int i = 0; i < metadata->topic_cnt; ++i) {
    const auto& topic = metadata->topics[i];
    if (std::find(if_there.begin(), if_there.end(), topic.topic) != if_there.end()) {
      chosen[topic.topic] = topic.partition_cnt;
    }
  }
  for (const auto& text : wanted) {
    bool any = false;
    for (int i = 0; i < metadata->topic_cnt; ++i) {
      const auto& topic = metadata->topics[i];
      bool match = text == topic.topic;
      if (!text.empty() && text[0] == '^') {
        auto matched = matches(text, topic.topic);
        if (!matched) return matched.error();
        match = *matched;
      }
      if (!match) continue;
      chosen[topic.topic] = topic.partition_cnt;
      any = true;
    }
    if (!any) return rejected(fmt::format("no topic \"{}\" in this cluster", text));
  }
  return chosen;
}

using Ends = std::map<std::pair<std::string, std::int32_t>, std::int64_t, std::less<>>;

/// The offsets one behind the last of every partition, open transactions included.
Result<Ends> find_ends(const std::shared_ptr<SharedClient>& client, const std::map<std::string, std::int32_t>& topics,
                       ScanSummary& summary, const Patience& patience) {
  Ends ends;
  for (const auto& [name, partitions] : topics) {
    summary.topics.push_back(name);
    for (std::int32_t partition = 0; partition < partitions; ++partition) {
      auto range = query_ends(client, name, partition, patience);
      if (!range) return range.error();
      if (range->first > 0) summary.trimmed = true;
      ends[{name, partition}] = range->end;
    }
  }
  return ends;
}

}  // namespace

Result<ScanSummary> scan_topics(const ScanSettings& settings, const std::function<void(const SeenRecord&)>& seen,
                                const Patience& patience) {
  auto uncommitted = std::make_shared<SharedClient>();
  auto client = open_client(Role::uncommitted_reader, {"verify", settings.kafka, false}, uncommitted->events);
  if (!client) return client.error();
  uncommitted->client = std::move(*client);
  auto topics = choose(uncommitted->client.get(), settings.topics, settings.if_there, patience);
  if (!topics) return topics.error();
  ScanSummary summary;
  auto ends = find_ends(uncommitted, *topics, summary, patience);
  if (!ends) return ends.error();

  auto reader = TopicReader::open({settings.kafka, *topics, settings.committed});
  if (!reader) return reader.error();
  auto before_end = [&](const SeenRecord& record) {
    if (record.offset >= ends->find(std::pair(std::string(record.topic), record.partition))->second) return;
    ++summary.records;
    seen(record);
  };
  auto late = [&] {
    return std::find_if(ends->begin(), ends->end(), [&](const auto& each) {
      return (*reader)->position(each.first.first, each.first.second) < each.second;
    });
  };
  while (late() != ends->end() && !patience.over()) {
    (*reader)->read(std::chrono::milliseconds(patience.slice_ms()), before_end);
  }
  auto open = late();
  if (open == ends->end()) return summary;
  const auto& [name, partition] = open->first;
  const auto& trouble = (*reader)->trouble();
  return transient(fmt::format("{} [{}] could only be read up to offset {} of {}: {}", name, partition,
                               (*reader)->position(name, partition), open->second,
                               trouble.empty() ? "an open transaction?" : trouble));
}

}  // namespace penstock
