#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

#include "agent/commands/command.h"
#include "agent/commands/queue_parts.h"
#include "agent/daemon/service.h"
#include "agent/demo/view.h"

namespace penstock {
namespace {

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
    auto page = ask_queue(queue, {{"command", "queue.gaps"}, {"after", after}});
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
  auto listed = list_queue(queue);
  if (!listed) return listed.error();
  for (const auto& lane : (*listed)["lanes"]) {
    auto check = of(lane["name"]);
    if (check == checks.end()) continue;
    subtract(check->missing, 0, std::max(lane["delivered"].get<std::uint64_t>(), lane["dropped"].get<std::uint64_t>()));
  }
  return {};
}

}  // namespace

int check_queue(QueueAccess& queue, const QueueOptions& options) {
  auto listed = list_queue(queue);
  if (!listed) return queue_failed(listed.error().what);
  auto lanes = lanes_of(*listed, options.lane);
  if (!lanes) return queue_failed(lanes.error().what);
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
    if (!done) return queue_failed(done.error().what);
    if (stopped) break;
    if (expected <= end) one.missing.emplace_back(expected, end);
    checks.push_back(std::move(one));
  }
  if (stopped) return queue_failed("interrupted: nothing was found out");
  if (auto done = account(queue, checks); !done) return queue_failed(done.error().what);

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

}  // namespace penstock
