#include "agent/commands/queue_parts.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "agent/commands/command.h"
#include "drivers/lines/utf8.h"

namespace penstock {

int queue_failed(const std::string& what) {
  fmt::print(stderr, "penstock queue: {}\n", what);
  return kFailed;
}

Result<QueueJson> ask_queue(QueueAccess& queue, const QueueJson& request) {
  auto answer = queue.ask(request["command"].get<std::string>(), request.dump());
  if (!answer) return answer.error();
  auto json = QueueJson::parse(*answer, nullptr, false);
  if (!json.is_object()) return rejected("the answer cannot be understood: " + answer->substr(0, 200));
  return json;
}

Result<QueueJson> list_queue(QueueAccess& queue) {
  auto listed = ask_queue(queue, {{"command", "queue.list"}});
  if (listed && !listed->contains("lanes")) return rejected("an agent of another version answers: it lists no lanes");
  return listed;
}

Result<std::vector<QueueJson>> lanes_of(const QueueJson& listed, const std::string& wanted) {
  std::vector<QueueJson> lanes;
  std::string names;
  for (const auto& lane : listed["lanes"]) {
    names += (names.empty() ? "" : ", ") + lane["name"].get<std::string>();
    if (wanted.empty() || lane["name"] == wanted) lanes.push_back(lane);
  }
  if (lanes.empty()) return rejected(fmt::format("there is no lane \"{}\"; there are: {}", wanted, names));
  return lanes;
}

Result<void> each_record(QueueAccess& queue, const std::string& lane, std::uint64_t from, std::uint64_t count,
                         const std::function<bool(const QueueJson&)>& take) {
  while (count > 0) {
    auto page = ask_queue(queue, {{"command", "queue.peek"}, {"lane", lane}, {"from", from}, {"count", count}});
    if (!page) return page.error();
    const auto& records = page->at("records");
    if (records.empty()) return {};
    for (const auto& record : records) {
      if (!take(record)) return {};
      from = record["sequence"].get<std::uint64_t>() + 1;
    }
    count -= std::min<std::uint64_t>(count, records.size());
  }
  return {};
}

std::size_t terminal_width() {
  winsize size{};
  return isatty(STDOUT_FILENO) != 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col
                                                                                                        : 0;
}

std::string visible(const std::string& text, std::size_t width) {
  std::string shown;
  std::size_t columns = 0;
  for (std::string_view rest = text; !rest.empty();) {
    auto length = utf8_character(rest);
    auto byte = static_cast<unsigned char>(rest[0]);
    bool plain = length > 1 ? !rest.starts_with("\xC2") || static_cast<unsigned char>(rest[1]) >= 0xA0
                            : length == 1 && byte >= 0x20 && byte != 0x7f;
    length = std::max<std::size_t>(length, 1);
    std::string part(rest.substr(0, length));
    if (!plain) {
      part = byte == '\n' ? "\\n" : byte == '\t' ? "\\t" : byte == '\r' ? "\\r" : fmt::format("\\x{:02x}", byte);
      length = 1;
    }
    std::size_t takes = plain ? 1 : part.size();
    if (width != 0 && columns + takes + 3 > width) return shown + "...";
    shown += part;
    columns += takes;
    rest.remove_prefix(length);
  }
  return shown;
}

void show_record(const QueueJson& record, std::size_t width) {
  auto text = [&](const char* name) { return record.value(name, std::string()); };
  std::string head =
      fmt::format("{} {}  {}  {}", text("lane"), record["sequence"].get<std::uint64_t>(), text("time"), text("stream"));
  if (record.contains("key")) head += "  key " + text("key");
  if (auto kind = text("kind"); kind != "reading") head += "  " + kind;
  if (auto quality = text("quality"); quality != "good") head += "  " + quality;
  if (!record.value("synchronised", true) && text("time_source") == "ours") head += "  unsynchronised";
  if (record.contains("content_type")) head += "  " + text("content_type");
  std::string payload = record.contains("payload") ? text("payload") : "base64 " + text("payload_base64");
  fmt::print("{}\n  {}\n", visible(head, width), visible(payload, width == 0 ? 0 : width - 2));
}

}  // namespace penstock
