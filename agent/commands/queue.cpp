// penstock queue: what lies in the queue, of the running agent or of one that is stopped.
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "agent/commands/access.h"
#include "agent/commands/command.h"
#include "agent/daemon/service.h"
#include "agent/demo/view.h"
#include "drivers/lines/utf8.h"

namespace penstock {
namespace {

using QueueJson = nlohmann::ordered_json;

struct QueueOptions {
  QueuePlace place;
  std::string lane;
  std::uint64_t from = 1, to = std::numeric_limits<std::uint64_t>::max(), count = 10;
  std::string output;
  bool json = false, full = false, progress = false;
};

/// Complains, and gives the status to end with.
int fail(const std::string& what) {
  fmt::print(stderr, "penstock queue: {}\n", what);
  return kFailed;
}

Result<QueueJson> ask(QueueAccess& queue, const QueueJson& request) {
  auto answer = queue.ask(request["command"].get<std::string>(), request.dump());
  if (!answer) return answer.error();
  auto json = QueueJson::parse(*answer, nullptr, false);
  if (!json.is_object()) return rejected("the answer cannot be understood: " + answer->substr(0, 200));
  return json;
}

Result<QueueJson> list(QueueAccess& queue) {
  auto listed = ask(queue, {{"command", "queue.list"}});
  if (listed && !listed->contains("lanes")) return rejected("an agent of another version answers: it lists no lanes");
  return listed;
}

/// Of the lane asked for, or of all; in the order of their priority.
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

/// Each record of a lane from `from` on, page by page, until the lane or `take` ends; what ended it.
Result<void> each_record(QueueAccess& queue, const std::string& lane, std::uint64_t from, std::uint64_t count,
                         const std::function<bool(const QueueJson&)>& take) {
  while (count > 0) {
    auto page = ask(queue, {{"command", "queue.peek"}, {"lane", lane}, {"from", from}, {"count", count}});
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

int show_list(QueueAccess& queue, const QueueOptions& options) {
  auto listed = list(queue);
  if (!listed) return fail(listed.error().what);
  if (options.json) {
    fmt::print("{}\n", listed->dump());
    return kDone;
  }
  auto time = [](const QueueJson& place) { return place.is_null() ? "-" : place["time"].get<std::string>(); };
  std::size_t width = 4;
  for (const auto& lane : (*listed)["lanes"]) width = std::max(width, lane["name"].get<std::string>().size());
  fmt::print("{:{}}  {:>8}  {:>12}  {:27}  {:27}  {:>12}  {:>12}  {:>12}\n", "lane", width, "priority", "waiting",
             "oldest", "newest", "dropped", "delivered", "durable");
  for (const auto& lane : (*listed)["lanes"]) {
    auto number = [&](const char* name) { return lane[name].get<std::uint64_t>(); };
    auto priority = lane["priority"].get<int>();
    fmt::print("{:{}}  {:>8}  {:>12}  {:27}  {:27}  {:>12}  {:>12}  {:>12}\n", lane["name"].get<std::string>(), width,
               priority >= 1'000'000 ? "none" : std::to_string(priority), number("waiting"), time(lane["oldest"]),
               time(lane["newest"]), number("dropped"), number("delivered"), number("durable"));
  }
  auto pages = [&](const char* name) {
    return static_cast<double>((*listed)[name].get<std::uint64_t>() * (*listed)["page_bytes"].get<std::uint64_t>()) /
           (1 << 20);
  };
  fmt::print("disk    {:.1f} of {:.1f} MiB in {} of {} pages\n", pages("used_pages"), pages("capacity_pages"),
             (*listed)["used_pages"].get<std::uint64_t>(), (*listed)["capacity_pages"].get<std::uint64_t>());
  fmt::print("ledger  {} losses of which Kafka has no gap record yet\n",
             (*listed)["ledger_entries"].get<std::uint64_t>());
  fmt::print("from    {}\n", queue.what());
  return kDone;
}

std::size_t terminal_width() {
  winsize size{};
  return isatty(STDOUT_FILENO) != 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col
                                                                                                        : 0;
}

/// In one line that does nothing to a terminal: what is not text to be seen is escaped. `width` 0: all of it.
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

int peek(QueueAccess& queue, const QueueOptions& options) {
  auto listed = list(queue);
  if (!listed) return fail(listed.error().what);
  auto lanes = lanes_of(*listed, options.lane);
  if (!lanes) return fail(lanes.error().what);
  std::uint64_t left = options.count;
  std::size_t width = options.full ? 0 : terminal_width();
  for (const auto& lane : *lanes) {
    auto done = each_record(queue, lane["name"], options.from, left, [&](const QueueJson& record) {
      options.json ? fmt::print("{}\n", record.dump()) : show_record(record, width);
      --left;
      return std::ferror(stdout) == 0;
    });
    if (!done) return fail(done.error().what);
  }
  return kDone;
}

/// stdout, or a file of our own.
class Output {
 public:
  ~Output() {
    if (file_ != nullptr && file_ != stdout) std::fclose(file_);
  }
  bool open(const std::string& path) {
    file_ = path.empty() ? stdout : std::fopen(path.c_str(), "we");
    return file_ != nullptr;
  }
  bool write(const std::string& text) { return std::fwrite(text.data(), 1, text.size(), file_) == text.size(); }
  /// On disk, where that is meant.
  bool finish() { return std::fflush(file_) == 0 && (file_ == stdout || fsync(fileno(file_)) == 0); }

 private:
  std::FILE* file_ = nullptr;
};

int export_records(QueueAccess& queue, const QueueOptions& options) {
  auto listed = list(queue);
  if (!listed) return fail(listed.error().what);
  auto lanes = lanes_of(*listed, options.lane);
  if (!lanes) return fail(lanes.error().what);
  Output output;
  auto cannot_write = [&] {
    return fail(fmt::format("{}: {}", options.output.empty() ? "stdout" : options.output,
                            std::generic_category().message(errno)));
  };
  if (!output.open(options.output)) return cannot_write();

  Signals signals;
  ProgressLine progress(options.progress);
  std::uint64_t records = 0;
  bool written = true, stopped = false;
  for (const auto& lane : *lanes) {
    auto end = std::min(options.to, lane["durable"].get<std::uint64_t>());  // what comes later is not waited for
    auto done = each_record(queue, lane["name"], options.from, std::numeric_limits<std::uint64_t>::max(),
                            [&](const QueueJson& record) {
                              auto sequence = record["sequence"].get<std::uint64_t>();
                              if (sequence > end) return false;
                              written = output.write(record.dump() + "\n");
                              if (!written) return false;
                              ++records;
                              if (records % 256 == 0) stopped = interrupted(signals);
                              if (progress.due()) {
                                progress.show(fmt::format("{} records exported, {} {} of {}", grouped(records),
                                                          lane["name"].get<std::string>(), sequence, end));
                              }
                              return !stopped;
                            });
    if (!written) return cannot_write();
    if (!done) return fail(done.error().what);
    if (stopped) break;
  }
  if (!output.finish()) return cannot_write();
  progress.say(fmt::format("{} records exported{}", grouped(records),
                           stopped ? "; interrupted: every line that is there is whole" : ""));
  return stopped ? kFailed : kDone;
}

/// Ranges of sequences, both ends included, in order.
using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

void subtract(Ranges& from, std::uint64_t first, std::uint64_t last) {
  Ranges left;
  for (auto [begin, end] : from) {
    if (end < first || last < begin) {
      left.emplace_back(begin, end);
      continue;
    }
    if (begin < first) left.emplace_back(begin, first - 1);
    if (last < end) left.emplace_back(last + 1, end);
  }
  from = std::move(left);
}

std::uint64_t total(const Ranges& ranges) {
  std::uint64_t sum = 0;
  for (auto [first, last] : ranges) sum += last - first + 1;
  return sum;
}

std::string in_words(const Ranges& ranges) {
  std::string text;
  for (std::size_t i = 0; i < ranges.size() && i < 20; ++i) {
    auto [first, last] = ranges[i];
    text += (i == 0 ? "" : ", ") + (first == last ? std::to_string(first) : fmt::format("{}-{}", first, last));
  }
  return text + (ranges.size() > 20 ? ", ..." : "");
}

struct LaneCheck {
  std::string name;
  std::uint64_t records = 0, bytes = 0;
  Ranges missing;
  std::uint64_t given_up = 0;  // of what was missing
};

/// Takes what the ledger accounts for, and what has left the queue meanwhile, out of what is missing.
Result<void> account(QueueAccess& queue, std::vector<LaneCheck>& checks) {
  auto of = [&](const QueueJson& name) {
    return std::find_if(checks.begin(), checks.end(), [&](const auto& check) { return name == check.name; });
  };
  for (std::uint64_t after = 0;;) {
    auto page = ask(queue, {{"command", "queue.gaps"}, {"after", after}});
    if (!page) return page.error();
    const auto& gaps = page->at("gaps");
    if (gaps.empty()) break;
    for (const auto& gap : gaps) {
      after = gap["entry"].get<std::uint64_t>();
      auto check = of(gap["lane"]);
      auto first = gap["first"].get<std::uint64_t>();
      if (check == checks.end() || first == 0) continue;
      auto before = total(check->missing);
      subtract(check->missing, first, gap["last"].get<std::uint64_t>());
      check->given_up += before - total(check->missing);
    }
  }
  auto listed = list(queue);
  if (!listed) return listed.error();
  for (const auto& lane : (*listed)["lanes"]) {
    auto check = of(lane["name"]);
    if (check == checks.end()) continue;
    subtract(check->missing, 0, std::max(lane["delivered"].get<std::uint64_t>(), lane["dropped"].get<std::uint64_t>()));
  }
  return {};
}

int check(QueueAccess& queue, const QueueOptions& options) {
  auto listed = list(queue);
  if (!listed) return fail(listed.error().what);
  auto lanes = lanes_of(*listed, options.lane);
  if (!lanes) return fail(lanes.error().what);
  Signals signals;
  ProgressLine progress(options.progress);
  std::vector<LaneCheck> checks;
  bool stopped = false;
  for (const auto& lane : *lanes) {
    LaneCheck one{lane["name"], 0, 0, {}, 0};
    auto expected = std::max(lane["delivered"].get<std::uint64_t>(), lane["dropped"].get<std::uint64_t>()) + 1;
    auto end = lane["durable"].get<std::uint64_t>();
    auto done =
        each_record(queue, one.name, expected, std::numeric_limits<std::uint64_t>::max(), [&](const QueueJson& record) {
          auto sequence = record["sequence"].get<std::uint64_t>();
          if (sequence > end) return false;
          if (sequence > expected) one.missing.emplace_back(expected, sequence - 1);
          expected = sequence + 1;
          ++one.records;
          one.bytes += record.value("payload", std::string()).size() +
                       record.value("payload_base64", std::string()).size() / 4 * 3;
          if (one.records % 1024 == 0) stopped = interrupted(signals);
          if (progress.due()) {
            progress.show(fmt::format("{} records read, {} {} of {}", grouped(one.records), one.name, sequence, end));
          }
          return !stopped;
        });
    if (!done) return fail(done.error().what);
    if (stopped) break;
    if (expected <= end) one.missing.emplace_back(expected, end);
    checks.push_back(std::move(one));
  }
  if (stopped) return fail("interrupted: nothing was found out");
  if (auto done = account(queue, checks); !done) return fail(done.error().what);

  std::uint64_t missing = 0;
  for (const auto& lane : checks) {
    missing += total(lane.missing);
    fmt::print("{}: {} records read, about {} bytes of payload; {} missing", lane.name, lane.records, lane.bytes,
               total(lane.missing));
    if (lane.given_up != 0) fmt::print("; {} given up and in the ledger", lane.given_up);
    fmt::print("\n");
    if (!lane.missing.empty()) fmt::print("  missing: {}\n", in_words(lane.missing));
  }
  fmt::print("{}\n", missing == 0
                         ? "the check holds: every record that was not given up can be read"
                         : "the check does not hold: what is missing is damaged or gone, and no ledger says so");
  return missing == 0 ? kDone : kProofFailed;
}

}  // namespace

void add_queue(CLI::App& app, int& status) {
  app.require_subcommand(1);
  auto options = std::make_shared<QueueOptions>();  // lives as long as the callbacks
  auto add = [&](const char* name, const char* summary, int (*run)(QueueAccess&, const QueueOptions&)) {
    auto* command = app.add_subcommand(name, summary);
    add_place(*command, options->place);
    command->callback([options, run, &status] {
      int refused = kDone;
      auto queue = open_queue(options->place, false, "queue", refused);
      status = queue ? run(*queue, *options) : refused;
    });
    return command;
  };
  auto add_lane = [&](CLI::App* command) { command->add_option("--lane", options->lane, "only this lane"); };

  auto* listing = add("list", "lanes, their marks, and how much waits", show_list);
  listing->add_flag("--json", options->json, "one line of JSON");

  auto* peeking = add("peek", "the oldest records, without taking them out", peek);
  add_lane(peeking);
  peeking->add_option("--from", options->from, "the first sequence to look at");
  peeking->add_option("--count", options->count, "how many records (10)");
  peeking->add_flag("--full", options->full, "lines of any length, on a terminal too");
  peeking->add_flag("--json", options->json, "a line of JSON for each record, as export writes it");

  auto* exporting = add("export", "records as JSON lines, which `penstock import` reads", export_records);
  add_lane(exporting);
  exporting->add_option("--from", options->from, "the first sequence");
  exporting->add_option("--to", options->to, "the last sequence");
  exporting->add_option("-o,--output", options->output, "into this file instead of stdout");
  exporting->add_flag("--progress", options->progress, "a line each second on stderr, also when that is no terminal");

  auto* checking = add("check", "read all of it: is every record there and whole? 2 if not", check);
  add_lane(checking);
  checking->add_flag("--progress", options->progress, "a line each second on stderr, also when that is no terminal");
  app.footer(
      "The running agent is asked over its control socket. When none runs, its store is opened; it cannot start "
      "meanwhile.");
}

}  // namespace penstock
