#include "agent/daemon/stop_limit.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <utility>

namespace penstock {

StopLimit::StopLimit(std::chrono::milliseconds limit, std::string why)
    : thread_([this, limit, text = std::move(why)](std::stop_token stop) {
        std::unique_lock lock(mutex_);
        over_.wait_for(lock, stop, limit, [] { return false; });
        if (!stop.stop_requested()) end_now(text);
      }) {}

void StopLimit::end_now(const std::string& why) {
  spdlog::critical("{}", why);
  _exit(1);
}

}  // namespace penstock
