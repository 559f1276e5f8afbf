#include "agent/queue/record_json.h"

#include <nlohmann/json.hpp>

#include "tests/catch.h"

namespace penstock {
namespace {
namespace record_json_test {

StoredRecord sample() {
  StoredRecord stored;
  stored.lane = Lane{1};
  stored.sequence = Sequence(42);
  stored.epoch = *Epoch::from_hex("000102030405060708090a0b0c0d0e0f");
  stored.boot = *Boot::from_hex("f00102030405060708090a0b0c0d0e0f");
  auto& record = stored.record;
  record.driver = "plant";
  record.stream = "boiler/temp";
  record.key = "k";
  record.kind = Kind::message;
  record.quality = Quality::uncertain;
  record.time_source = TimeSource::device;
  record.time = WallTime(std::chrono::microseconds(1'777'896'000'123'456));
  record.boottime = BootTime(77);
  record.content_type = "text/plain";
  record.headers = {{"a", "\xc3\xa4"}, {"b", std::string("\0\xff", 2)}};
  record.payload = "two\nlines";
  return stored;
}

ReadLine read(const std::string& line, const FieldNames& fields = {}) {
  auto got = read_line(line, fields);
  if (!got) FAIL(got.error().what);
  return *got;
}

std::string problem(const std::string& line, const FieldNames& fields = {}) {
  auto got = read_line(line, fields);
  return got ? "" : got.error().what;
}

TEST_CASE("an exported line has every member, and reading it gives the record again") {
  auto stored = sample();
  auto line = export_line(stored, "alarms");
  CHECK(line.find('\n') == std::string::npos);
  auto json = nlohmann::json::parse(line);
  CHECK(json["penstock"] == 1);
  CHECK(json["epoch"] == "000102030405060708090a0b0c0d0e0f");
  CHECK(json["lane"] == "alarms");
  CHECK(json["sequence"] == 42);
  CHECK(json["time"] == "2026-05-04T12:00:00.123456Z");
  CHECK(json["boottime_microseconds"] == 77);
  CHECK(json["headers"][1]["value_base64"] == "AP8=");

  auto again = read(line);
  CHECK(again.lane == "alarms");
  again.record.boottime = stored.record.boottime;  // of another boot: not taken over
  CHECK(again.record == stored.record);
}

TEST_CASE("a payload of any bytes survives, as text where it is text") {
  auto stored = sample();
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    stored.record.payload = bytes;
    auto line = export_line(stored, "alarms");
    CHECK(read(line).record.payload == bytes);
    CHECK((line.find("payload_base64") == std::string::npos) == bytes.empty());
    bytes += static_cast<char>(i * 37);
  }
  for (auto text : {"caf\xc3\xa9", "\ttab \"quoted\" \\ \r\n", "\xe2\x82\xac"}) {
    stored.record.payload = text;
    auto line = export_line(stored, "alarms");
    CHECK(line.find("payload_base64") == std::string::npos);
    CHECK(read(line).record.payload == text);
  }
  for (auto binary : {"\xc3", "\xed\xa0\x80", "\x1b[2J", "\x7f"}) {
    stored.record.payload = binary;
    CHECK(export_line(stored, "alarms").find("payload_base64") != std::string::npos);
  }
}

TEST_CASE("any other object is a payload as it is, with the fields that are named") {
  std::string line = R"({"t": 1777896000.5, "who": "roof", "deep": {"k": 7}, "v": 1.50})";
  auto plain = read(line);
  CHECK(plain.record.payload == line);
  CHECK(plain.record.content_type == "application/json");
  CHECK(plain.record.time == WallTime{});
  CHECK(plain.lane.empty());

  auto named = read(line, {"t", "who", "/deep/k", Zone::demanded});
  CHECK(named.record.payload == line);
  CHECK(named.record.time == WallTime(std::chrono::microseconds(1'777'896'000'500'000)));
  CHECK(named.record.time_source == TimeSource::device);
  CHECK(named.record.stream == "roof");
  CHECK(named.record.key == "7");
}

TEST_CASE("what is no record is refused with the reason") {
  CHECK(problem("") == "not JSON");
  CHECK(problem("{\"a\":1") == "not JSON");
  CHECK(problem("{\"a\":\"\xff\"}") == "not JSON");
  CHECK(problem("[1]") == "not a JSON object");
  CHECK(problem("{}", {"t", "", "", Zone::demanded}) == "there is no \"t\"");
  CHECK(problem("{}", {"/t/~", "", "", Zone::demanded}) == "there is no \"/t/~\"");
  CHECK(problem("{\"t\":[]}", {"t", "", "", Zone::demanded}) == "\"t\" is neither a string nor a number");
  CHECK(problem("{\"t\":\"noon\"}", {"t", "", "", Zone::demanded}).find("\"noon\" is not a time") == 0);
  CHECK(problem(R"({"penstock":2,"payload":""})").find("an exported record of version 2") == 0);
  CHECK(problem(R"({"penstock":1})") == "there is no \"payload\"");
  CHECK(problem(R"({"penstock":1,"payload":7})") == "\"payload\" is not a string");
  CHECK(problem(R"({"penstock":1,"payload_base64":"A"})") == "\"payload_base64\" is not base64");
  CHECK(problem(R"({"penstock":1,"payload_base64":"A==="})") == "\"payload_base64\" is not base64");
  CHECK(problem(R"({"penstock":1,"payload":"","kind":"odd"})").find("\"kind\" is not one of") == 0);
  CHECK(problem(R"({"penstock":1,"payload":"","headers":[7]})").find("\"headers\" is not") == 0);
  CHECK(problem(R"({"penstock":1,"payload":"","time":7})") == "\"time\" is not a string");
}

TEST_CASE("an import request survives the wire") {
  ImportRequest request{"file", "alarms", "before", "after", {sample().record, Record{}}};
  request.records[0].synchronised = false;
  request.records[0].boottime = {};
  auto again = read_request(write_request(request));
  if (!again) FAIL(again.error().what);
  CHECK(again->file == "file");
  CHECK(again->lane == "alarms");
  CHECK(again->from == std::optional<std::string>("before"));
  CHECK(again->to == "after");
  CHECK(again->records == request.records);
  request.from.reset();
  CHECK_FALSE(read_request(write_request(request))->from);
  for (auto wrong : {"", "{}", "[]", R"({"file":"f","lane":"l","to":"t","from":null,"records":{}})",
                     R"({"file":"f","lane":"l","to":"t","from":7,"records":[]})",
                     R"({"file":"f","lane":"l","to":"t","from":null,"records":[7]})"}) {
    INFO(wrong);
    CHECK_FALSE(read_request(wrong).ok());
  }
}

}  // namespace record_json_test
}  // namespace
}  // namespace penstock
