// penstock queue: what lies in the queue of the running agent, or of one that is stopped.
#include <fcntl.h>
#include <fmt/core.h>
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
#include "agent/commands/queue_parts.h"
#include "agent/daemon/service.h"
#include "agent/demo/view.h"

namespace penstock {
namespace {

int show_list(QueueAccess& queue, const QueueOptions& options) {
  auto listed = list_queue(queue);
  if (!listed) return queue_failed(listed.error().what);
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

int peek(QueueAccess& queue, const QueueOptions& options) {
  auto listed = list_queue(queue);
  if (!listed) return queue_failed(listed.error().what);
  auto lanes = lanes_of(*listed, options.lane);
  if (!lanes) return queue_failed(lanes.error().what);
  std::uint64_t left = options.count;
  std::size_t width = options.full ? 0 : terminal_width();
  for (const auto& lane : *lanes) {
    auto done = each_record(queue, lane["name"], options.from, left, [&](const QueueJson& record) {
      options.json ? fmt::print("{}\n", record.dump()) : show_record(record, width);
      --left;
      return std::ferror(stdout) == 0;
    });
    if (!done) return queue_failed(done.error().what);
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
  auto listed = list_queue(queue);
  if (!listed) return queue_failed(listed.error().what);
  auto lanes = lanes_of(*listed, options.lane);
  if (!lanes) return queue_failed(lanes.error().what);
  Output output;
  auto cannot_write = [&] {
    return queue_failed(fmt::format("{}: {}", options.output.empty() ? "stdout" : options.output,
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
    if (!done) return queue_failed(done.error().what);
    if (stopped) break;
  }
  if (!output.finish()) return cannot_write();
  progress.say(fmt::format("{} records exported{}", grouped(records),
                           stopped ? "; interrupted: every line that is there is whole" : ""));
  return stopped ? kFailed : kDone;
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
  auto add_progress = [&](CLI::App* command) {
    command->add_flag("--progress", options->progress, "a line each second on stderr, also when that is no terminal");
  };

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
  add_progress(exporting);

  auto* checking = add("check", "read all of it: is every record there and whole? 2 if not", check_queue);
  add_lane(checking);
  add_progress(checking);

  auto* letters = add("dead-letters", "records that Kafka refuses for good: list, retry, discard", handle_dead_letters);
  add_lane(letters);
  letters->add_flag("--full", options->full, "lines of any length, on a terminal too");
  letters->add_flag("--json", options->json, "a line of JSON for each");
  auto* retrying = letters->add_option("--retry", options->retried, "send these again, as new records");
  auto* all = letters->add_flag("--retry-all", options->retry_all, "send all of them again, or all of --lane");
  auto* discarding = letters->add_option("--discard", options->discarded, "throw these away; Kafka is told how many");
  retrying->excludes(all)->excludes(discarding);
  all->excludes(discarding);

  auto* repairing = app.add_subcommand("repair", "examine the store of a stopped agent, and mend what is damaged");
  add_place(*repairing, options->place);
  repairing->callback([options, &status] { status = repair_queue(options->place); });
  app.footer(
      "The running agent is asked over its control socket. When none runs, its store is opened; it cannot start "
      "meanwhile.");
}

}  // namespace penstock
