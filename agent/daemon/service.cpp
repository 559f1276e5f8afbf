#include "agent/daemon/service.h"

#include <pthread.h>
#include <signal.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

namespace penstock {
namespace {

sigset_t our_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  return set;
}

/// stderr is the journal when its device and inode are those that systemd says. systemd.exec(5), $JOURNAL_STREAM
bool stderr_is_journal() {
  const char* said = std::getenv("JOURNAL_STREAM");
  struct stat is {};
  if (said == nullptr || fstat(STDERR_FILENO, &is) != 0) return false;
  return std::to_string(is.st_dev) + ":" + std::to_string(is.st_ino) == said;
}

/// %*: the level as the journal reads it, <6>
class JournalLevel final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    char level = '6';
    if (message.level <= spdlog::level::debug) level = '7';
    if (message.level == spdlog::level::warn) level = '4';
    if (message.level == spdlog::level::err) level = '3';
    if (message.level == spdlog::level::critical) level = '2';
    out.push_back('<');
    out.push_back(level);
    out.push_back('>');
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<JournalLevel>(); }
};

}  // namespace

Signals::Signals() {
  sigset_t set = our_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

Signals::~Signals() {
  sigset_t set = our_signals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

std::optional<Signals::Kind> Signals::wait(std::chrono::milliseconds most) {
  sigset_t set = our_signals();
  timespec limit{};
  limit.tv_sec = static_cast<time_t>(most.count() / 1000);
  limit.tv_nsec = static_cast<long>(most.count() % 1000 * 1'000'000);
  int came = sigtimedwait(&set, nullptr, &limit);
  if (came < 0) return std::nullopt;
  return came == SIGHUP ? Kind::reload : Kind::stop;
}

void notify_systemd(const std::string& text) { sd_notify(0, text.c_str()); }

std::optional<std::chrono::microseconds> watchdog_interval() {
  std::uint64_t microseconds = 0;
  if (sd_watchdog_enabled(0, &microseconds) <= 0) return std::nullopt;
  return std::chrono::microseconds(microseconds);
}

void set_up_log() {
  auto log = std::make_shared<spdlog::logger>("penstock", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  if (stderr_is_journal()) {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<JournalLevel>('*').set_pattern("%*%v");
    log->set_formatter(std::move(formatter));
  } else {
    log->set_pattern("%Y-%m-%d %H:%M:%S.%e %-7l %v");
  }
  log->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(log));
}

}  // namespace penstock
