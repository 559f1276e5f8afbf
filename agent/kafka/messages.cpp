#include "agent/kafka/messages.h"

#include <fmt/format.h>
#include <zlib.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "agent/kafka/headers.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

Json positions_json(const Positions& positions) {
  Json json = Json::object();
  for (const auto& [lane, sequence] : positions) json[lane] = sequence.value();
  return json;
}

/// Reads members one by one and keeps the first thing that was wrong.
class Members {
 public:
  Members(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json.is_object()) fail("is not an object");
  }

  std::uint64_t number(const char* name) {
    const Json* value = find(name);
    if (!value) return 0;
    if (!value->is_number_unsigned()) return fail(fmt::format("\"{}\" is not a whole number", name)), 0;
    return value->get<std::uint64_t>();
  }

  std::string text(const char* name) {
    const Json* value = find(name);
    if (!value) return {};
    if (!value->is_string()) return fail(fmt::format("\"{}\" is not a text", name)), std::string();
    return value->get<std::string>();
  }

  template <class IdType>
  IdType id(const char* name) {
    std::string hex = text(name);
    auto parsed = IdType::from_hex(hex);
    if (!parsed || hex.size() != 32) return fail(fmt::format("\"{}\" is not 32 hexadecimal digits", name)), IdType{};
    return *parsed;
  }

  Positions positions(const char* name) {
    Positions result;
    const Json* value = find(name);
    if (!value) return result;
    if (!value->is_object()) return fail(fmt::format("\"{}\" is not an object", name)), result;
    if (value->size() > kMessageLanes) return fail(fmt::format("\"{}\" has {} lanes", name, value->size())), result;
    for (const auto& [lane, sequence] : value->items()) {
      if (!sequence.is_number_unsigned()) {
        return fail(fmt::format("\"{}\": lane \"{}\" has no whole number", name, lane)), result;
      }
      result[lane] = Sequence(sequence.get<std::uint64_t>());
    }
    return result;
  }

  /// An empty one when it is missing or something else.
  const Json& object(const char* name) {
    static const Json nothing = Json::object();
    const Json* value = find(name);
    if (value && !value->is_object()) fail(fmt::format("\"{}\" is not an object", name));
    return value && value->is_object() ? *value : nothing;
  }

  const Json* array(const char* name) {
    const Json* value = find(name);
    if (value && !value->is_array()) fail(fmt::format("\"{}\" is not a list", name));
    return value && value->is_array() ? value : nullptr;
  }

  bool has(const char* name) const { return json_.is_object() && json_.contains(name); }
  void fail(std::string what) {
    if (wrong_.empty()) wrong_ = where_ + ": " + std::move(what);
  }
  const std::string& wrong() const { return wrong_; }

 private:
  const Json* find(const char* name) {
    if (!json_.is_object()) return nullptr;
    auto found = json_.find(name);
    if (found == json_.end()) return fail(fmt::format("\"{}\" is missing", name)), nullptr;
    return &*found;
  }

  const Json& json_;
  std::string where_, wrong_;
};

/// The document, with its size and version checked; nothing deeper.
Result<Json> parse_message(std::string_view text, const char* what) {
  if (text.size() > kMessageLimit) {
    return rejected(fmt::format("{}: {} bytes, more than {}", what, text.size(), kMessageLimit));
  }
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return rejected(fmt::format("{}: not JSON", what));
  Members members(json, what);
  auto version = members.number("version");
  if (!members.wrong().empty()) return rejected(members.wrong());
  if (version != kMessageVersion) {
    return rejected(fmt::format("{}: version {}, this program knows {}", what, version, kMessageVersion));
  }
  return json;
}

std::optional<Cause> cause_named(std::string_view name) {
  for (auto cause : kCauses) {
    if (name == name_of(cause)) return cause;
  }
  return std::nullopt;
}

/// Names of lanes and agents come from our config, but must not be able to make the encoder throw.
std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::string encode_checkpoint(const Checkpoint& checkpoint, const WindowNote& window, std::string_view agent,
                              WallTime now) {
  Json runs = Json::array();
  for (const auto& entry : checkpoint.runs) {
    runs.push_back({{"run", entry.run.hex()}, {"epoch", entry.epoch.hex()}, {"first", positions_json(entry.first)}});
  }
  Json since = Json::object();
  for (const auto& [partition, offset] : window.since)
    since[partition.first][std::to_string(partition.second)] = offset;
  Json json = {{"version", kMessageVersion},
               {"agent", agent},
               {"proven", {{"delivered", positions_json(window.delivered)}, {"ledger", window.ledger}}},
               {"since", std::move(since)},
               {"epoch", checkpoint.epoch.hex()},
               {"time", rfc3339(now)},
               {"delivered", positions_json(checkpoint.delivered)},
               {"ledger", checkpoint.ledger},
               {"runs", std::move(runs)}};
  if (!checkpoint.sent.empty()) json["sent"] = positions_json(checkpoint.sent);
  if (checkpoint.writer != Run()) json["writer"] = checkpoint.writer.hex();
  return dump(json);
}

Result<Checkpoint> decode_checkpoint(std::string_view text, std::string_view agent) {
  auto json = parse_message(text, "checkpoint");
  if (!json) return json.error();
  Members members(*json, "checkpoint");
  Checkpoint checkpoint;
  auto written_for = members.text("agent");
  checkpoint.epoch = members.id<Epoch>("epoch");
  checkpoint.delivered = members.positions("delivered");
  checkpoint.ledger = members.number("ledger");
  if (members.has("sent")) checkpoint.sent = members.positions("sent");
  if (members.has("writer")) checkpoint.writer = members.id<Run>("writer");  // older ones do not say
  const Json* runs = members.array("runs");
  if (!members.wrong().empty()) return rejected(members.wrong());
  if (written_for != agent) {
    return rejected(fmt::format("checkpoint: written for agent \"{}\", not for \"{}\"", written_for, agent));
  }
  if (runs->size() > kCheckpointRuns) {
    return rejected(fmt::format("checkpoint: {} runs, more than {}", runs->size(), kCheckpointRuns));
  }
  for (const auto& item : *runs) {
    Members run(item, fmt::format("checkpoint: run {}", checkpoint.runs.size() + 1));
    RunEntry entry{run.id<Run>("run"), run.id<Epoch>("epoch"), run.positions("first")};
    if (!run.wrong().empty()) return rejected(run.wrong());
    checkpoint.runs.push_back(std::move(entry));
  }
  return checkpoint;
}

Result<std::optional<WindowNote>> decode_window(std::string_view text) {
  auto json = parse_message(text, "checkpoint");
  if (!json) return json.error();
  Members members(*json, "checkpoint");
  if (!members.has("proven") && !members.has("since")) return std::optional<WindowNote>();
  WindowNote window;
  Members proven(members.object("proven"), "checkpoint: proven");
  window.delivered = proven.positions("delivered");
  window.ledger = proven.number("ledger");
  for (const auto& [topic, partitions] : members.object("since").items()) {
    Members offsets(partitions, fmt::format("checkpoint: since: topic \"{}\"", topic));
    for (const auto& [text_of_number, ignored] : partitions.items()) {
      std::int32_t partition = 0;
      const char* end = text_of_number.data() + text_of_number.size();
      auto [last, wrong] = std::from_chars(text_of_number.data(), end, partition);
      if (wrong != std::errc() || last != end || partition < 0) offsets.fail("no partition: " + text_of_number);
      auto offset = offsets.number(text_of_number.c_str());
      if (offset > INT64_MAX) offsets.fail("no offset");
      window.since[{topic, partition}] = static_cast<std::int64_t>(offset);
    }
    if (!offsets.wrong().empty()) return rejected(offsets.wrong());
    if (window.since.size() > kMessagePartitions) members.fail("\"since\" has too many partitions");
  }
  for (const auto* wrong : {&members.wrong(), &proven.wrong()}) {
    if (!wrong->empty()) return rejected(*wrong);
  }
  return std::optional(std::move(window));
}

std::string encode_gap(const Gap& gap, std::string_view agent, std::string_view lane) {
  Json json = {
      {"version", kMessageVersion}, {"agent", agent},     {"epoch", gap.epoch.hex()},    {"lane", lane},
      {"entry", gap.entry},         {"count", gap.count}, {"cause", name_of(gap.cause)}, {"time", rfc3339(gap.time)}};
  if (gap.last != Sequence()) {
    json["first"] = gap.first.value();
    json["last"] = gap.last.value();
  }
  return dump(json);
}

Result<GapMessage> decode_gap(std::string_view text) {
  auto json = parse_message(text, "gap record");
  if (!json) return json.error();
  Members members(*json, "gap record");
  GapMessage gap;
  gap.agent = members.text("agent");
  gap.lane = members.text("lane");
  gap.epoch = members.id<Epoch>("epoch");
  gap.count = members.number("count");
  if (members.has("entry")) gap.entry = members.number("entry");
  auto cause = cause_named(members.text("cause"));
  if (members.has("first") || members.has("last")) {
    gap.first = Sequence(members.number("first"));
    gap.last = Sequence(members.number("last"));
    if (gap.first == Sequence() || gap.last < gap.first) members.fail("its range is empty");
  }
  if (!members.wrong().empty()) return rejected(members.wrong());
  if (!cause) return rejected(fmt::format("gap record: unknown cause {}", (*json)["cause"].dump()));
  gap.cause = *cause;
  return gap;
}

std::int32_t checkpoint_partition(std::string_view agent, std::int32_t partitions) {
  if (partitions <= 0) return 0;
  auto crc = ::crc32(0, reinterpret_cast<const Bytef*>(agent.data()), static_cast<uInt>(agent.size()));
  return static_cast<std::int32_t>(crc % static_cast<std::uint32_t>(partitions));
}

}  // namespace penstock
