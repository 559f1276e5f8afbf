// penstock demo: the whole path on embedded defaults, with a proof at the end.
#include "agent/commands/demo.h"

#include <fmt/format.h>
#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/daemon/service.h"
#include "agent/demo/screen.h"
#include "config/units.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

constexpr auto kShortest = 5s;
constexpr auto kLongest = 1h;
constexpr auto kDrainPatience = 60s;  // for the queue to empty, the link being up
constexpr auto kReadPatience = 30s;   // for the receiver to have read it all

/// Where it all goes. A reader that has gone away is no reason to throw: main() says it at the end.
struct Said {
  std::FILE* out;
  std::FILE* errors;
  void say(const std::string& line) const { std::fputs((line + "\n").c_str(), out); }
  void complain(const std::string& what) const { std::fputs(("penstock demo: " + what + "\n").c_str(), errors); }
};

/// The log while a demo runs. Behind a view that is drawn in place its newest lines are part of the view.
class DemoLog {
 public:
  explicit DemoLog(bool in_the_view) : before_(spdlog::default_logger()) {
    std::shared_ptr<spdlog::logger> logger;
    if (in_the_view) {
      ring_ = std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(kLines);
      logger = std::make_shared<spdlog::logger>("demo", ring_);
    } else {
      logger = std::make_shared<spdlog::logger>("demo", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    }
    logger->set_pattern("%l: %v");
    logger->set_level(spdlog::level::warn);
    spdlog::set_default_logger(logger);
  }
  ~DemoLog() { spdlog::set_default_logger(before_); }
  DemoLog(const DemoLog&) = delete;
  DemoLog& operator=(const DemoLog&) = delete;

  std::vector<std::string> newest() const {
    std::vector<std::string> lines;
    if (!ring_) return lines;
    for (auto& line : ring_->last_formatted(kLines)) {
      while (!line.empty() && line.back() == '\n') line.pop_back();
      lines.push_back(line);
    }
    return lines;
  }

 private:
  static constexpr std::size_t kLines = 2;
  std::shared_ptr<spdlog::logger> before_;
  std::shared_ptr<spdlog::sinks::ringbuffer_sink_mt> ring_;
};

/// Shows the demo until `over()`; false when a signal asked for a stop, or nobody reads it any more.
template <class Over>
bool watch(Demo& demo, Screen& screen, const DemoLog& log, Signals& signals, Over over) {
  while (!over()) {
    auto snapshot = demo.look();
    snapshot.messages = log.newest();
    if (!screen.show(snapshot)) return false;
    if (signals.wait(100ms) == Signals::Kind::stop) return false;
  }
  return true;
}

ExitStatus conclude(const Result<Proof>& proof, const Proof& so_far, const Said& said) {
  if (!proof) {
    said.say(so_far.line());
    said.complain("not proven: " + proof.error().what);
    return kFailed;
  }
  said.say(proof->line());
  return proof->holds() ? kDone : kProofFailed;
}

}  // namespace

ExitStatus show_demo(const DemoSettings& settings, std::FILE* out, std::FILE* errors) {
  const Said said{out, errors};
  Signals signals;  // before any thread
  SystemClock clock;
  Timetable timetable(settings.whole);
  Screen screen(out, timetable);
  DemoLog log(screen.terminal());
  auto started = Demo::start(settings, clock);
  if (!started) {
    said.complain(started.error().what);
    return kFailed;
  }
  auto& demo = **started;
  for (const auto& line : demo.introduction()) said.say(line);
  said.say("");

  std::optional<Error> broken;
  bool in_time = watch(demo, screen, log, signals, [&] {
    auto more = demo.turn();
    if (!more) broken = more.error();
    return !more || !*more;
  });
  if (broken) {
    said.complain(broken->what);
    return kFailed;
  }

  demo.close();
  auto give_up = std::chrono::steady_clock::now() + kDrainPatience;
  bool waited =
      watch(demo, screen, log, signals, [&] { return demo.drained() || std::chrono::steady_clock::now() >= give_up; });
  auto last = demo.look();
  Result<Proof> proof =
      waited ? demo.finish(kReadPatience) : transient("interrupted again while the queue was emptied");
  last.received = demo.so_far().received;
  last.messages = log.newest();
  screen.finish(last);
  said.say("");
  if (!in_time) said.say("stopped early; the proof is of what was sent until then");
  return conclude(proof, demo.so_far(), said);
}

void add_demo(CLI::App& app, int& status) {
  auto time = std::make_shared<std::string>("30s");  // lives as long as the callback
  app.add_option("--for", *time, "how long: 5s to 1h")->capture_default_str()->type_name("TIME");
  app.footer(
      "Needs no configuration and no other service. Simulated sensors and this host's own go through the real agent:\n"
      "durable queue, forwarder, transactions; a mock cluster inside this process stands in for Kafka. The link is "
      "cut\n"
      "and restored. At the end: how many records were sent, received, lost, and received twice.\n"
      "Ctrl-C ends it early, with the proof so far.\n"
      "Exit status: 0 the proof holds, 1 it could not be made, 2 it does not hold.");
  app.callback([time, &status] {
    auto whole = parse_duration(*time);
    if (!whole || *whole < kShortest || *whole > kLongest) {
      throw CLI::ValidationError("--for", fmt::format("\"{}\" is not a time from 5s to 1h", *time));
    }
    DemoSettings settings;
    settings.whole = std::chrono::duration_cast<std::chrono::milliseconds>(*whole);
    status = show_demo(settings, stdout, stderr);
  });
}

}  // namespace penstock
