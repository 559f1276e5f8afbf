// penstock run: the daemon.
#include <fmt/core.h>
#include <malloc.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "agent/commands/command.h"
#include "agent/daemon/agent.h"
#include "agent/daemon/answers.h"
#include "agent/daemon/damage_signals.h"
#include "agent/daemon/kafka.h"
#include "agent/daemon/service.h"
#include "agent/daemon/stop_limit.h"
#include "agent/version.h"
#include "config/config.h"
#include "drivers/table.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

void say_state(const Agent& agent, std::string& said) {
  std::string now = summary(agent.status());
  if (now == said) return;
  said = now;
  notify_systemd("STATUS=" + now);
}

void reread(Agent& agent, const std::string& file) {
  notify_systemd("RELOADING=1");
  auto loaded = load(file, driver_kinds());
  if (loaded.ok()) {
    spdlog::info("{}: read again", file);
    agent.reload(loaded.settings);
  } else {
    spdlog::error("{}: read again, and refused; nothing changes", file);
    std::istringstream report(loaded.report());  // a log line for each: the journal reads a level in each
    for (std::string line; std::getline(report, line);) spdlog::error("{}", line);
  }
  notify_systemd("READY=1");
}

int run(const std::string& file) {
  set_up_log();
  auto loaded = load(file, driver_kinds());
  if (!loaded.ok()) {
    fmt::print(stderr, "{}", loaded.report());
    return kBadConfig;
  }
  if (!loaded.warnings.empty()) fmt::print(stderr, "{}", loaded.report());

  // One heap for all threads: librdkafka's and Paho's would each keep what they have freed. Costs no time that could be
  // measured, and a tenth of the RSS while a backlog is sent (tests/bench/run mqtt).
  mallopt(M_ARENA_MAX, 1);
  Signals signals;  // before any thread
  DamageSignals damage(store_settings(loaded.settings).directory);
  SystemClock clock;
  Agent agent(loaded.settings, kafka_sink({loaded.settings.agent.id, loaded.settings.kafka}), clock);
  spdlog::info("penstock {} starts as agent {}", version(), loaded.settings.agent.id);
  if (auto started = agent.start(); !started) {
    spdlog::critical("{}", started.error().what);
    return kFailed;
  }
  spdlog::info("running: {}", summary(agent.status()));
  notify_systemd("READY=1");

  auto watchdog = watchdog_interval();
  auto turn = watchdog ? std::min<std::chrono::milliseconds>(
                             1s, std::chrono::duration_cast<std::chrono::milliseconds>(*watchdog) / 4)
                       : 1s;
  std::string said;
  int status = kDone;
  while (true) {
    auto signal = signals.wait(turn);
    if (signal == Signals::Kind::stop) break;
    if (signal == Signals::Kind::reload) reread(agent, file);
    if (auto turned = agent.tick(); !turned) {
      spdlog::critical("{}; the process ends, its supervisor may start it again", turned.error().what);
      status = kFailed;
      break;
    }
    if (watchdog && agent.alive()) notify_systemd("WATCHDOG=1");
    say_state(agent, said);
  }

  notify_systemd("STOPPING=1");
  spdlog::info("stopping: {}", summary(agent.status()));
  StopLimit limit(10s, "the agent did not stop within 10 s; what is durable is safe");
  if (!agent.stop()) limit.end_now("a driver's thread does not end; everything is on disk");
  spdlog::info("stopped");
  return status;
}

}  // namespace

void add_run(CLI::App& app, int& status) {
  auto file = std::make_shared<std::string>(kDefaultConfig);  // lives as long as the callback
  app.add_option("-c,--config", *file, "the configuration file")->capture_default_str();
  app.callback([file, &status] { status = run(*file); });
}

}  // namespace penstock
