#include "agent/kafka/headers.h"
#include "agent/kafka/messages.h"
#include "agent/kafka/template.h"
#include "tests/catch.h"

namespace penstock {
namespace {
namespace kafka_messages_test {

using namespace std::chrono_literals;

/// `part` if `text` has it, else the whole text, so that a failure shows it.
std::string part_of(const std::string& text, const std::string& part) {
  return text.find(part) == std::string::npos ? text : part;
}

WallTime at_second(std::int64_t seconds) { return WallTime(std::chrono::seconds(seconds)); }

Checkpoint a_checkpoint() {
  Checkpoint checkpoint;
  checkpoint.epoch = draw<Epoch>();
  checkpoint.delivered = {{"telemetry", Sequence(1200)}, {"alarms", Sequence(0)}, {"wide", Sequence::max()}};
  checkpoint.ledger = 3;
  checkpoint.writer = draw<Run>();
  for (int i = 0; i < 3; ++i) {
    checkpoint.runs.push_back(
        {draw<Run>(), draw<Epoch>(), {{"telemetry", Sequence(1 + 400u * static_cast<unsigned>(i))}}});
  }
  return checkpoint;
}

StoredRecord a_record() {
  StoredRecord stored;
  stored.sequence = Sequence(42);
  stored.epoch = draw<Epoch>();
  stored.record.driver = "plant";
  stored.record.stream = "boiler/temp";
  stored.record.kind = Kind::message;
  stored.record.synchronised = true;
  stored.record.time = WallTime(1'777'896'000'123'456us);
  stored.record.content_type = "application/json";
  stored.record.headers = {{"unit", "Cel"}};
  stored.record.payload = "{}";
  return stored;
}

std::string value_of(const std::vector<HeaderView>& headers, std::string_view name) {
  for (const auto& header : headers) {
    if (header.name == name) return std::string(header.value);
  }
  return "(none)";
}

TEST_CASE("a record's own header cannot say which record this is") {
  for (auto style : {HeaderStyle::cloudevents, HeaderStyle::compact}) {
    auto stored = a_record();
    stored.record.headers = {{"ce_epoch", "forged"}, {"penstock", "forged"}, {"content-type", "forged"}, {"unit", "K"}};
    HeaderWriter writer("gw-17", style);
    NameReader reader;
    const auto& headers = writer.write(stored, "telemetry");
    for (const auto& header : headers) reader.header(header.name, header.value);
    REQUIRE(reader.name());
    CHECK(reader.name()->epoch == stored.epoch);
    CHECK(value_of(headers, "x-ce_epoch") == "forged");
    CHECK(value_of(headers, "x-penstock") == "forged");
    CHECK(value_of(headers, "x-content-type") == "forged");
    CHECK(value_of(headers, "unit") == "K");
  }
}

TEST_CASE("a retry names the record it was, and only the store can say so") {
  for (auto style : {HeaderStyle::cloudevents, HeaderStyle::compact}) {
    auto stored = a_record();
    stored.record.headers = {{"ce_retryof", "forged"}, {"unit", "K"}};
    HeaderWriter writer("gw-17", style);
    CHECK(value_of(writer.write(stored, "telemetry"), "ce_retryof") == "(none)");
    CHECK(value_of(writer.write(stored, "telemetry"), "x-ce_retryof") == "forged");
    stored.record.headers.push_back({kRetryOf, "5f:telemetry:7"});
    stored.record.retried = true;
    CHECK(value_of(writer.write(stored, "telemetry"), "ce_retryof") == "5f:telemetry:7");
    CHECK(value_of(writer.write(stored, "telemetry"), "x-ce_retryof") == "forged");
  }
}

TEST_CASE("a template is expanded from the fields of a record") {
  auto parsed = Template::parse("p.{lane}.{stream}/{agent}-{driver}:{key}");
  REQUIRE(parsed);
  std::string out = "old";
  parsed->expand({"gw-17", "plant", "boiler/temp", "alarms", "k"}, out);
  CHECK(out == "p.alarms.boiler/temp/gw-17-plant:k");
  CHECK(parsed->varies_by_record());
  CHECK(!Template::parse("penstock.{lane}.{agent}")->varies_by_record());
}

TEST_CASE("a template that is wrong says where") {
  for (auto [text, part] : {std::pair{"a{lan}", "column 2: unknown name \"lan\""},
                            {"a{lane", "column 2: { without }"},
                            {"ab}", "column 3: } without {"},
                            {"{}", "column 1: unknown name \"\""}}) {
    auto parsed = Template::parse(text);
    REQUIRE(!parsed);
    CHECK(parsed.error().fault == Fault::rejected);
    CHECK(part_of(parsed.error().what, part) == part);
  }
}

TEST_CASE("a topic name has only what Kafka takes") {
  for (auto [given, made] : {std::pair{"a/b c\xc3\xa9", "a.b_c__"},
                             {"", "_"},
                             {".", "_."},
                             {"..", "_.."},
                             {"penstock/gaps", "penstock.gaps_"},
                             {"A-z_0.9", "A-z_0.9"}}) {
    std::string name = given;
    make_topic_name(name);
    CHECK(name == made);
  }
  std::string longer(300, 'x');
  make_topic_name(longer);
  CHECK(longer.size() == kTopicNameLimit);
}

TEST_CASE("a time is written as RFC 3339 in UTC with microseconds") {
  CHECK(rfc3339(WallTime(1'777'896'000'123'456us)) == "2026-05-04T12:00:00.123456Z");
  CHECK(rfc3339(WallTime(0us)) == "1970-01-01T00:00:00.000000Z");
  CHECK(rfc3339(WallTime(-1us)) == "1969-12-31T23:59:59.999999Z");
  CHECK(rfc3339(WallTime(951'782'399'000'000us)) == "2000-02-28T23:59:59.000000Z");
  CHECK(rfc3339(WallTime(std::chrono::microseconds::max())) == "9999-12-31T23:59:59.999999Z");
  CHECK(rfc3339(WallTime(std::chrono::microseconds::min())) == "0000-01-01T00:00:00.000000Z");
}

TEST_CASE("the Kafka time stamp is the event time from 2020 to five minutes from now, else the send time") {
  auto now = at_second(1'780'000'000);
  auto event = [&](WallTime time) { return kafka_timestamp(time, now, TimestampStyle::event); };
  CHECK(event(now) == 1'780'000'000'000);
  CHECK(event(now + 5min) == 1'780'000'300'000);
  CHECK(event(now + 5min + 1us) == 0);
  CHECK(event(at_second(1'577'836'800)) == 1'577'836'800'000);
  CHECK(event(at_second(1'577'836'800) - 1us) == 0);
  CHECK(event(WallTime()) == 0);
  CHECK(kafka_timestamp(now, now, TimestampStyle::send) == 0);
}

TEST_CASE("CloudEvents headers say what the formats page says") {
  auto stored = a_record();
  HeaderWriter writer("gw-17", HeaderStyle::cloudevents);
  auto headers = writer.write(stored, "telemetry");
  CHECK(value_of(headers, "ce_specversion") == "1.0");
  CHECK(value_of(headers, "ce_id") == stored.epoch.hex() + ":telemetry:42");
  CHECK(value_of(headers, "ce_source") == "/penstock/gw-17/plant");
  CHECK(value_of(headers, "ce_type") == "penstock.plant.message");
  CHECK(value_of(headers, "ce_time") == "2026-05-04T12:00:00.123456Z");
  CHECK(value_of(headers, "ce_subject") == "boiler/temp");
  CHECK(value_of(headers, "content-type") == "application/json");
  CHECK(value_of(headers, "ce_sequence") == "00000000000000000042");
  CHECK(value_of(headers, "ce_epoch") == stored.epoch.hex());
  CHECK(value_of(headers, "ce_lane") == "telemetry");
  CHECK(value_of(headers, "ce_timequality") == "(none)");
  CHECK(value_of(headers, "ce_quality") == "(none)");
  CHECK(value_of(headers, "unit") == "Cel");

  stored.record.synchronised = false;
  stored.record.quality = Quality::uncertain;
  stored.epoch = draw<Epoch>();
  headers = writer.write(stored, "telemetry");
  CHECK(value_of(headers, "ce_timequality") == "unsynchronised");
  CHECK(value_of(headers, "ce_quality") == "uncertain");
  CHECK(value_of(headers, "ce_epoch") == stored.epoch.hex());

  stored.record.time_source = TimeSource::device;
  CHECK(value_of(writer.write(stored, "telemetry"), "ce_timequality") == "(none)");
}

TEST_CASE("the compact header has the layout of the formats page") {
  auto stored = a_record();
  stored.record.synchronised = false;
  stored.record.quality = Quality::bad;
  HeaderWriter writer("gw", HeaderStyle::compact);
  auto headers = writer.write(stored, "alarms");
  REQUIRE(headers.size() == 2);
  std::string epoch(reinterpret_cast<const char*>(stored.epoch.bytes.data()), 16);
  std::string expected = std::string("\1\2gw", 4) + epoch + "\6alarms" + std::string("\0\0\0\0\0\0\0\x2a", 8) +
                         std::string("\x00\x06\x50\xfc\xcc\x0d\xc2\x40", 8) + "\5";
  auto micros = static_cast<std::uint64_t>(stored.record.time.time_since_epoch().count());
  for (int byte = 0; byte < 8; ++byte)
    expected[expected.size() - 9 + static_cast<std::size_t>(byte)] = static_cast<char>(micros >> (56 - 8 * byte));
  CHECK(headers[0].name == "penstock");
  CHECK(std::string(headers[0].value) == expected);
  CHECK(headers[1].name == "unit");
}

TEST_CASE("a reader gets a record's name back from the headers of either style") {
  auto stored = a_record();
  for (auto style : {HeaderStyle::cloudevents, HeaderStyle::compact}) {
    HeaderWriter writer("gw-17", style);
    NameReader reader;
    for (const auto& header : writer.write(stored, "alarms")) reader.header(header.name, header.value);
    REQUIRE(reader.name());
    CHECK(*reader.name() == RecordName{"gw-17", "alarms", stored.epoch, Sequence(42)});
  }
}

TEST_CASE("a compact header cut at any byte, or with a byte too many, names nothing") {
  auto stored = a_record();
  HeaderWriter writer("gw-17", HeaderStyle::compact);
  std::string whole(writer.write(stored, "alarms")[0].value);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    NameReader reader;
    reader.header("penstock", whole.substr(0, length));
    CHECK(!reader.name());
  }
  NameReader reader;
  reader.header("penstock", whole + "x");
  CHECK(!reader.name());
}

TEST_CASE("a record without our headers, or with broken ones, has no name") {
  NameReader none;
  none.header("ce_id", "x");
  CHECK(!none.name());
  for (const char* sequence : {"", "0", "x", "-1", "18446744073709551616", "12 "}) {
    NameReader reader;
    reader.header("ce_source", "/penstock/gw/plant");
    reader.header("ce_lane", "telemetry");
    reader.header("ce_epoch", draw<Epoch>().hex());
    reader.header("ce_sequence", sequence);
    CHECK(!reader.name());
  }
}

TEST_CASE("a checkpoint comes back from its JSON exactly as it was") {
  auto checkpoint = a_checkpoint();
  auto json = encode_checkpoint(checkpoint, {}, "gw-17", WallTime(1'777'896'000'123'456us));
  CHECK(part_of(json, "\"time\":\"2026-05-04T12:00:00.123456Z\"") == "\"time\":\"2026-05-04T12:00:00.123456Z\"");
  auto decoded = decode_checkpoint(json, "gw-17");
  REQUIRE(decoded);
  CHECK(*decoded == checkpoint);
}

TEST_CASE("a checkpoint cut at any byte is refused") {
  auto json = encode_checkpoint(a_checkpoint(), {}, "gw-17", WallTime());
  for (std::size_t length = 0; length < json.size(); ++length) {
    auto decoded = decode_checkpoint(std::string_view(json).substr(0, length), "gw-17");
    REQUIRE(!decoded);
    CHECK(decoded.error().fault == Fault::rejected);
  }
}

TEST_CASE("a checkpoint with any byte changed is refused or is another valid one, and never a crash") {
  auto json = encode_checkpoint(a_checkpoint(), {}, "gw-17", WallTime());
  for (std::size_t at = 0; at < json.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      auto changed = json;
      changed[at] = static_cast<char>(changed[at] ^ 1 << bit);
      auto decoded = decode_checkpoint(changed, "gw-17");
      if (decoded) CHECK(decoded->runs.size() <= kCheckpointRuns);
    }
  }
}

TEST_CASE("a checkpoint that is not what the formats page says is refused with the reason") {
  std::string hex(32, 'a');
  auto with = [&](std::string delivered, std::string runs, std::string version = "1") {
    return R"({"version":)" + version + R"(,"agent":"gw","epoch":")" + hex + R"(","delivered":)" + delivered +
           R"(,"ledger":0,"runs":)" + runs + "}";
  };
  REQUIRE(decode_checkpoint(with("{}", "[]"), "gw"));
  std::string many = "[", lanes = "{";
  for (std::size_t i = 0; i <= kCheckpointRuns; ++i) {
    many += std::string(i ? "," : "") + R"({"run":")" + hex + R"(","epoch":")" + hex + R"(","first":{}})";
  }
  for (std::size_t i = 0; i <= kMessageLanes; ++i)
    lanes += std::string(i ? "," : "") + "\"l" + std::to_string(i) + "\":1";
  struct Case {
    std::string json, reason;
  };
  for (const auto& [json, reason] : std::vector<Case>{
           {"", "not JSON"},
           {"[]", "not an object"},
           {with("{}", "[]", "2"), "version 2, this program knows 1"},
           {with("{}", "[]", "\"1\""), "\"version\" is not a whole number"},
           {with("{\"a\":-1}", "[]"), "lane \"a\" has no whole number"},
           {with("{\"a\":1.5}", "[]"), "lane \"a\" has no whole number"},
           {with("[]", "[]"), "\"delivered\" is not an object"},
           {with("{}", "{}"), "\"runs\" is not a list"},
           {with("{}", "[1]"), "run 1: is not an object"},
           {with("{}", "[{}]"), "run 1: \"run\" is missing"},
           {with("{}", many + "]"), "33 runs, more than 32"},
           {with(lanes + "}", "[]"), "1025 lanes"},
           {R"({"version":1})", "\"agent\" is missing"},
           {std::string(kMessageLimit + 1, ' '), "4194305 bytes"},
       }) {
    auto decoded = decode_checkpoint(json, "gw");
    REQUIRE(!decoded);
    CHECK(part_of(decoded.error().what, reason) == reason);
  }
  auto other = decode_checkpoint(with("{}", "[]"), "gw-2");
  REQUIRE(!other);
  CHECK(part_of(other.error().what, "written for agent \"gw\", not for \"gw-2\"") ==
        "written for agent \"gw\", not for \"gw-2\"");
  CHECK(!decode_checkpoint(std::string(100'000, '['), "gw"));
}

TEST_CASE("the window of a checkpoint comes back from its JSON, and one without is from an older version") {
  WindowNote window{{{"telemetry", Sequence(7)}, {"alarms", Sequence(2)}},
                    5,
                    {{{"plant", 0}, 17}, {{"plant", 12}, 0}, {{"penstock.gaps", 0}, 3}}};
  auto json = encode_checkpoint(a_checkpoint(), window, "gw-17", WallTime());
  auto decoded = decode_window(json);
  REQUIRE(decoded);
  REQUIRE(*decoded);
  CHECK(**decoded == window);
  CHECK(decode_checkpoint(json, "gw-17")->delivered == a_checkpoint().delivered);
  auto older = decode_window(R"({"version":1,"agent":"gw"})");
  REQUIRE(older);
  CHECK(!*older);
}

TEST_CASE("a window that is not what the formats page says is refused with the reason") {
  struct Case {
    std::string json, reason;
  };
  auto with = [](std::string proven, std::string since) {
    return R"({"version":1,"proven":)" + proven + R"(,"since":)" + since + "}";
  };
  const std::string good = R"({"delivered":{},"ledger":0})";
  REQUIRE(decode_window(with(good, "{}")));
  for (const auto& [json, reason] : std::vector<Case>{
           {R"({"version":1,"since":{}})", "\"proven\" is missing"},
           {R"({"version":1,"proven":{"delivered":{},"ledger":0}})", "\"since\" is missing"},
           {with("[]", "{}"), "\"proven\" is not an object"},
           {with("{}", "{}"), "\"delivered\" is missing"},
           {with(good, "[]"), "\"since\" is not an object"},
           {with(good, R"({"t":1})"), "topic \"t\": is not an object"},
           {with(good, R"({"t":{"x":1}})"), "no partition: x"},
           {with(good, R"({"t":{"-1":1}})"), "no partition: -1"},
           {with(good, R"({"t":{"1":-1}})"), "\"1\" is not a whole number"},
           {with(good, R"({"t":{"1":18446744073709551615}})"), "no offset"},
       }) {
    auto decoded = decode_window(json);
    INFO(json);
    REQUIRE(!decoded);
    CHECK(part_of(decoded.error().what, reason) == reason);
  }
}

TEST_CASE("a gap comes back from its JSON, with or without a range") {
  Gap gap;
  gap.entry = 9;
  gap.epoch = draw<Epoch>();
  gap.first = Sequence(100);
  gap.last = Sequence(250);
  gap.count = 151;
  gap.cause = Cause::evicted;
  auto decoded = decode_gap(encode_gap(gap, "gw-17", "alarms"));
  REQUIRE(decoded);
  CHECK(*decoded == GapMessage{"gw-17", "alarms", gap.epoch, Sequence(100), Sequence(250), 151, Cause::evicted, 9});

  gap.first = gap.last = Sequence();
  gap.cause = Cause::refused;
  auto json = encode_gap(gap, "gw-17", "alarms");
  CHECK(json.find("first") == std::string::npos);
  decoded = decode_gap(json);
  REQUIRE(decoded);
  CHECK(decoded->last == Sequence());
  CHECK(decoded->cause == Cause::refused);
}

TEST_CASE("a gap record that is wrong is refused with the reason") {
  Gap gap;
  gap.epoch = draw<Epoch>();
  gap.first = Sequence(5);
  gap.last = Sequence(4);
  CHECK(part_of(decode_gap(encode_gap(gap, "a", "l")).error().what, "range is empty") == "range is empty");
  auto json = encode_gap(Gap{}, "a", "l");
  json.replace(json.find("evicted"), 7, "stolen!");
  CHECK(part_of(decode_gap(json).error().what, "unknown cause \"stolen!\"") == "unknown cause \"stolen!\"");
  CHECK(!decode_gap("{}"));
}

TEST_CASE("an agent's checkpoints go to partition crc32(agent) mod partitions, with zlib's crc32") {
  // The check value of the CRC-32 in every catalogue: "123456789" gives 0xCBF43926.
  CHECK(checkpoint_partition("123456789", 16) == 0xCBF43926u % 16);
  CHECK(checkpoint_partition("123456789", 1'000) == 0xCBF43926u % 1'000);
  CHECK(checkpoint_partition("", 16) == 0);
  CHECK(checkpoint_partition("gw-17", 0) == 0);
}

}  // namespace kafka_messages_test
}  // namespace
}  // namespace penstock
