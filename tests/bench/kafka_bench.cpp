// bench_kafka: from the queue to Kafka beside bare librdkafka. Each command prints facts (measure.h).
//
//   bench_kafka duel    BROKERS DIR STYLE RECORDS ROUNDS   drain, exactly once, beside the bare idempotent producer; slices
//                                                          of RECORDS in random order; STYLE: cloudevents, compact
//   bench_kafka far     DIR STYLE RECORDS MILLISECONDS PROFILE   the same at so long a round trip, on librdkafka's mock
//                                                          cluster; PROFILE: default, long_way
//   bench_kafka latency BROKERS DIR COUNT PROFILE          one record on an idle link; PROFILE: default, low_latency
//   bench_kafka tail    BROKERS TOPIC COUNT                says `ready`, then how old COUNT messages were when they came,
//                                                          by the nanoseconds their values begin with
//   bench_kafka count   BROKERS TOPIC                      what a read_committed reader finds
#include <fmt/core.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>

#include "agent/daemon/disk.h"
#include "agent/daemon/writer.h"
#include "agent/forward/forwarder.h"
#include "agent/kafka/headers.h"
#include "agent/kafka/kafka_sink.h"
#include "agent/kafka/mock_cluster.h"
#include "agent/kafka/template.h"
#include "tests/bench/bare_producer.h"
#include "tests/bench/measure.h"
#include "tests/bench/queue.h"
#include "tests/bench/samples.h"

namespace penstock::bench {
namespace {

using Path = std::filesystem::path;
using nlohmann::json;
constexpr std::uint64_t kMiB = 1 << 20;

struct RamNotes final : Notes {
  std::map<std::string, std::string, std::less<>> values;
  std::optional<std::string> get(std::string_view name) const override {
    auto found = values.find(name);
    return found == values.end() ? std::nullopt : std::optional(found->second);
  }
  void set(std::string_view name, std::string value) override { values[std::string(name)] = std::move(value); }
};

template <class T>
T must(Result<T> result) {
  if (!result) give_up(result.error().what);
  return std::move(*result);
}

KafkaSinkSettings sink_settings(const std::string& brokers, const std::string& agent, const std::string& topic,
                                HeaderStyle style) {
  KafkaSinkSettings settings;
  settings.agent = agent;
  settings.kafka.brokers = {brokers};
  settings.kafka.topic = topic;
  settings.kafka.headers = style;
  return settings;
}

/// docs/tuning.md
KafkaSinkSettings long_way(KafkaSinkSettings settings) {
  settings.kafka.batch_bytes = 16 * kMiB;
  settings.kafka.batch_records = 100'000;
  return settings;
}

Forwarder::Settings forwarder_settings(const KafkaSettings& kafka) {
  Forwarder::Settings settings;
  settings.batch_interval = kafka.batch_interval;
  settings.limits = {kafka.batch_records, kafka.batch_bytes};
  return settings;
}

// --- duel

/// What the sink would send for `count` of the samples: the same keys, values, time stamps and headers.
std::vector<Message> ready_made(const std::string& agent, HeaderStyle style, std::size_t count) {
  Samples samples;
  HeaderWriter writer(agent, style);
  StoredRecord stored;
  stored.epoch = draw<Epoch>();
  std::vector<Message> messages;
  messages.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    stored.sequence = stored.sequence.next();
    stored.record = samples.next();
    Message message;
    message.key = agent + "/" + stored.record.stream;
    message.value = stored.record.payload;
    message.timestamp = kafka_timestamp(stored.record.time, stored.record.time, TimestampStyle::event);
    for (const auto& header : writer.write(stored, "telemetry"))
      message.headers.emplace_back(header.name, header.value);
    messages.push_back(std::move(message));
  }
  return messages;
}

/// The backlog, and the loop that empties it: all that penstock does between its disk and the network.
class Outflow {
 public:
  Outflow(const KafkaSinkSettings& settings, const Path& folder, std::uint64_t backlog)
      : queue_(folder, std::max<std::uint64_t>(256 * kMiB, backlog * 60), settings.agent), settings_(settings) {
    progress(fmt::format("kafka: a backlog of {} records", backlog));
    queue_.prewrite();
    Samples samples;
    for (std::uint64_t done = 0; done < backlog; done += 1000) queue_.commit(samples.next(1000));
    sink_ = must(KafkaSink::open(
        settings_, [this](Lane lane) { return queue_.store().name_of(lane); }, notes_, queue_.clock()));
    forwarder_.emplace(queue_.store(), *sink_, Forwarder::own_writes(queue_.store()), queue_.clock(),
                       forwarder_settings(settings_.kafka));
  }

  /// Sends at least so many records; gives how many.
  std::uint64_t drain(std::uint64_t least) {
    const std::uint64_t before = forwarder_->status().records;
    const double began = now();
    while (forwarder_->status().records - before < least) {
      if (auto turn = forwarder_->step({}); !turn) give_up(turn.error().what);
      if (forwarder_->status().failures > 0) give_up("a failure on the way: " + sink_->status().error);
      if (now() - began > 120) give_up(fmt::format("no {} records in Kafka within 120 s", least));
    }
    return forwarder_->status().records - before;
  }
  /// The writer's share: one commit that deletes what was delivered.
  void tidy() { queue_.commit(std::vector<Group>{}); }
  std::uint64_t sent() const { return forwarder_->status().records; }
  std::uint64_t transactions() const { return sink_->status().transactions; }

 private:
  Queue queue_;
  KafkaSinkSettings settings_;
  RamNotes notes_;
  std::unique_ptr<KafkaSink> sink_;
  std::optional<Forwarder> forwarder_;
};

HeaderStyle style_of(const std::string& name) {
  return name == "compact" ? HeaderStyle::compact : HeaderStyle::cloudevents;
}

/// One contender of a duel.
struct Side {
  std::vector<double> rates;
  double cpu = 0;
  std::uint64_t records = 0;

  template <class Call>
  void measure(Call call) {
    double cpu_before = bench::cpu(), began = now();
    std::uint64_t done = call();
    rates.push_back(static_cast<double>(done) / (now() - began));
    cpu += bench::cpu() - cpu_before;
    records += done;
  }
  json told() const {
    return {{"records_per_s", median(rates)},
            {"cpu_s_per_million", 1e6 * cpu / static_cast<double>(records)},
            {"records", records}};
  }
};

void duel(const std::string& brokers, const Path& folder, const std::string& style, std::uint64_t slice,
          std::uint64_t rounds) {
  const std::string agent = "bench-" + style;
  Outflow outflow(sink_settings(brokers, agent, agent, style_of(style)), folder, slice * (rounds + 2) + 100'000);
  BareProducer bare(brokers, agent + "-bare");
  auto messages = ready_made(agent, style_of(style), 20'000);

  Side ours, limit;
  auto drain = [&] {
    ours.measure([&] { return outflow.drain(slice); });
    double before = cpu();
    outflow.tidy();
    ours.cpu += cpu() - before;
  };
  auto send = [&] { limit.measure([&] { return bare.send(messages, slice), slice; }); };
  drain(), send();  // connections, topics, first pages
  ours = limit = {};

  std::minstd_rand random(7);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    progress(fmt::format("kafka: {}: {} of {}", style, round + 1, rounds));
    if (random() >> 8 & 1) {
      drain(), send();
    } else {
      send(), drain();
    }
  }
  std::vector<double> ratios;
  for (std::size_t i = 0; i < ours.rates.size(); ++i) ratios.push_back(ours.rates[i] / limit.rates[i]);

  std::uint64_t found = count_committed(brokers, agent);
  if (found != outflow.sent()) {
    give_up(fmt::format("{} records were sent to {}, a read_committed reader finds {}", outflow.sent(), agent, found));
  }
  fact("kafka_duel",
       {{"style", style},
        {"rounds", rounds},
        {"found", found},
        {"transactions", outflow.transactions()},
        {"ours", ours.told()},
        {"bare", limit.told()},
        {"ratio", {{"median", median(ratios)}, {"p25", percentile(ratios, 0.25)}, {"p75", percentile(ratios, 0.75)}}}});
}

/// The same over a long way: librdkafka's imitation of a cluster answers later, which no real broker here can be told to.
void far(const Path& folder, const std::string& style, std::uint64_t records, int round_trip,
         const std::string& profile) {
  constexpr int kBrokers = 3;
  auto cluster = must(MockCluster::start(kBrokers));
  const std::string agent = "bench-far-" + style;
  cluster->create_topic(agent, 3);
  cluster->create_topic(agent + "-bare", 3);
  auto settings = sink_settings(cluster->bootstrap(), agent, agent, style_of(style));
  if (profile == "long_way") settings = long_way(settings);
  settings.look_after_topics = false;
  Outflow outflow(settings, folder, 2 * records + 100'000);
  BareProducer bare(cluster->bootstrap(), agent + "-bare");
  auto messages = ready_made(agent, style_of(style), 20'000);
  outflow.drain(1);
  bare.send(messages, 1000);
  for (int broker = 1; broker <= kBrokers; ++broker) cluster->set_round_trip(broker, round_trip);
  Side ours, limit;
  ours.measure([&] { return outflow.drain(records); });
  limit.measure([&] { return bare.send(messages, records), records; });
  fact("far", {{"style", style},
               {"profile", profile},
               {"round_trip_ms", round_trip},
               {"ours", ours.told()},
               {"bare", limit.told()}});
}

// --- latency

void latency(const std::string& brokers, const Path& folder, std::uint64_t count, const std::string& profile) {
  const bool low = profile == "low_latency";
  const std::string agent = "bench-" + profile, topic = agent;
  Queue queue(folder, 16 * kMiB, agent);
  queue.prewrite();
  auto settings = sink_settings(brokers, agent, topic, HeaderStyle::cloudevents);
  Writer::Settings writer_settings;
  if (low) {
    settings.kafka.batch_interval = std::chrono::milliseconds(1);
    writer_settings.commit_interval = std::chrono::milliseconds(1);
  }

  Intake intake(4 * kMiB);
  StoreDisk disk(queue.store());
  Writer writer(disk, intake, queue.clock(), writer_settings);
  RamNotes notes;
  auto sink = must(KafkaSink::open(
      settings, [&](Lane lane) { return queue.store().name_of(lane); }, notes, queue.clock()));
  auto writes = Forwarder::own_writes(queue.store());  // nothing is set aside here
  writes.settle = [&](const Settlement& settlement, std::stop_token stop) { return writer.settle(settlement, stop); };
  Forwarder forwarder(queue.store(), *sink, writes, queue.clock(), forwarder_settings(settings.kafka));
  Reader reader(brokers, topic);

  std::vector<double> ages;
  {
    std::jthread writing([&](std::stop_token stop) {
      if (auto end = writer.run(stop); !end) give_up(end.error().what);
    });
    std::jthread forwarding([&](std::stop_token stop) {
      if (auto end = forwarder.run(stop); !end) give_up(end.error().what);
    });
    auto one = [&] {
      Samples samples;
      auto group = queue.group({samples.next()});
      double put = now();
      must(intake.put(group, {}));
      std::string value;
      if (!reader.next(value, 60)) give_up("a record did not arrive within 60 s");
      return now() - put;
    };
    // Connects, makes the topics; and Kafka's own compiler must have seen how fast it can be.
    for (int i = 0; i < (low ? 200 : 1); ++i) one();
    std::minstd_rand random(7);
    while (ages.size() < count) {
      // Longer than the shortest time between two transactions: the link is idle again.
      auto idle = settings.kafka.batch_interval + std::chrono::milliseconds(20 + random() % 50);
      std::this_thread::sleep_for(idle);
      ages.push_back(1e3 * one());
    }
    forwarding.request_stop();
    forwarding.join();
    intake.close();
    writing.request_stop();
  }
  fact("latency", {{"profile", profile},
                   {"count", count},
                   {"p50_ms", median(ages)},
                   {"p99_ms", percentile(ages, 0.99)},
                   {"max_ms", percentile(ages, 1)}});
}

void tail(const std::string& brokers, const std::string& topic, std::uint64_t count) {
  Reader reader(brokers, topic);
  fact("ready", json::object());
  std::vector<double> ages;
  std::string value;
  while (ages.size() < count) {
    if (!reader.next(value, 60)) give_up(fmt::format("only {} of {} messages within 60 s", ages.size(), count));
    ages.push_back(1e3 * (now() - 1e-9 * std::strtod(value.c_str(), nullptr)));
  }
  fact("tail", {{"count", ages.size()},
                {"p50_ms", median(ages)},
                {"p99_ms", percentile(ages, 0.99)},
                {"max_ms", percentile(ages, 1)}});
}

void main_of(const std::vector<std::string>& words) {
  const std::string &command = words.at(0), &brokers = words.at(1);
  if (command == "far")
    return far(words.at(1), words.at(2), std::stoull(words.at(3)), std::stoi(words.at(4)), words.at(5));
  if (command == "duel")
    return duel(brokers, words.at(2), words.at(3), std::stoull(words.at(4)), std::stoull(words.at(5)));
  if (command == "latency") return latency(brokers, words.at(2), std::stoull(words.at(3)), words.at(4));
  if (command == "tail") return tail(brokers, words.at(2), std::stoull(words.at(3)));
  if (command == "count") return fact("committed", {{"count", count_committed(brokers, words.at(2))}});
  give_up("no such command: " + command);
}

}  // namespace
}  // namespace penstock::bench

int main(int count, char** words) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("bench"));
  spdlog::set_level(spdlog::level::warn);
  try {
    penstock::bench::main_of({words + 1, words + count});
  } catch (const std::exception& wrong) {
    fmt::print(stderr, "bench: {}\n", wrong.what());
    return 1;
  }
}
