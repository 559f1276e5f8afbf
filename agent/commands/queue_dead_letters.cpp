#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "agent/commands/command.h"
#include "agent/commands/queue_parts.h"

namespace penstock {
namespace {

/// Each dead letter of the lane asked for, page by page; `take` says whether it wants more.
Result<void> each_dead_letter(QueueAccess& queue, const std::string& lane,
                              const std::function<bool(const QueueJson&)>& take) {
  for (std::string after;;) {
    auto page = ask_queue(queue, {{"command", "queue.dead_letters"}, {"after", after}});
    if (!page) return page.error();
    const auto& letters = page->at("dead_letters");
    if (letters.empty()) return {};
    for (const auto& letter : letters) {
      after = letter["id"].get<std::string>();
      if ((lane.empty() || letter["lane"] == lane) && !take(letter)) return {};
    }
  }
}

void show_dead_letter(const QueueJson& letter, std::size_t width) {
  fmt::print("{}\n  set aside {}: {}\n", visible(letter["id"].get<std::string>(), 0),
             letter["set_aside"].get<std::string>(), visible(letter["reason"].get<std::string>(), 0));
  if (letter["damaged"].get<bool>()) {
    fmt::print("  damaged: it cannot be read, nor retried\n");
  } else {
    show_record(letter["record"], width);
  }
}

/// Few at a time: a request is one line, and the writer's commits go on between them.
int redo(QueueAccess& queue, const char* command, const char* done_word, const std::vector<std::string>& ids) {
  constexpr std::size_t kPerRequest = 100;
  std::uint64_t done = 0, left = 0;
  std::string problem;
  for (std::size_t at = 0; at < ids.size() && problem.empty(); at += kPerRequest) {
    std::vector<std::string> some(ids.begin() + static_cast<std::ptrdiff_t>(at),
                                  ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), at + kPerRequest)));
    auto answer = ask_queue(queue, {{"command", command}, {"ids", some}});
    if (!answer) {
      problem = answer.error().what;
      break;
    }
    done += (*answer)["done"].get<std::uint64_t>();
    problem = answer->value("no_room", std::string());
    for (const auto& id : (*answer)["missing"]) {
      fmt::print(stderr, "penstock queue: there is no dead letter {}\n", visible(id.get<std::string>(), 0));
      ++left;
    }
    for (const auto& id : (*answer)["damaged"]) {
      fmt::print(stderr, "penstock queue: {} is damaged; it can only be discarded\n",
                 visible(id.get<std::string>(), 0));
      ++left;
    }
  }
  fmt::print("{} {}\n", done, done_word);
  if (!problem.empty()) return queue_failed(problem);
  return left == 0 ? kDone : kFailed;
}

}  // namespace

int handle_dead_letters(QueueAccess& queue, const QueueOptions& options) {
  auto listed = list_queue(queue);
  if (!listed) return queue_failed(listed.error().what);
  if (auto lanes = lanes_of(*listed, options.lane); !lanes) return queue_failed(lanes.error().what);
  if (!options.discarded.empty()) return redo(queue, "queue.discard", "discarded", options.discarded);
  if (!options.retried.empty()) return redo(queue, "queue.retry", "retried", options.retried);
  std::size_t width = options.full ? 0 : terminal_width();
  std::vector<std::string> ids;
  auto done = each_dead_letter(queue, options.lane, [&](const QueueJson& letter) {
    if (options.retry_all) {
      ids.push_back(letter["id"].get<std::string>());
    } else if (options.json) {
      fmt::print("{}\n", letter.dump());
    } else {
      show_dead_letter(letter, width);
    }
    return std::ferror(stdout) == 0;
  });
  if (!done) return queue_failed(done.error().what);
  return options.retry_all ? redo(queue, "queue.retry", "retried", ids) : kDone;
}

}  // namespace penstock
