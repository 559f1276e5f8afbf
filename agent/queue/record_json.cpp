#include "agent/queue/record_json.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "agent/kafka/headers.h"
#include "drivers/lines/utf8.h"

namespace penstock {
namespace {

using LineJson = nlohmann::ordered_json;

constexpr int kExportVersion = 1;
constexpr const char* kKinds[] = {"reading", "message", "event"};
constexpr const char* kQualities[] = {"good", "uncertain", "bad"};
constexpr const char* kTimeSources[] = {"ours", "device"};
constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string to_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      group = group << 8 | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0u);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      text += at + i <= bytes.size() ? kBase64[group >> (18 - 6 * i) & 63] : '=';
    }
  }
  return text;
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  std::uint32_t group = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    auto digit = at < text.size() - padding ? kBase64.find(text[at]) : 0;
    if (digit == std::string_view::npos) return std::nullopt;
    group = group << 6 | static_cast<std::uint32_t>(digit);
    if (at % 4 == 3) {
      for (int shift : {16, 8, 0}) bytes += static_cast<char>(group >> shift & 255);
    }
  }
  bytes.resize(bytes.size() - padding);
  return bytes;
}

/// What JSON holds as text without becoming longer than base64 would be.
bool is_plain_text(std::string_view bytes) {
  for (char c : bytes) {
    auto byte = static_cast<unsigned char>(c);
    if (byte == 0x7f || (byte < 0x20 && c != '\n' && c != '\r' && c != '\t')) return false;
  }
  return is_utf8(bytes);
}

/// A member of text, as base64 under NAME_base64 when it is none.
void put_bytes(LineJson& json, const std::string& name, const std::string& bytes) {
  if (is_plain_text(bytes)) {
    json[name] = bytes;
  } else {
    json[name + "_base64"] = to_base64(bytes);
  }
}

LineJson record_json(const Record& record) {
  LineJson json;
  json["driver"] = record.driver;
  put_bytes(json, "stream", record.stream);
  if (!record.key.empty()) put_bytes(json, "key", record.key);
  json["kind"] = kKinds[static_cast<std::size_t>(record.kind)];
  json["quality"] = kQualities[static_cast<std::size_t>(record.quality)];
  if (record.time != WallTime{}) {
    json["time"] = time_text(record.time);
    json["time_source"] = kTimeSources[static_cast<std::size_t>(record.time_source)];
    json["synchronised"] = record.synchronised;
  }
  if (!record.content_type.empty()) put_bytes(json, "content_type", record.content_type);
  if (!record.headers.empty()) {
    auto headers = LineJson::array();
    for (const auto& header : record.headers) {
      LineJson one;
      put_bytes(one, "name", header.name);
      put_bytes(one, "value", header.value);
      headers.push_back(std::move(one));
    }
    json["headers"] = std::move(headers);
  }
  put_bytes(json, "payload", record.payload);
  return json;
}

std::string line_of(const LineJson& json) { return json.dump(-1, ' ', false, LineJson::error_handler_t::replace); }

/// Reads members of an object; the first mistake sticks.
class Members {
 public:
  explicit Members(const LineJson& json) : json_(json) {}

  std::string bytes(const std::string& name) {
    auto found = json_.find(name);
    if (found != json_.end()) {
      if (!found->is_string()) return wrong(name, "a string");
      return found->get<std::string>();
    }
    found = json_.find(name + "_base64");
    if (found == json_.end()) return {};
    auto decoded = found->is_string() ? from_base64(found->get_ref<const std::string&>()) : std::nullopt;
    return decoded ? *decoded : wrong(name + "_base64", "base64");
  }

  template <class Enum, std::size_t n>
  Enum word(const char* name, const char* const (&words)[n]) {
    auto found = json_.find(name);
    if (found == json_.end()) return Enum{};
    for (std::size_t i = 0; i < n; ++i) {
      if (*found == words[i]) return static_cast<Enum>(i);
    }
    wrong(name, fmt::format("one of \"{}\", \"{}\", ...", words[0], words[1]));
    return Enum{};
  }

  std::string wrong(const std::string& name, const std::string& expected) {
    if (mistake_.empty()) mistake_ = fmt::format("\"{}\" is not {}", name, expected);
    return {};
  }
  const std::string& mistake() const { return mistake_; }

 private:
  const LineJson& json_;
  std::string mistake_;
};

Result<Record> record_of(const LineJson& json) {
  if (!json.is_object()) return rejected("a record is not an object");
  Members members(json);
  Record record;
  record.driver = members.bytes("driver");
  record.stream = members.bytes("stream");
  record.key = members.bytes("key");
  record.kind = members.word<Kind>("kind", kKinds);
  record.quality = members.word<Quality>("quality", kQualities);
  record.content_type = members.bytes("content_type");
  record.payload = members.bytes("payload");
  if (auto time = json.find("time"); time != json.end()) {
    auto parsed = time->is_string() ? parse_time(time->get<std::string>()) : rejected("\"time\" is not a string");
    if (!parsed) return parsed.error();
    record.time = *parsed;
    // Whoever measured it: here and now it is the file's, not read from this agent's clock.
    record.time_source = TimeSource::device;
  }
  if (auto headers = json.find("headers"); headers != json.end()) {
    if (!headers->is_array()) members.wrong("headers", "a list");
    for (const auto& header : *headers) {
      if (!header.is_object()) {
        members.wrong("headers", "a list of objects with name and value");
        break;
      }
      Members of_header(header);
      record.headers.push_back({of_header.bytes("name"), of_header.bytes("value")});
      if (!of_header.mistake().empty()) return rejected("headers: " + of_header.mistake());
    }
  }
  if (!members.mistake().empty()) return rejected(members.mistake());
  return record;
}

const LineJson* find_field(const LineJson& json, const std::string& name) {
  if (!name.starts_with('/')) {
    auto found = json.find(name);
    return found == json.end() ? nullptr : &*found;
  }
  try {
    LineJson::json_pointer pointer(name);
    return json.contains(pointer) ? &json.at(pointer) : nullptr;
  } catch (const LineJson::exception&) {  // not a pointer
    return nullptr;
  }
}

/// A string or a number, as text.
Result<std::string> field_text(const LineJson& json, const std::string& name) {
  const auto* field = find_field(json, name);
  if (field == nullptr) return rejected(fmt::format("there is no \"{}\"", name));
  if (field->is_string()) return field->get<std::string>();
  if (field->is_number()) return field->dump();
  return rejected(fmt::format("\"{}\" is neither a string nor a number", name));
}

Result<ReadLine> read_exported(const LineJson& json) {
  if (json["penstock"] != kExportVersion) {
    return rejected(fmt::format("an exported record of version {}, this program knows {}",
                                line_of(json["penstock"]).substr(0, 20), kExportVersion));
  }
  if (!json.contains("payload") && !json.contains("payload_base64")) return rejected("there is no \"payload\"");
  auto record = record_of(json);
  if (!record) return record.error();
  ReadLine read{std::move(*record), {}};
  if (auto lane = json.find("lane"); lane != json.end() && lane->is_string()) read.lane = lane->get<std::string>();
  return read;
}

}  // namespace

std::string time_text(WallTime time) { return rfc3339(time); }

std::string export_line(const StoredRecord& stored, const std::string& lane) {
  LineJson json;
  json["penstock"] = kExportVersion;
  json["epoch"] = stored.epoch.hex();
  json["lane"] = lane;
  json["sequence"] = stored.sequence.value();
  json["boot"] = stored.boot.hex();
  json["boottime_microseconds"] = stored.record.boottime.count();
  json.update(record_json(stored.record));
  return line_of(json);
}

Result<ReadLine> read_line(std::string_view line, const FieldNames& fields) {
  auto json = LineJson::parse(line, nullptr, false);
  if (!json.is_object()) return rejected(json.is_discarded() ? "not JSON" : "not a JSON object");
  if (json.contains("penstock")) return read_exported(json);
  ReadLine read;
  read.record.payload = line;
  read.record.content_type = "application/json";
  if (!fields.time.empty()) {
    auto text = field_text(json, fields.time);
    if (!text) return text.error();
    auto time = parse_time(*text, fields.zone);
    if (!time) return time.error();
    read.record.time = *time;
    read.record.time_source = TimeSource::device;
  }
  for (auto [name, to] : {std::pair(&fields.stream, &read.record.stream), std::pair(&fields.key, &read.record.key)}) {
    if (name->empty()) continue;
    auto text = field_text(json, *name);
    if (!text) return text.error();
    *to = *text;
  }
  return read;
}

std::string write_request(const ImportRequest& request) {
  LineJson json{{"command", "import"}, {"file", request.file}, {"lane", request.lane}};
  json["from"] = request.from ? LineJson(*request.from) : LineJson();
  json["to"] = request.to;
  auto records = LineJson::array();
  for (const auto& record : request.records) records.push_back(record_json(record));
  json["records"] = std::move(records);
  return line_of(json);
}

Result<ImportRequest> read_request(const std::string& line) {
  auto json = LineJson::parse(line, nullptr, false);
  auto text = [&](const char* name) { return json.contains(name) && json[name].is_string(); };
  if (!json.is_object() || !text("file") || !text("lane") || !text("to") || !json.contains("from") ||
      !json.contains("records") || !json["records"].is_array() || !(json["from"].is_null() || text("from"))) {
    return rejected("import: expected file, lane, from, to and records");
  }
  auto get = [&](const char* name) { return json[name].get<std::string>(); };
  ImportRequest request{get("file"), get("lane"), std::nullopt, get("to"), {}};
  if (text("from")) request.from = get("from");
  for (const auto& one : json["records"]) {
    auto record = record_of(one);
    if (!record) return record.error();
    request.records.push_back(std::move(*record));
  }
  return request;
}

}  // namespace penstock
