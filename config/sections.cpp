// The key tables of every section: what each key is called, takes, means. Defaults are those of settings.h.
#include <chrono>

#include "config/checks.h"
#include "config/config.h"
#include "config/units.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

constexpr double kKiB = 1024, kMiB = kKiB * 1024, kGiB = kMiB * 1024;

std::string absolute_path_check(const std::string& text) {
  return std::filesystem::path(text).is_absolute() ? "" : "an absolute path";
}

std::string quoted_size(std::uint64_t bytes) { return "\"" + print_size(bytes) + "\""; }

std::string quoted_duration(std::chrono::microseconds duration) { return "\"" + print_duration(duration) + "\""; }

KeyTable agent_keys() {
  return Keys<AgentSettings>()
      .key("id", &AgentSettings::id,
           "Names this gateway for ever: in Kafka's transactional id, in every record and in the checkpoint. No two "
           "living agents may share one. Letters, digits, `.`, `_`, `-`, at most 64.")
      .required()
      .example("\"gw-17\"")
      .check(name_check)
      .key("state_directory", &AgentSettings::state_directory, "Where the queue lies.")
      .check(absolute_path_check)
      .key("status_interval", &AgentSettings::status_interval,
           "How often a status record goes to the stream penstock/status.")
      .between(1s, 24h);
}

KeyTable buffer_keys() {
  return Keys<BufferSettings>()
      .size("capacity", &BufferSettings::capacity_bytes,
            "Disk for the queue, all lanes together. Never more is taken; what happens when it is full says when_full.")
      .between(16 * kMiB, 1024 * kGiB)
      .size("journal_bytes", &BufferSettings::journal_bytes,
            "Part of capacity for the journal, where each commit is written first; at most a quarter of it. It is "
            "written "
            "once when the queue is made and keeps that size.")
      .between(1 * kMiB, 1 * kGiB)
      .key("commit_interval", &BufferSettings::commit_interval,
           "Records wait at most this long for a commit to disk: what a power cut may take from sources that cannot "
           "resend. Shorter costs flash wear.")
      .between(1ms, 60s)
      .size("commit_bytes", &BufferSettings::commit_bytes, "Commit earlier when this much waits.")
      .between(1 * kKiB, 64 * kMiB)
      .size("intake_bytes", &BufferSettings::intake_bytes,
            "RAM for records that wait for their commit; when it is full, drivers wait.")
      .between(64 * kKiB, 1 * kGiB)
      .size("max_record_bytes", &BufferSettings::max_record_bytes,
            "A larger record is refused, counted and told to Kafka as a gap.")
      .between(1 * kKiB, 64 * kMiB)
      .choice("when_full", &BufferSettings::when_full,
              {{"evict_oldest", WhenFull::evict_oldest},
               {"reject_newest", WhenFull::reject_newest},
               {"block", WhenFull::block}},
              "What gives way when the queue is full: the oldest records of the least important lane, the new ones, or "
              "nothing (sources wait).")
      .key("compression_level", &BufferSettings::compression_level, "zstd level of the blocks on disk; 0 is off.")
      .between(0, 19)
      .verify([](const BufferSettings& buffer, Complaints& say) {
        if (sizeof(void*) == 4 && buffer.capacity_bytes > std::uint64_t{1} << 30) {
          // Debian 12's armhf LMDB has no large-file support.
          say.problem("capacity",
                      "is " + quoted_size(buffer.capacity_bytes) + ", expected at most \"1GiB\" on a 32-bit machine");
        }
        if (buffer.capacity_bytes / 8 < buffer.max_record_bytes) {
          say.problem("capacity", "is " + quoted_size(buffer.capacity_bytes) +
                                      ", expected at least 8 times max_record_bytes (" +
                                      quoted_size(buffer.max_record_bytes) + ")");
        }
        if (buffer.intake_bytes < buffer.max_record_bytes) {
          say.warning("intake_bytes", "is " + quoted_size(buffer.intake_bytes) + ", less than max_record_bytes (" +
                                          quoted_size(buffer.max_record_bytes) +
                                          "): a large record has to wait until the intake is empty");
        }
        if (buffer.commit_bytes > buffer.intake_bytes) {
          say.warning("commit_bytes", "is " + quoted_size(buffer.commit_bytes) + ", more than intake_bytes (" +
                                          quoted_size(buffer.intake_bytes) +
                                          ") can hold: only commit_interval decides");
        }
      });
}

KeyTable lane_keys() {
  return Keys<LaneSection>()
      .key("priority", &LaneSection::priority, "0 is sent first and evicted last; lanes may share a priority.")
      .between(0, 1000)
      .key(
          "max_age", &LaneSection::max_age,
          "Records that wait for longer are given up, counted and told to Kafka as a gap. Only time that surely passed "
          "counts: a clock that jumps expires nothing. Not given: none is too old.")
      .between(1s, 10 * 365 * 24h)
      .example("\"90d\"")
      .percentage("share", &LaneSection::share,
                  "Of capacity and of what is sent, guaranteed to this lane: so much of it is evicted last of all, and "
                  "goes along with every batch.")
      .between(0, 100);
}

KeyTable kafka_keys() {
  return Keys<KafkaSettings>()
      .key("brokers", &KafkaSettings::brokers, "Where to ask for the cluster: host:port of a few of its brokers.")
      .required()
      .example("[\"kafka-1:9092\", \"kafka-2:9092\"]")
      .check(host_port_check)
      .choice("delivery", &KafkaSettings::delivery,
              {{"exactly_once", Delivery::exactly_once}, {"at_least_once", Delivery::at_least_once}},
              "exactly_once: by Kafka's transactions. at_least_once: without; after a failure readers see some records "
              "twice and must skip them, see docs/consumers.md.")
      .key("topic", &KafkaSettings::topic,
           "Topic of a record, from {agent} {driver} {stream} {lane} {key}; in what they stand for `/` becomes `.`, "
           "what a topic cannot hold `_`.")
      .check(template_check)
      .key("key", &KafkaSettings::key,
           "Kafka key of a record, from the same names. One key, one partition: its order is kept.")
      .check(template_check)
      .choice(
          "headers", &KafkaSettings::headers,
          {{"cloudevents", HeaderStyle::cloudevents}, {"compact", HeaderStyle::compact}},
          "cloudevents: CloudEvents 1.0, binary mode. compact: one binary header, for links where every byte is paid.")
      .choice("timestamp", &KafkaSettings::timestamp,
              {{"event", TimestampStyle::event}, {"send", TimestampStyle::send}},
              "What Kafka's own time stamp says: when it happened, or when it was sent.")
      .key("batch_interval", &KafkaSettings::batch_interval, "The shortest time between two transactions.")
      .between(0ms, 60s)
      .size("batch_bytes", &KafkaSettings::batch_bytes,
            "A transaction carries at most about this much payload; on a slow link less, what it moves in 10 s. More "
            "makes it faster over a long way, and takes RAM.")
      .between(64 * kKiB, 64 * kMiB)
      .key("batch_records", &KafkaSettings::batch_records, "A transaction carries at most this many records.")
      .between(1, 1e6)
      .unit("records")
      .rate("rate_limit", &KafkaSettings::rate_limit,
            "Bytes a second that are sent to Kafka at most, after compression, all connections together; `0B/s` for no "
            "limit. Kept on average; a transaction that goes to several brokers may be as many times faster while it "
            "lasts.")
      .key("transaction_timeout", &KafkaSettings::transaction_timeout,
           "The brokers abort a transaction that is open for longer; they allow at most transaction.max.timeout.ms.")
      .between(5s, 15min)
      .key(
          "duplicate_watch", &KafkaSettings::duplicate_watch,
          "How long a checkpoint that another copy of this store wrote must stand still before this one takes over; at "
          "least one and a half times status_interval and batch_interval. If it moves, another living agent has this "
          "id.")
      .between(1s, 1h)
      .key("max_topics", &KafkaSettings::max_topics,
           "More different topics than this are not written to: a record that would need one more is a dead letter.")
      .between(1, 10'000)
      .unit("topics")
      .choice("on_topic_error", &KafkaSettings::on_topic_error,
              {{"wait", OnTopicError::wait}, {"dead_letter", OnTopicError::dead_letter}},
              "When a record's topic is missing or may not be written to: its lane waits, or it becomes a dead letter.")
      .key("properties", &KafkaSettings::properties,
           "Handed to librdkafka as they are (its CONFIGURATION.md). A value may be { file = \"...\" }.")
      .example("{ \"security.protocol\" = \"plaintext\" }")
      .verify([](const KafkaSettings& kafka, Complaints& say) {
        if (kafka.brokers.empty()) say.problem("brokers", "is an empty list, expected host:port of a broker");
        if (kafka.batch_interval * 3 > kafka.transaction_timeout) {
          say.problem("batch_interval", "is " + quoted_duration(kafka.batch_interval) +
                                            ", expected at most a third of transaction_timeout (" +
                                            quoted_duration(kafka.transaction_timeout) + ")");
        }
        // The smallest batch must be through long before its transaction is aborted.
        const double moves =
            static_cast<double>(kafka.rate_limit) * std::chrono::duration<double>(kafka.transaction_timeout).count();
        if (kafka.rate_limit != 0 && moves < 64 * kKiB) {
          say.problem("rate_limit", "is \"" + print_rate(kafka.rate_limit) +
                                        "\", expected one that moves \"64KiB\" or more in transaction_timeout (" +
                                        quoted_duration(kafka.transaction_timeout) + "), or \"0B/s\" for no limit");
        }
      });
}

KeyTable http_keys() {
  return Keys<HttpSettings>()
      .key("listen", &HttpSettings::listen,
           "/metrics, /healthz and /api/status, on this machine only; \"off\" for none.")
      .check(listen_check);
}

KeyTable driver_keys() {
  return Keys<DriverSection>()
      .key("type", &DriverSection::type, "Which driver reads the source.")
      .required()
      .key("lane", &DriverSection::lane, "The lane its records go to.")
      .choice("on_busy", &DriverSection::on_busy, {{"wait", OnBusy::wait}, {"drop", OnBusy::drop}},
              "When the intake is full: wait, or drop the reading and count it (polled sensors and MQTT QoS 0 only).");
}

}  // namespace

const std::vector<Section>& sections() {
  static const std::vector<Section> all = {
      {"agent", "Who this gateway is.", agent_keys()},
      {"buffer", "The durable queue on this machine's disk.", buffer_keys()},
      {"lanes", "Classes of priority, each with a sequence of its own. None given: one lane, `telemetry`.", lane_keys(),
       true},
      {"kafka", "Where the queue empties.", kafka_keys()},
      {"http", "What can be seen from outside.", http_keys()},
      {"drivers", "The sources. The name of the table is the driver's name.", driver_keys(), true},
  };
  return all;
}

}  // namespace penstock
