// The metrics of AgentStatus, made anew for each scrape: nothing is counted twice and nothing is kept.
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <sstream>
#include <utility>
#include <vector>

#include "agent/daemon/status.h"

namespace penstock {
namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Families {
 public:
  void gauge(const char* name, const char* help) { begin(name, help, prometheus::MetricType::Gauge); }
  void counter(const char* name, const char* help) { begin(name, help, prometheus::MetricType::Counter); }
  /// A family of one value.
  template <class Number>
  void gauge(const char* name, const char* help, Number number) {
    gauge(name, help);
    value(number);
  }
  template <class Number>
  void counter(const char* name, const char* help, Number number) {
    counter(name, help);
    value(number);
  }

  /// A value of the family begun last.
  template <class Number>
  void value(Number number, const Labels& labels = {}) {
    prometheus::ClientMetric metric;
    for (const auto& [name, text] : labels) {
      metric.label.emplace_back();
      metric.label.back().name = name;
      metric.label.back().value = text;
    }
    if (families_.back().type == prometheus::MetricType::Gauge) {
      metric.gauge.value = static_cast<double>(number);
    } else {
      metric.counter.value = static_cast<double>(number);
    }
    families_.back().metric.push_back(std::move(metric));
  }

  std::string text() const {
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, families_);
    return out.str();
  }

 private:
  void begin(const char* name, const char* help, prometheus::MetricType type) {
    prometheus::MetricFamily family;
    family.name = name;
    family.help = help;
    family.type = type;
    families_.push_back(std::move(family));
  }
  std::vector<prometheus::MetricFamily> families_;
};

double as_seconds(std::chrono::microseconds duration) { return std::chrono::duration<double>(duration).count(); }

void add_lanes(Families& out, const AgentStatus& status) {
  const auto& lanes = status.store.lanes;
  auto each = [&](const char* name, const char* help, auto value) {
    out.gauge(name, help);
    for (const auto& lane : lanes) out.value(value(lane), {{"lane", lane.name}});
  };
  each("penstock_lane_backlog_records", "Records on disk that Kafka does not have yet.",
       [](const LaneStatus& lane) { return lane.records; });
  each("penstock_lane_durable_sequence", "Last sequence that is on disk.",
       [](const LaneStatus& lane) { return lane.durable.value(); });
  each("penstock_lane_delivered_sequence", "Last sequence up to which Kafka has everything.",
       [](const LaneStatus& lane) { return lane.delivered.value(); });
  each("penstock_lane_dropped_sequence", "Last sequence that is no longer kept.",
       [](const LaneStatus& lane) { return lane.dropped.value(); });
}

void add_store(Families& out, const AgentStatus& status) {
  const auto& store = status.store;
  out.gauge("penstock_store_used_bytes", "Bytes of the store in use.", store.used_pages * store.page_bytes);
  out.gauge("penstock_store_free_bytes", "Bytes of the store that are free.", store.free_pages * store.page_bytes);
  out.gauge("penstock_store_capacity_bytes", "Bytes the store may take on disk.",
            store.capacity_pages * store.page_bytes);
  out.counter("penstock_store_commits_total", "Commits of the store since the start.", store.commits);
  out.counter("penstock_store_seals_total", "Commits since the start that wrote to data.mdb.", store.seals);
  out.gauge("penstock_journal_bytes", "Size of the journal.", store.journal_bytes);
  out.gauge("penstock_journal_used_bytes", "Bytes of the journal that are not yet in data.mdb or in Kafka.",
            store.journal_used_bytes);
  out.gauge("penstock_ledger_entries", "Losses noted in the ledger whose gap record Kafka does not have yet.",
            store.ledger_entries);
  out.gauge("penstock_dead_letters",
            "Records that Kafka refuses for good, kept aside until they are retried or discarded.", store.dead_letters);
  out.counter("penstock_given_up_records_total", "Records given up by a stated policy since the start, by cause.");
  for (Cause cause : kCauses) {
    std::uint64_t records = 0;
    for (const auto& [known, count] : store.given_up) records += known == cause ? count : 0;
    out.value(records, {{"cause", name_of(cause)}});
  }
  out.counter("penstock_writer_records_total", "Records committed since the start.", status.writer_records);
  out.gauge("penstock_writer_turned_seconds", "Time since the writer's loop last turned.",
            as_seconds(status.writer_turned));
  out.gauge("penstock_writer_waiting_for_room", "1 while the full store makes the drivers wait.",
            status.waiting_for_room ? 1 : 0);
  out.gauge("penstock_intake_bytes", "Bytes that wait in RAM for a commit.", status.intake_bytes);
  out.gauge("penstock_intake_capacity_bytes", "Bytes that may wait in RAM for a commit.", status.intake_capacity);
}

void add_kafka(Families& out, const AgentStatus& status) {
  out.gauge("penstock_kafka_connected", "1 when the last call to Kafka succeeded.", status.connected ? 1 : 0);
  out.counter("penstock_kafka_commits_total", "Transactions committed since the start.", status.sent_commits);
  out.counter("penstock_kafka_records_total", "Records delivered since the start.", status.sent_records);
  out.counter("penstock_kafka_gaps_total", "Gap records delivered since the start.", status.sent_gaps);
  out.counter("penstock_kafka_sent_bytes_total",
              "Bytes sent to the brokers since the start, as TCP's payload: repeats and TLS included.",
              status.sink.sent_bytes);
  out.counter("penstock_kafka_received_bytes_total", "Bytes received from the brokers since the start, the same way.",
              status.sink.received_bytes);
  out.counter("penstock_kafka_resumes_total", "Times Kafka was asked where it stands.", status.resumes);
  out.counter("penstock_kafka_failures_total", "Failed calls to Kafka since the start.", status.failures);
  out.counter("penstock_kafka_forks_total", "Forks found in Kafka's checkpoint since the start.", status.forks);
  out.gauge("penstock_kafka_batch_limit_bytes", "What a transaction may carry on the present link.",
            static_cast<double>(status.batch_bytes));
  out.counter("penstock_kafka_carried_out_in_part_total",
              "Times that of the last transactions a part had to be sent again.", status.carried_out_in_part);
  out.counter("penstock_kafka_checkpoints_behind_total",
              "Times Kafka had forgotten what it had delivered to consumers.", status.checkpoints_behind);
  out.gauge("penstock_kafka_busy_seconds", "How long the forwarder's present call or sleep has lasted.",
            as_seconds(status.forwarder_busy));
  out.gauge("penstock_kafka_duplicate_id", "1 while nothing is sent because another living agent has this agent's id.",
            status.sink.duplicate_id ? 1 : 0);
  out.counter("penstock_kafka_producers_total", "Producers made since the start; each fences the one before it.",
              status.sink.producers);
  out.gauge("penstock_kafka_unwritable_topics", "Topics that cannot be written to now.", status.sink.topics.size());
}

void add_drivers(Families& out, const AgentStatus& status) {
  auto each = [&](auto value) {
    for (const auto& driver : status.drivers)
      out.value(value(driver), {{"driver", driver.name}, {"type", driver.type}});
  };
  out.gauge("penstock_driver_up", "1 while the driver runs and has not failed since its last records.");
  each([](const DriverStatus& driver) { return driver.state == DriverState::running && !driver.failed ? 1 : 0; });
  out.counter("penstock_driver_records_total", "Records put by the driver since the start.");
  each([](const DriverStatus& driver) { return driver.outlet.records; });
  out.counter("penstock_driver_bytes_total", "Bytes of the records put by the driver since the start.");
  each([](const DriverStatus& driver) { return driver.outlet.bytes; });
  out.counter("penstock_driver_failures_total", "Times the driver failed and was started again.");
  each([](const DriverStatus& driver) { return driver.failures; });
  out.counter("penstock_driver_intake_full_total", "Puts that found no room in RAM.");
  each([](const DriverStatus& driver) { return driver.outlet.full; });
  out.counter("penstock_driver_rejected_total", "Puts with a record over max_record_bytes.");
  each([](const DriverStatus& driver) { return driver.outlet.rejected; });
  out.counter("penstock_driver_given_up_records_total", "Records the driver gave up before they had a sequence.");
  for (const auto& driver : status.drivers) {
    for (const auto& [cause, count] : driver.outlet.given_up) {
      out.value(count, {{"driver", driver.name}, {"type", driver.type}, {"cause", name_of(cause)}});
    }
  }
  out.counter("penstock_driver_events_total", "What the driver counts itself.");
  for (const auto& driver : status.drivers) {
    for (const auto& [event, count] : driver.outlet.events) {
      out.value(count, {{"driver", driver.name}, {"type", driver.type}, {"event", event}});
    }
  }
}

}  // namespace

std::string to_metrics(const AgentStatus& status) {
  Families out;
  out.gauge("penstock_info", "1; who this is.");
  out.value(1, {{"agent", status.agent}, {"version", status.version}});
  out.gauge("penstock_uptime_seconds", "Time since the agent started.", as_seconds(status.uptime));
  out.gauge("penstock_clock_synchronised", "1 when the kernel knows the wall clock to be right.",
            status.synchronised ? 1 : 0);
  add_lanes(out, status);
  add_store(out, status);
  add_kafka(out, status);
  add_drivers(out, status);
  return out.text();
}

}  // namespace penstock
