// Wire: the TCP connections to Kafka of one sink, all of its clients together: what they have carried, and how fast they may
// send. Pace: the same over time, so that several connections that are each within the limit do not go beyond it for long.
//
// librdkafka asks for its sockets and gives them back in threads of its own. Any thread. A client that was left behind in
// a call may do so when the sink is gone, so clients share the Wire with it. A crash loses the counts.
//
// What counts is TCP's payload, both ways, repeats and TLS included, as the kernel counts it (tcp(7): TCP_INFO, since Linux 4.19).
// The headers of TCP and IP are not in it: 40 to 60 bytes of each packet.
#pragma once

#include <cstdint>
#include <mutex>
#include <set>

#include "buffer/clock.h"

namespace penstock {

class Wire {
 public:
  /// The limit holds for each connection by itself (socket(7): SO_MAX_PACING_RATE). 0: none.
  explicit Wire(std::uint64_t bytes_per_second) : bytes_per_second_(bytes_per_second) {}
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  /// As socket(2): -1 and errno when there is none.
  int open(int domain, int type, int protocol);
  /// As close(2), of a socket that open() gave.
  int close(int socket);

  struct Bytes {
    std::uint64_t sent = 0, received = 0;
    bool operator==(const Bytes&) const = default;
  };
  /// By all connections so far, those that are closed too.
  Bytes carried() const;

 private:
  const std::uint64_t bytes_per_second_;
  mutable std::mutex mutex_;  // also held while the kernel is asked, which does not wait: no socket is closed meanwhile
  std::set<int> open_;
  Bytes closed_;
};

/// One thread.
class Pace {
 public:
  /// 0: no limit.
  explicit Pace(std::uint64_t bytes_per_second) : bytes_per_second_(static_cast<double>(bytes_per_second)) {}

  /// To be asked before anything is sent, with the bytes sent in all so far: how long to wait, so that on average it is no
  /// more than the limit. A second's worth may go at once. At most fifteen seconds, then ask again.
  BootTime wait(std::uint64_t sent, BootTime now);

 private:
  const double bytes_per_second_;
  std::uint64_t sent_ = 0;
  BootTime paid_until_{};  // when all that was sent would have passed at the limit
};

}  // namespace penstock
