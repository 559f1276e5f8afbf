#include "agent/commands/access.h"

#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "agent/daemon/control.h"
#include "config/config.h"
#include "drivers/table.h"

namespace penstock {

void add_place(CLI::App& app, QueuePlace& place) {
  app.add_option("-c,--config", place.config, "the agent's configuration: says where its queue is")
      ->capture_default_str();
  app.add_option("--socket", place.socket, "the running agent's control socket; found by the configuration otherwise");
}

std::unique_ptr<QueueAccess> open_queue(const QueuePlace& place, bool make, const char* command, int& status) {
  auto complain = [&](const std::string& what) { fmt::print(stderr, "penstock {}: {}\n", command, what); };
  status = kFailed;
  if (!place.socket.empty()) {
    auto access = QueueAccess::through(place.socket);
    if (access) return std::move(*access);
    complain(access.error().what);
    return nullptr;
  }
  auto loaded = load(place.config, driver_kinds());
  auto running = QueueAccess::through(find_control(loaded.settings.agent.state_directory));
  if (running) return std::move(*running);
  if (!loaded.ok()) {
    fmt::print(stderr, "{}", loaded.report());
    complain("no agent answers, and without its configuration its queue cannot be opened");
    status = kBadConfig;
    return nullptr;
  }
  auto access = QueueAccess::into(loaded.settings, make);
  if (access) return std::move(*access);
  complain(fmt::format("{}; and {}", access.error().what, running.error().what));
  if (access.error().fault == Fault::broken) status = kProofFailed;
  return nullptr;
}

int repair_queue(const QueuePlace& place) {
  auto complain = [&](const std::string& what) { fmt::print(stderr, "penstock queue: {}\n", what); };
  auto loaded = load(place.config, driver_kinds());
  if (!loaded.ok()) {
    fmt::print(stderr, "{}", loaded.report());
    return kBadConfig;
  }
  auto socket = find_control(loaded.settings.agent.state_directory);
  if (QueueAccess::through(socket)) {
    complain(fmt::format("the agent at {} runs: stop it first", socket.string()));
    return kFailed;
  }
  auto mended = QueueAccess::repair(loaded.settings);
  if (!mended) {
    complain(mended.error().what);
    return kFailed;
  }
  fmt::print("{}\n", describe(*mended));
  return mended->outcome == Mended::Outcome::begun_anew ? kFailed : kDone;
}

ProgressLine::ProgressLine(bool demanded) : wanted_(demanded), terminal_(isatty(STDERR_FILENO) != 0) {
  wanted_ = wanted_ || terminal_;
}

ProgressLine::~ProgressLine() { wipe(); }

bool ProgressLine::due() const {
  return wanted_ && std::chrono::steady_clock::now() - last_ >= std::chrono::seconds(1);
}

void ProgressLine::show(const std::string& text) {
  if (!wanted_) return;
  last_ = std::chrono::steady_clock::now();
  wipe();
  std::fputs((terminal_ ? text : text + "\n").c_str(), stderr);
  std::fflush(stderr);
  shown_ = terminal_;
}

void ProgressLine::say(const std::string& text) {
  wipe();
  std::fputs((text + "\n").c_str(), stderr);
}

void ProgressLine::wipe() {
  if (shown_) std::fputs("\r\x1b[K", stderr);
  shown_ = false;
}

bool interrupted(Signals& signals) { return signals.wait(std::chrono::milliseconds(0)) == Signals::Kind::stop; }

}  // namespace penstock
