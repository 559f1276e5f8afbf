#include "agent/kafka/wire.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>

namespace penstock {
namespace {

constexpr double kMicroseconds = 1e6;
constexpr BootTime kBurst = std::chrono::seconds(1), kLongest = std::chrono::seconds(15);

Wire::Bytes carried_by(int socket) {
  tcp_info info{};  // an older kernel fills in less of it
  socklen_t size = sizeof info;
  if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return {};
  return {info.tcpi_bytes_sent, info.tcpi_bytes_received};
}

Wire::Bytes operator+(const Wire::Bytes& a, const Wire::Bytes& b) { return {a.sent + b.sent, a.received + b.received}; }

}  // namespace

int Wire::open(int domain, int type, int protocol) {
  const int made = socket(domain, type | SOCK_CLOEXEC, protocol);
  if (made < 0) return made;
  if (bytes_per_second_ != 0) {
    // A kernel that knows no pacing leaves it to Pace.
    unsigned long rate = std::min<std::uint64_t>(bytes_per_second_, std::numeric_limits<unsigned long>::max());
    setsockopt(made, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate);
  }
  std::lock_guard lock(mutex_);
  open_.insert(made);
  return made;
}

int Wire::close(int socket) {
  {
    std::lock_guard lock(mutex_);
    if (open_.erase(socket) != 0) closed_ = closed_ + carried_by(socket);
  }
  return ::close(socket);
}

Wire::Bytes Wire::carried() const {
  std::lock_guard lock(mutex_);
  Bytes all = closed_;
  for (int socket : open_) all = all + carried_by(socket);
  return all;
}

BootTime Pace::wait(std::uint64_t sent, BootTime now) {
  if (bytes_per_second_ == 0) return {};
  const double took = kMicroseconds * static_cast<double>(sent - sent_) / bytes_per_second_;
  sent_ = sent;
  paid_until_ = std::max(paid_until_ + BootTime(static_cast<std::int64_t>(took)), now);
  return std::clamp(paid_until_ - now - kBurst, BootTime::zero(), kLongest);
}

}  // namespace penstock
