// What is said of broken files: exact text, line and column. `@` stands for the least file that is right, six lines.
// What toml++ says after "not TOML" differs from version to version and is left out.
#include <string>

#include "config/config.h"
#include "tests/catch.h"
#include "tests/config/sample_driver.h"

namespace penstock {
namespace {
namespace broken_test {

struct Broken {
  const char* text;
  const char* report;
};

constexpr const char* kLeast = R"([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
[drivers.d]
type = "thing"
)";

// clang-format off
constexpr Broken kBroken[] = {
    {R"~()~",
     R"~(f:1:1: agent.id is missing, expected letters, digits, ".", "_" or "-", at most 64 of them, for example "gw-17"
f:1:1: kafka.brokers is missing, expected a list of strings, for example ["kafka-1:9092", "kafka-2:9092"]
f:1:1: drivers is empty, expected at least one table [drivers.NAME] with a type
)~"},
    {R"~([agent]
id = "gw"
)~",
     R"~(f:1:1: kafka.brokers is missing, expected a list of strings, for example ["kafka-1:9092", "kafka-2:9092"]
f:1:1: drivers is empty, expected at least one table [drivers.NAME] with a type
)~"},
    {R"~(@[bufer]
capacity = "1GiB"
)~",
     R"~(f:7:2: bufer is not a section of Penstock, did you mean "buffer"?
)~"},
    {R"~(@capacity = "1GiB"
)~",
     R"~(f:7:1: drivers.d.capacity is not a key of Penstock, it belongs to [buffer]
)~"},
    {R"~(@[buffer]
capcity = "1GiB"
comit_bytes = "1MiB"
when_ful = "block"
)~",
     R"~(f:8:1: buffer.capcity is not a key of Penstock, did you mean "capacity"?
f:9:1: buffer.comit_bytes is not a key of Penstock, did you mean "commit_bytes"?
f:10:1: buffer.when_ful is not a key of Penstock, did you mean "when_full"?
)~"},
    {R"~(@[lanes.a]
share = "60%"
max_age = "1 day"
[lanes.b]
share = "50%"
)~",
     R"~(f:5:1: drivers.d.lane is "telemetry", expected one of the lanes a, b
f:7:1: the shares of all lanes are 110%, expected at most 100%
f:9:11: lanes.a.max_age is "1 day", expected a duration from "1s" to "3650d", did you mean "1d"?
)~"},
    {R"~(@[buffer]
zebra = 1
)~",
     R"~(f:8:1: buffer.zebra is not a key of Penstock, expected one of capacity, journal_bytes, commit_interval, commit_bytes, intake_bytes, max_record_bytes, when_full, compression_level
)~"},
    {R"~(@[buffer]
capacity = "1GB"
commit_bytes = "64kib"
intake_bytes = "5"
max_record_bytes = "1 MiB"
)~",
     R"~(f:8:12: buffer.capacity is "1GB", expected a size from "16MiB" to "1TiB", did you mean "1GiB"?
f:9:16: buffer.commit_bytes is "64kib", expected a size from "1KiB" to "64MiB", did you mean "64KiB"?
f:10:16: buffer.intake_bytes is "5", expected a size from "64KiB" to "1GiB"
f:11:20: buffer.max_record_bytes is "1 MiB", expected a size from "1KiB" to "64MiB", did you mean "1MiB"?
)~"},
    {R"~(@[buffer]
capacity = 1073741824
)~",
     R"~(f:8:12: buffer.capacity is 1073741824, expected a size from "16MiB" to "1TiB"
)~"},
    {R"~(@[buffer]
capacity = "1KiB"
)~",
     R"~(f:8:12: buffer.capacity is "1KiB", expected a size from "16MiB" to "1TiB"
)~"},
    {R"~(@[buffer]
capacity = "99999999999TiB"
)~",
     R"~(f:8:12: buffer.capacity is "99999999999TiB", expected a size from "16MiB" to "1TiB"
)~"},
    {R"~(@[buffer]
capacity = "16MiB"
max_record_bytes = "4MiB"
intake_bytes = "8MiB"
)~",
     R"~(f:8:12: buffer.capacity is "16MiB", expected at least 8 times max_record_bytes ("4MiB")
)~"},
    {R"~(@[buffer]
commit_interval = 50
)~",
     R"~(f:8:19: buffer.commit_interval is 50, expected a duration from "1ms" to "1m"
)~"},
    {R"~(@[buffer]
commit_interval = "50 ms"
)~",
     R"~(f:8:19: buffer.commit_interval is "50 ms", expected a duration from "1ms" to "1m", did you mean "50ms"?
)~"},
    {R"~(@[buffer]
commit_interval = "5min"
)~",
     R"~(f:8:19: buffer.commit_interval is "5min", expected a duration from "1ms" to "1m", did you mean "5m"?
)~"},
    {R"~(@[buffer]
commit_interval = "50"
)~",
     R"~(f:8:19: buffer.commit_interval is "50", expected a duration from "1ms" to "1m"
)~"},
    {R"~(@[buffer]
commit_interval = "1500us"
)~",
     R"~(f:8:19: buffer.commit_interval is "1500us", expected a duration from "1ms" to "1m", a multiple of "1ms"
)~"},
    {R"~(@[buffer]
commit_interval = "0ms"
)~",
     R"~(f:8:19: buffer.commit_interval is "0ms", expected a duration from "1ms" to "1m"
)~"},
    {R"~(@[buffer]
when_full = "evict-oldest"
)~",
     R"~(f:8:13: buffer.when_full is "evict-oldest", expected "evict_oldest", "reject_newest" or "block", did you mean "evict_oldest"?
)~"},
    {R"~(@[buffer]
when_full = true
)~",
     R"~(f:8:13: buffer.when_full is true, expected "evict_oldest", "reject_newest" or "block"
)~"},
    {R"~(@[buffer]
compression_level = "1"
)~",
     R"~(f:8:21: buffer.compression_level is "1", expected a whole number from 0 to 19
)~"},
    {R"~(@[buffer]
compression_level = 20
)~",
     R"~(f:8:21: buffer.compression_level is 20, expected a whole number from 0 to 19
)~"},
    {R"~(@[buffer]
compression_level = 1.5
)~",
     R"~(f:8:21: buffer.compression_level is 1.5, expected a whole number from 0 to 19
)~"},
    {R"~([agent]
id = "gateway 17"
[kafka]
brokers = ["k:9092"]
[drivers.d]
type = "thing"
)~",
     R"~(f:2:6: agent.id is "gateway 17", expected letters, digits, ".", "_" or "-", at most 64 of them
)~"},
    {R"~([agent]
id = ""
state_directory = "queue"
[kafka]
brokers = ["k:9092"]
[drivers.d]
type = "thing"
)~",
     R"~(f:2:6: agent.id is "", expected letters, digits, ".", "_" or "-", at most 64 of them
f:3:19: agent.state_directory is "queue", expected an absolute path
)~"},
    {R"~([agent]
id = "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggggg"
[kafka]
brokers = ["k:9092"]
[drivers.d]
type = "thing"
)~",
     R"~(f:2:6: agent.id is "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff...", expected letters, digits, ".", "_" or "-", at most 64 of them
)~"},
    {R"~(agent = "gw"
buffer = 5
kafka = []
drivers = "thing"
lanes = [1]
)~",
     R"~(f:1:9: agent is "gw", expected a table [agent]
f:2:10: buffer is 5, expected a table [buffer]
f:3:9: kafka is a list, expected a table [kafka]
f:4:11: drivers is "thing", expected a table [drivers.NAME]
f:5:9: lanes is a list, expected a table [lanes.NAME]
)~"},
    {R"~(@[lanes."a b"]
[lanes.gaps]
[lanes.checkpoints]
[lanes.telemetry]
)~",
     R"~(f:7:8: the name "a b" in lanes is not possible, expected letters, digits, ".", "_" or "-", at most 64 of them
f:8:8: the lane name "gaps" is Penstock's own, expected another
f:9:8: the lane name "checkpoints" is Penstock's own, expected another
)~"},
    {R"~(@[lanes.alarms]
priority = -1
)~",
     R"~(f:5:1: drivers.d.lane is "telemetry", expected one of the lanes alarms
f:8:12: lanes.alarms.priority is -1, expected a whole number from 0 to 1000
)~"},
    {R"~(@[lanes]
alarms = 1
)~",
     R"~(f:8:10: lanes.alarms is 1, expected a table [lanes.alarms]
)~"},
    {R"~(@[lanes.telemetri]
)~",
     R"~(f:5:1: drivers.d.lane is "telemetry", expected one of the lanes telemetri, did you mean "telemetri"?
)~"},
    {R"~(@lane = "alarm"
[lanes.telemetry]
[lanes.alarms]
)~",
     R"~(f:7:8: drivers.d.lane is "alarm", expected one of the lanes telemetry, alarms, did you mean "alarms"?
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = []
[drivers.d]
type = "thing"
)~",
     R"~(f:4:11: kafka.brokers is an empty list, expected host:port of a broker
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = "k:9092"
[drivers.d]
type = "thing"
)~",
     R"~(f:4:11: kafka.brokers is "k:9092", expected a list of strings
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k", "k:0", "k:99999", "k:9092", ":9092", "a b:1", "[::1]:9092", "[x]:9092", "k:9092", 5,
  "k:9092x"]
[drivers.d]
type = "thing"
)~",
     R"~(f:4:12: kafka.brokers[0] is "k", expected host:port, for example "kafka-1:9092"
f:4:17: kafka.brokers[1] is "k:0", expected host:port, for example "kafka-1:9092"
f:4:24: kafka.brokers[2] is "k:99999", expected host:port, for example "kafka-1:9092"
f:4:45: kafka.brokers[4] is ":9092", expected host:port, for example "kafka-1:9092"
f:4:54: kafka.brokers[5] is "a b:1", expected host:port, for example "kafka-1:9092"
f:4:77: kafka.brokers[7] is "[x]:9092", expected host:port, for example "kafka-1:9092"
f:4:99: kafka.brokers[9] is 5, expected a string
f:5:3: kafka.brokers[10] is "k:9092x", expected host:port, for example "kafka-1:9092"
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
topic = "penstock.{lan}"
key = "{agent"
delivery = "exactly-once"
[drivers.d]
type = "thing"
)~",
     R"~(f:5:9: kafka.topic is "penstock.{lan}", expected text with {agent}, {driver}, {stream}, {lane} or {key}, did you mean {lane}?
f:6:7: kafka.key is "{agent", expected text with {agent}, {driver}, {stream}, {lane} or {key}, each with both braces
f:7:12: kafka.delivery is "exactly-once", expected "exactly_once" or "at_least_once", did you mean "exactly_once"?
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
topic = "penstock.{stream}"
[drivers.d]
type = "thing"
)~",
     R"~(f:5:9: kafka.topic is "penstock.{stream}" and may yield "penstock.checkpoints", Penstock's own topic, expected one that cannot, for example "data.{stream}"
)~"},
    {R"~([agent]
id = "penstock"
[kafka]
brokers = ["k:9092"]
topic = "{agent}/{driver}"
[drivers.gaps]
type = "thing"
)~",
     R"~(f:5:9: kafka.topic is "{agent}/{driver}" and may yield "penstock.gaps", Penstock's own topic, expected one that cannot, for example "data.{stream}"
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
topic = "penstock.checkpoints"
key = "}"
[drivers.d]
type = "thing"
)~",
     R"~(f:5:9: kafka.topic is "penstock.checkpoints" and may yield "penstock.checkpoints", Penstock's own topic, expected one that cannot, for example "data.{stream}"
f:6:7: kafka.key is "}", expected text with {agent}, {driver}, {stream}, {lane} or {key}, each with both braces
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
batch_interval = "11s"
batch_records = 0
transaction_timeout = "30s"
[drivers.d]
type = "thing"
)~",
     R"~(f:6:17: kafka.batch_records is 0, expected a whole number from 1 to 1000000
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
batch_interval = "11s"
[drivers.d]
type = "thing"
)~",
     R"~(f:5:18: kafka.batch_interval is "11s", expected at most a third of transaction_timeout ("30s")
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
rate_limit = "1KiB/s"
[buffer]
max_record_bytes = "16KiB"
[drivers.d]
type = "thing"
)~",
     R"~(f:5:14: kafka.rate_limit is "1KiB/s", expected one that moves "64KiB" or more in transaction_timeout ("30s"), or "0B/s" for no limit
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
rate_limit = "256KB/s"
[drivers.d]
type = "thing"
)~",
     R"~(f:5:14: kafka.rate_limit is "256KB/s", expected a rate such as "256KiB/s", did you mean "256KiB/s"?
)~"},
    {R"~(@[kafka.properties]
transactional.id = "mine"
"enable.idempotence" = false
bootstrap.servers = "x:1"
acks = 1
sasl.password = ["hunter2"]
)~",
     R"~(f:8:20: kafka.properties."transactional.id" cannot be set, it comes from agent.id
f:9:24: kafka.properties."enable.idempotence" cannot be set, it comes from kafka.delivery
f:10:21: kafka.properties."bootstrap.servers" cannot be set, it comes from kafka.brokers
f:11:8: kafka.properties."acks" cannot be set, it is always "all"
f:12:17: kafka.properties."sasl.password" is a list, expected a string
)~"},
    {R"~(@[http]
listen = "0.0.0.0:9464"
)~",
     R"~(f:8:10: http.listen is "0.0.0.0:9464", expected a port of this machine only, for example "127.0.0.1:9464", or "off"
)~"},
    {R"~(@[http]
listen = ":9464"
port = 1
)~",
     R"~(f:8:10: http.listen is ":9464", expected a port of this machine only, for example "127.0.0.1:9464", or "off"
f:9:1: http.port is not a key of Penstock, expected one of listen
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
)~",
     R"~(f:1:1: drivers is empty, expected at least one table [drivers.NAME] with a type
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
[drivers]
)~",
     R"~(f:5:1: drivers is empty, expected at least one table [drivers.NAME] with a type
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
[drivers.d]
type = "thin"
anything = 1
)~",
     R"~(f:6:8: drivers.d.type is "thin", expected one of thing, ring, did you mean "thing"?
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
[drivers.d]
lane = "telemetry"
[drivers.e]
type = 5
[drivers.penstock]
type = "thing"
[drivers."a/b"]
type = "thing"
)~",
     R"~(f:5:1: drivers.d.type is missing, expected a string
f:8:8: drivers.e.type is 5, expected a string
f:9:10: the driver name "penstock" is Penstock's own, expected another
f:11:10: the name "a/b" in drivers is not possible, expected letters, digits, ".", "_" or "-", at most 64 of them
)~"},
    {R"~(@on_bussy = "wait"
intervall = "1s"
)~",
     R"~(f:7:1: drivers.d.on_bussy is not a key of Penstock, did you mean "on_busy"?
f:8:1: drivers.d.intervall is not a key of Penstock, did you mean "interval"?
)~"},
    {R"~(@on_busy = "block"
device = "dev/thing"
enabled = "true"
count = 70000
factor = 3.0
)~",
     R"~(f:7:11: drivers.d.on_busy is "block", expected "wait" or "drop"
f:8:10: drivers.d.device is "dev/thing", expected a path that begins with /
f:9:11: drivers.d.enabled is "true", expected true or false, did you mean true without quotes?
f:10:9: drivers.d.count is 70000, expected a whole number from 0 to 65535
f:11:10: drivers.d.factor is 3, expected a number from 0.5 to 2.5
)~"},
    {R"~(@enabled = 1
count = -1
factor = nan
interval = "2h"
memory = "1.5KiB"
limit = "5KiB"
)~",
     R"~(f:7:11: drivers.d.enabled is 1, expected true or false
f:8:9: drivers.d.count is -1, expected a whole number from 0 to 65535
f:9:10: drivers.d.factor is nan, expected a number from 0.5 to 2.5
f:10:12: drivers.d.interval is "2h", expected a duration from "10ms" to "1h"
f:11:10: drivers.d.memory is "1.5KiB", expected a size such as "512KiB" or "1GiB"
f:12:9: drivers.d.limit is "5KiB", expected a rate such as "256KiB/s", did you mean "5KiB/s"?
)~"},
    {R"~(@limit = "5kbps"
share = 10
mode = "carefull"
tags = ["a", 2, "c"]
)~",
     R"~(f:7:9: drivers.d.limit is "5kbps", expected a rate such as "256KiB/s", did you mean "5KiB/s"?
f:8:9: drivers.d.share is 10, expected a percentage such as "10%", did you mean "10%"?
f:9:8: drivers.d.mode is "carefull", expected "fast" or "careful", did you mean "careful"?
f:10:14: drivers.d.tags[1] is 2, expected a string
)~"},
    {R"~(@share = "101%"
tags = "a"
labels = { a = "1", b = ["2"] }
interval = 2026-11-22
)~",
     R"~(f:7:9: drivers.d.share is "101%", expected a percentage such as "10%"
f:8:8: drivers.d.tags is "a", expected a list of strings
f:9:25: drivers.d.labels."b" is a list, expected a string
f:10:12: drivers.d.interval is a date or time, expected a duration from "10ms" to "1h"
)~"},
    {R"~(@labels = "x"
points = { name = "a" }
)~",
     R"~(f:7:10: drivers.d.labels is "x", expected a table of strings
f:8:10: drivers.d.points is a table, expected a list of tables
)~"},
    {R"~(@points = [{ name = "p", address = 100 }, { adress = 5 }, "q"]
)~",
     R"~(f:7:35: drivers.d.points[0].address is 100, expected a whole number from 0 to 99
f:7:42: drivers.d.points[1].name is missing, expected a string
f:7:44: drivers.d.points[1].adress is not a key of Penstock, did you mean "address"?
f:7:58: drivers.d.points[2] is "q", expected a table
)~"},
    {R"~(@count = 11
mode = "careful"
)~",
     R"~(f:7:9: drivers.d.count is too many for mode "careful", expected at most 10
)~"},
    {R"~(@password = 12345
)~",
     R"~(f:7:12: drivers.d.password is not a string, expected a string, "${NAME}" or { file = "..." }
)~"},
    {R"~(@password = ["hunter2"]
)~",
     R"~(f:7:12: drivers.d.password is a list, expected a string, "${NAME}" or { file = "..." }
)~"},
    {R"~(@password = { file = "none" }
)~",
     R"~(f:7:21: drivers.d.password cannot be read from "none"
)~"},
    {R"~(@password = { fil = "none", text = "hunter2" }
)~",
     R"~(f:7:14: drivers.d.password has an unknown key "fil", expected { file = "..." }
)~"},
    {R"~(@password = {}
labels = { a = { file = 5 }, b = { file = "" } }
)~",
     R"~(f:7:12: drivers.d.password is a table, expected { file = "..." }
f:8:25: drivers.d.labels."a" has the file 5, expected a path
f:8:43: drivers.d.labels."b" has the file "", expected a path
)~"},
    {R"~(@device = "${DEVICE}"
tags = ["${", "${A B}", "${}"]
)~",
     R"~(f:7:10: the environment variable DEVICE is not set
f:8:9: "${" begins no variable, expected "${NAME}", or "$${" for the text itself
f:8:15: "${" begins no variable, expected "${NAME}", or "$${" for the text itself
f:8:25: "${" begins no variable, expected "${NAME}", or "$${" for the text itself
)~"},
    {R"~(@device = "${PW}"
)~",
     R"~(f:7:10: drivers.d.device is "${PW}", expected a path that begins with /
)~"},
    {R"~(@device = "mqtt://user:hunter2@host/x"
)~",
     R"~(f:7:10: drivers.d.device is "mqtt://***@host/x", expected a path that begins with /
)~"},
    {R"~(@device = "tab\tand\nfeed"
)~",
     R"~(f:7:10: drivers.d.device is "tab?and?feed", expected a path that begins with /
)~"},
    {R"~(@device = "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij"
)~",
     R"~(f:7:10: drivers.d.device is "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij...", expected a path that begins with /
)~"},
    {R"~(@mode = "a b
count = "x"
)~",
     R"~(f:7:12: not TOML
f:8:9: drivers.d.count is "x", expected a whole number
)~"},
    {R"~(@count = 
factor = "x"
interval = what
)~",
     R"~(f:7:9: not TOML
f:8:10: drivers.d.factor is "x", expected a number from 0.5 to 2.5
f:9:12: not TOML
)~"},
    {R"~(@tags = ["a",
count = "x"
)~",
     R"~(f:8:1: not TOML
)~"},
    {R"~(@count = 1
count = 2
factor = "x"
)~",
     R"~(f:8:9: not TOML
f:9:10: drivers.d.factor is "x", expected a number from 0.5 to 2.5
)~"},
    {R"~(@[drivers.e
type = "thing"
)~",
     R"~(f:7:11: not TOML
)~"},
    {R"~(@[drivers.d]
count = 2
)~",
     R"~(f:7:1: not TOML
)~"},
    {R"~(@device = """
count = 1
)~",
     R"~(f:8:11: not TOML
)~"},
    {R"~(@password = hunter2
)~",
     R"~(f:7:12: not TOML
)~"},
    {R"~(@count = 08
words without a meaning
factor = "x"
)~",
     R"~(f:7:11: not TOML
f:8:7: not TOML
f:9:10: drivers.d.factor is "x", expected a number from 0.5 to 2.5
)~"},
    {R"~(@password = 99999999999999999999999999
)~",
     R"~(f:7:38: not TOML
)~"},
    {R"~(@password = true_hunter2
)~",
     R"~(f:7:16: not TOML
)~"},
    {R"~(@lane = "${LANE}"
password = "${PASSWORD}"
labels = { a = "${LABEL}" }
tags = ["${PW}", "${TAG}"]
[drivers.e]
type = "${TYPE}"
[drivers.f]
type = "thing"
password = { file = "${CREDENTIALS}/pw" }
)~",
     R"~(f:7:8: the environment variable LANE is not set
f:8:12: the environment variable PASSWORD is not set
f:9:16: the environment variable LABEL is not set
f:10:18: the environment variable TAG is not set
f:12:8: the environment variable TYPE is not set
f:15:21: the environment variable CREDENTIALS is not set
)~"},
    {R"~(@[lanes.telemetry]
priority = 1
prio = 2
[kafka.properties]
"a" = { file = "/etc/none" }
[lane.x]
[topic]
)~",
     R"~(f:9:1: lanes.telemetry.prio is not a key of Penstock, expected one of priority, max_age, share
f:11:16: kafka.properties."a" cannot be read from "/etc/none"
f:12:2: lane is not a section of Penstock, did you mean "lanes"?
f:13:2: topic is not a section of Penstock, it belongs to [kafka]
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092", "j:9092", "k:9092"]
[drivers.d]
type = "thing"
)~",
     R"~(f:4:32: kafka.brokers[2] is "k:9092" again, expected each broker once
)~"},
    {R"~([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
topic = "{driver}/gaps"
[drivers.d]
type = "thing"
)~",
     R"~(f:5:9: kafka.topic is "{driver}/gaps" and may yield "penstock.gaps", Penstock's own topic, expected one that cannot, for example "data.{stream}"
)~"},
    {R"~(@lane = "${PW}"
)~",
     R"~(f:7:8: drivers.d.lane is "${PW}", expected one of the lanes telemetry
)~"},
};
// clang-format on

Loaded read_broken(const std::string& text) {
  auto whole = text.starts_with('@') ? kLeast + text.substr(1) : text;
  auto environment = [](const std::string& name) -> std::optional<std::string> {
    return name == "PW" ? std::optional<std::string>("hunter2") : std::nullopt;
  };
  FileFacts facts;
  facts.name = "f";
  facts.directory = "/nonexistent";
  return load_text(whole, facts, sample::kinds(), environment);
}

/// Each line up to "not TOML".
std::string without_details(const std::string& report) {
  std::string out;
  for (std::size_t at = 0; at < report.size();) {
    auto end = report.find('\n', at);
    auto line = report.substr(at, end - at);
    if (auto words = line.find("not TOML"); words != std::string::npos) line.resize(words + 8);
    out += line + "\n";
    at = end + 1;
  }
  return out;
}

TEST_CASE("every mistake is told once, at its line and column, with what was expected") {
  for (const auto& broken : kBroken) {
    auto loaded = read_broken(broken.text);
    INFO(broken.text);
    CHECK(without_details(loaded.report()) == broken.report);
    CHECK_FALSE(loaded.ok());
  }
}

TEST_CASE("a rate limit at which the largest record cannot be sent in time earns a warning") {
  auto loaded = read_broken(R"([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
rate_limit = "16KiB/s"
[drivers.d]
type = "thing"
)");
  INFO(loaded.report());
  REQUIRE(loaded.ok());
  REQUIRE(loaded.warnings.size() == 1);
  CHECK(
      loaded.warnings[0].what ==
      "kafka.rate_limit is \"16KiB/s\": a record of buffer.max_record_bytes (\"1MiB\") that does not compress is never "
      "sent, for it takes longer than kafka.transaction_timeout (\"30s\")");
}

TEST_CASE("a rate limit that is refused earns no warning besides") {
  auto loaded = read_broken(R"([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
rate_limit = "1KiB/s"
[drivers.d]
type = "thing"
)");
  INFO(loaded.report());
  CHECK(loaded.problems.size() == 1);
  CHECK(loaded.warnings.empty());
}

TEST_CASE("both ends of a range are within it") {
  for (std::string right : {"factor = 0.5", "factor = 2.5", "interval = \"10ms\"", "interval = \"1h\"", "count = 0",
                            "count = 65535", "share = \"0%\"", "share = \"100%\"", "[buffer]\ncapacity = \"16MiB\"",
                            "[buffer]\ncapacity = \"1TiB\"", "[lanes.telemetry]\npriority = 1000"}) {
    INFO(right);
    CHECK(read_broken("@" + right).problems.empty());
  }
}

TEST_CASE("a topic that only looks like one of ours is right") {
  const std::string least =
      "[agent]\nid = \"gw\"\n[drivers.d]\ntype = \"thing\"\n[kafka]\nbrokers = [\"k:1\"]\ntopic = ";
  for (std::string topic : {"penstock.{lane}", "data.{stream}", "{lane}", "penstock.{lane}.{stream}", "{agent}.gaps",
                            "penstock.gaps.{key}x", "{stream}.{lane}", "{stream}s.x"}) {
    INFO(topic);
    CHECK(read_broken(least + "\"" + topic + "\"\n").report().empty());
  }
  for (std::string topic : {"{stream}", "{key}", "{stream}{key}", "{stream}.gaps", "penstock{key}",
                            "pen{stream}.checkpoints", "penstock/gaps"}) {
    INFO(topic);
    CHECK(read_broken(least + "\"" + topic + "\"\n").problems.size() == 1);
  }
}

TEST_CASE("no part of a secret is in what is said of a broken file") {
  for (const auto& broken : kBroken) CHECK(read_broken(broken.text).report().find("unter2") == std::string::npos);

  // toml++ quotes what it cannot read.
  CHECK(read_broken("password = 31415926535897932384626433\n").report().find("31415") == std::string::npos);
  CHECK(read_broken("password = true_hunter2\n").report().find("hunter") == std::string::npos);

  // Whatever is wrong, wherever: the file cut at every byte, and with each byte changed.
  const std::string right = std::string(kLeast) + "password = \"hunter2\"\nlabels = { a = \"hunter2\" }\n" +
                            "points = [{ name = \"a\" }]\n[kafka.properties]\nsasl.password = 'hunter2'\n";
  REQUIRE(read_broken(right).report().empty());
  for (std::size_t at = 0; at < right.size(); ++at) {
    CHECK(read_broken(right.substr(0, at)).report().find("unter2") == std::string::npos);
    for (char change : {'"', '\'', '\\', '=', '[', '\n', 'x', '\x01', '\x80'}) {
      auto changed = right;
      changed[at] = change;
      auto report = read_broken(changed).report();
      INFO(changed << "\n" << report);
      CHECK(report.find("unter2") == std::string::npos);
    }
  }
}

TEST_CASE("a file that is too large, too deep or no text is told as such") {
  CHECK(read_broken(std::string((1 << 20) + 1, '\n')).report() ==
        "f:1:1: the file has 1048577 bytes, at most 1 MiB is read\n");
  std::string deep = "\na";
  for (int i = 0; i < 600; ++i) deep += ".a";
  CHECK(read_broken(deep + " = 1\n").report() == "f:2:1: more than 500 dots in one line\n");
  CHECK(without_details(read_broken("\xff\xfe").report()) == "f:1:1: not TOML\n");
  CHECK(read_broken("a = " + std::string(5'000, '[')).problems.size() == 1);
}

}  // namespace broken_test
}  // namespace
}  // namespace penstock
