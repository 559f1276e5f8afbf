#include "agent/queue/queue_answers.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "agent/queue/record_json.h"

namespace penstock {
namespace {

using AnswerJson = nlohmann::ordered_json;

constexpr std::size_t kPageBytes = 1 << 20;
constexpr std::uint64_t kPageRecords = 10'000;
constexpr std::size_t kPageGaps = 2'000;

AnswerJson place_of(const Result<std::vector<StoredRecord>>& records) {
  if (!records || records->empty()) return nullptr;
  const auto& stored = records->front();
  return {{"sequence", stored.sequence.value()}, {"time", time_text(stored.record.time)}};
}

AnswerJson lane_json(const Store& store, const LaneStatus& lane) {
  auto one = [&](Sequence from) { return place_of(store.peek(lane.lane, from, {1, 1})); };
  return {{"name", lane.name},
          {"priority", lane.priority},
          {"dropped", lane.dropped.value()},
          {"delivered", lane.delivered.value()},
          {"durable", lane.durable.value()},
          {"waiting", lane.records},
          {"oldest", lane.records == 0 ? AnswerJson() : one(Sequence(1))},
          {"newest", lane.records == 0 ? AnswerJson() : one(lane.durable)}};
}

AnswerJson list(const Store& store) {
  auto status = store.status();
  std::stable_sort(status.lanes.begin(), status.lanes.end(),
                   [](const auto& a, const auto& b) { return a.priority < b.priority; });
  auto lanes = AnswerJson::array();
  for (const auto& lane : status.lanes) lanes.push_back(lane_json(store, lane));
  return {{"epoch", status.epoch.hex()},
          {"page_bytes", status.page_bytes},
          {"used_pages", status.used_pages},
          {"capacity_pages", status.capacity_pages},
          {"ledger_entries", status.ledger_entries},
          {"lanes", lanes}};
}

/// Not by AnswerJson: the lines are JSON already.
std::string peek(const Store& store, const AnswerJson& request) {
  auto name = request.value("lane", std::string());
  auto lane = store.lane(name);
  if (!lane) return answer_error(rejected(fmt::format("there is no lane \"{}\"", name)));
  Sequence from(request.value("from", std::uint64_t{1}));
  auto count = std::clamp<std::uint64_t>(request.value("count", kPageRecords), 1, kPageRecords);
  auto page = store.peek(*lane, from, {static_cast<std::size_t>(count), kPageBytes});
  if (!page) return answer_error(page.error());
  std::string answer = "{\"records\":[";
  for (const auto& stored : *page) {
    if (answer.back() != '[') answer += ',';
    answer += export_line(stored, name);
  }
  return answer + "]}";
}

AnswerJson gaps(const Store& store, const AnswerJson& request) {
  auto after = request.value("after", std::uint64_t{0});
  auto rows = AnswerJson::array();
  for (const auto& gap : store.gaps()) {
    if (gap.entry <= after) continue;
    if (rows.size() == kPageGaps) break;
    rows.push_back({{"entry", gap.entry},
                    {"lane", store.name_of(gap.lane)},
                    {"epoch", gap.epoch.hex()},
                    {"first", gap.first.value()},
                    {"last", gap.last.value()},
                    {"count", gap.count},
                    {"cause", name_of(gap.cause)},
                    {"time", time_text(gap.time)}});
  }
  return {{"gaps", rows}};
}

/// <epoch>:<lane name>:<sequence>, as in `ce_id`.
std::string id_text(const Store& store, const DeadLetterId& id) {
  return fmt::format("{}:{}:{}", id.epoch.hex(), store.name_of(id.lane), id.sequence.value());
}

std::optional<DeadLetterId> id_of(const Store& store, const std::string& text) {
  auto first = text.find(':'), last = text.rfind(':');
  if (first == std::string::npos || first == last) return std::nullopt;
  auto epoch = Epoch::from_hex(std::string_view(text).substr(0, first));
  auto lane = store.lane(std::string_view(text).substr(first + 1, last - first - 1));
  std::uint64_t sequence = 0;
  auto end = text.data() + text.size();
  auto [stopped, wrong] = std::from_chars(text.data() + last + 1, end, sequence);
  if (!epoch || !lane || wrong != std::errc() || stopped != end) return std::nullopt;
  return DeadLetterId{*epoch, *lane, Sequence(sequence)};
}

std::string dead_letters(const Store& store, const AnswerJson& request) {
  auto after = request.value("after", std::string());
  std::optional<DeadLetterId> from;
  if (!after.empty()) {
    from = id_of(store, after);
    if (!from) return answer_error(rejected(fmt::format("no name of a dead letter: \"{}\"", after)));
  }
  auto page = store.dead_letters(from, {static_cast<std::size_t>(kPageRecords), kPageBytes});
  if (!page) return answer_error(page.error());
  std::string answer = "{\"dead_letters\":[";
  for (const auto& letter : *page) {
    AnswerJson about{{"id", id_text(store, letter.id())},
                     {"lane", store.name_of(letter.stored.lane)},
                     {"reason", letter.reason},
                     {"set_aside", time_text(letter.time)},
                     {"damaged", letter.damaged}};
    if (answer.back() != '[') answer += ',';
    answer += about.dump(-1, ' ', false, AnswerJson::error_handler_t::replace);
    answer.pop_back();
    auto record = letter.damaged ? "null" : export_line(letter.stored, store.name_of(letter.stored.lane));
    answer += ",\"record\":" + record + "}";
  }
  return answer + "]}";
}

std::string redo(Store& store, const AnswerJson& request, bool again) {
  std::vector<DeadLetterId> ids;
  auto missing = AnswerJson::array(), damaged = AnswerJson::array();
  for (const auto& text : request.at("ids")) {
    auto id = id_of(store, text.get<std::string>());
    id ? ids.push_back(*id) : missing.push_back(text);
  }
  auto done = again ? store.retry(ids) : store.discard(ids);
  if (!done) return answer_error(done.error());
  for (const auto& id : done->missing) missing.push_back(id_text(store, id));
  for (const auto& id : done->damaged) damaged.push_back(id_text(store, id));
  AnswerJson json{{"done", done->done}, {"missing", missing}, {"damaged", damaged}};
  if (!done->no_room.empty()) json["no_room"] = done->no_room;
  return json.dump(-1, ' ', false, AnswerJson::error_handler_t::replace);
}

}  // namespace

bool changes_queue(const std::string& command) { return command == "queue.retry" || command == "queue.discard"; }

std::string change_queue(Store& store, const std::string& line) {
  auto request = AnswerJson::parse(line, nullptr, false);
  if (!request.is_object()) return answer_error(rejected("the request is not a JSON object"));
  try {
    return redo(store, request, request.value("command", std::string()) == "queue.retry");
  } catch (const AnswerJson::exception& wrong) {  // a member of another kind, or none
    return answer_error(rejected(wrong.what()));
  }
}

std::string answer_error(const Error& error) {
  AnswerJson json{{"error", error.what}, {"fault", name_of(error.fault)}};
  return json.dump(-1, ' ', false, AnswerJson::error_handler_t::replace);
}

std::string answer_queue(const Store& store, const std::string& line) {
  auto request = AnswerJson::parse(line, nullptr, false);
  if (!request.is_object()) return answer_error(rejected("the request is not a JSON object"));
  try {
    auto command = request.value("command", std::string());
    if (command == "queue.list") return list(store).dump();
    if (command == "queue.peek") return peek(store, request);
    if (command == "queue.gaps") return gaps(store, request).dump();
    if (command == "queue.dead_letters") return dead_letters(store, request);
    return answer_error(rejected(fmt::format("no such command: \"{}\"", command)));
  } catch (const AnswerJson::exception& wrong) {  // a member of another kind
    return answer_error(rejected(wrong.what()));
  }
}

}  // namespace penstock
