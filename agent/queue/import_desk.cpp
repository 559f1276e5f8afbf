#include "agent/queue/import_desk.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "agent/queue/queue_answers.h"

namespace penstock {
namespace {

using DeskJson = nlohmann::ordered_json;
using DeskTime = std::chrono::steady_clock;

constexpr std::chrono::seconds kAnswerPatience{1};
constexpr std::uint64_t kReservePages = 256;  // the store's own; below them it gives up or takes nothing

std::string state_name(const std::string& file) { return "position/" + file; }

std::string answer_wait(const std::string& why) { return DeskJson{{"wait", why}}.dump(); }
std::string answer_stored() { return R"({"stored":true})"; }

constexpr const char* kBegin = "import.begin";

/// Of import.begin; empty: it has none.
std::string file_of(const std::string& line) {
  auto request = DeskJson::parse(line, nullptr, false);
  bool named = request.is_object() && request.contains("file") && request["file"].is_string();
  return named ? request["file"].get<std::string>() : std::string();
}

std::string answer_begin(const Store& store, std::size_t max_record_bytes, const std::string& file) {
  auto position = store.state(kImportDriver, state_name(file));
  if (!position) return answer_error(position.error());
  auto lanes = DeskJson::array();
  for (const auto& lane : store.status().lanes) lanes.push_back(lane.name);
  DeskJson json{{"lanes", lanes}, {"max_record_bytes", max_record_bytes}};
  json["position"] = *position ? DeskJson(**position) : DeskJson();
  return json.dump(-1, ' ', false, DeskJson::error_handler_t::replace);
}

/// What is asked for can be answered without a commit: it was done, or it never can be.
std::optional<std::string> answer_at_once(const Store& store, const ImportRequest& request) {
  auto position = store.state(kImportDriver, state_name(request.file));
  if (!position) return answer_error(position.error());
  if (*position == request.to) return answer_stored();
  if (*position != request.from) {
    return answer_error(rejected("the position kept for the file is another one: somebody else imports it now"));
  }
  return std::nullopt;
}

/// Why nothing more is taken now; empty: it is. `rejected`: it never will be.
Result<std::string> room_for(const Store& store, const ImportRequest& request) {
  auto status = store.status();
  std::uint64_t bytes = 0;
  for (const auto& record : request.records) bytes += record.bytes();
  auto kept = std::min(kReservePages, status.capacity_pages / 8) + status.capacity_pages / 16;
  auto needed = bytes / std::max<std::uint64_t>(status.page_bytes, 1) + 16;
  if (kept + needed > status.capacity_pages) {
    return rejected(
        fmt::format("{} bytes of records are too many for a queue of {} pages", bytes, status.capacity_pages));
  }
  if (status.free_pages >= kept + needed) return std::string();
  return fmt::format("the queue is full but for {:.0f} %: an import waits until Kafka has taken some of it",
                     100.0 * static_cast<double>(status.free_pages) / static_cast<double>(status.capacity_pages));
}

Result<ImportRequest> understand(const std::string& command, const std::string& line) {
  if (command == "import") return read_request(line);
  ImportRequest request;
  request.file = file_of(line);
  if (command != kBegin || request.file.empty()) return rejected("expected import.begin with a file, or import");
  return request;
}

StateChange position_of(const ImportRequest& request) { return {state_name(request.file), request.to}; }

}  // namespace

struct ImportDesk::Asked {
  ImportRequest request;
  bool begins = false;
  Ticket ticket = 0;                         // of our put; 0: not yet
  std::string waits = "the writer is busy";  // for what
  DeskTime::time_point until = DeskTime::now() + kAnswerPatience;
};

ImportDesk::ImportDesk(const Store& store, Intake& intake, Writer& writer, const Disk& disk, const Clock& clock,
                       std::size_t max_record_bytes)
    : store_(store),
      intake_(intake),
      writer_(writer),
      disk_(disk),
      clock_(clock),
      max_record_bytes_(max_record_bytes) {}

ControlAnswer ImportDesk::ask(const std::string& command, const std::string& line) {
  Asked asked;
  auto request = understand(command, line);
  if (!request) return answer_error(request.error());
  asked.request = std::move(*request);
  asked.begins = command == kBegin;
  if (auto answer = turn(asked)) return std::move(*answer);
  return ControlAnswer::Later([this, asked = std::move(asked)]() mutable { return turn(asked); });
}

/// One look at how far it is.
std::optional<std::string> ImportDesk::turn(Asked& asked) {
  bool late = DeskTime::now() >= asked.until;
  auto not_yet = [&]() { return late ? std::optional(answer_wait(asked.waits)) : std::nullopt; };
  if (asked.ticket == 0) {
    // Until the last put is durable the store does not show where its file is.
    if (writer_.durable().value() < last_) return not_yet();
    if (asked.begins) return answer_begin(store_, max_record_bytes_, asked.request.file);
    if (auto answer = answer_at_once(store_, asked.request)) return answer;
    auto lane = store_.lane(asked.request.lane);
    if (!lane) return answer_error(rejected(fmt::format("there is no lane \"{}\"", asked.request.lane)));
    auto full = room_for(store_, asked.request);
    if (!full) return answer_error(full.error());
    if (!full->empty()) return answer_wait(*full);
    auto ticket = offer(asked, *lane);
    if (!ticket && ticket.error().fault == Fault::full) {
      asked.waits = "the agent's intake is full";
      return not_yet();
    }
    if (!ticket) return answer_error(ticket.error());
    asked.ticket = last_ = *ticket;
  }
  if (writer_.durable().value() < asked.ticket) return not_yet();
  if (auto answer = answer_at_once(store_, asked.request)) return answer;
  return answer_error(transient("the agent stops"));
}

Result<Ticket> ImportDesk::offer(Asked& asked, Lane lane) {
  auto& outlet = outlets_[lane];
  if (!outlet) {
    outlet = std::make_unique<DriverOutlet>(intake_, writer_, disk_, clock_,
                                            DriverOutlet::Settings{kImportDriver, lane, max_record_bytes_, true});
  }
  std::vector<StateChange> changes{position_of(asked.request)};
  return outlet->offer(asked.request.records, changes, 0);
}

std::string import_into(Store& store, const Clock& clock, std::size_t max_record_bytes, const std::string& command,
                        const std::string& line) {
  auto request = understand(command, line);
  if (!request) return answer_error(request.error());
  if (command == kBegin) return answer_begin(store, max_record_bytes, request->file);
  if (auto answer = answer_at_once(store, *request)) return *answer;
  auto lane = store.lane(request->lane);
  if (!lane) return answer_error(rejected(fmt::format("there is no lane \"{}\"", request->lane)));
  auto full = room_for(store, *request);
  if (!full) return answer_error(full.error());
  if (!full->empty()) return answer_wait(*full);

  Group group{*lane, kImportDriver, request->records, {position_of(*request)}, {}, true};
  for (const auto& record : group.records) {
    if (record.bytes() <= max_record_bytes) continue;
    return answer_error(rejected(fmt::format("a record of stream \"{}\" has {} bytes, at most {} are taken",
                                             record.stream, record.bytes(), max_record_bytes)));
  }
  stamp(group.records, kImportDriver, clock);
  auto done = store.commit({&group, 1});
  if (!done && done.error().fault == Fault::full) return answer_wait(done.error().what);
  if (!done) return answer_error(done.error());
  if (auto answer = answer_at_once(store, *request)) return *answer;
  return answer_wait("the queue is full");
}

}  // namespace penstock
