// Real sockets on loopback.
#include "agent/kafka/wire.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/catch.h"

namespace penstock {
namespace {
namespace wire_test {

using namespace std::chrono_literals;

/// Catch's own checks are for one thread only.
void insist(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

/// A server on loopback that a Wire's socket is connected to. May be used in any thread: throws what fails.
class Link {
 public:
  Link(Wire& wire, int domain) : wire_(wire) {
    sockaddr_storage name{};
    socklen_t size = 0;
    if (domain == AF_INET) {
      auto& v4 = reinterpret_cast<sockaddr_in&>(name);
      v4.sin_family = AF_INET;
      v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      size = sizeof v4;
    } else {
      auto& v6 = reinterpret_cast<sockaddr_in6&>(name);
      v6.sin6_family = AF_INET6;
      v6.sin6_addr = in6addr_loopback;
      size = sizeof v6;
    }
    int listener = ::socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, reinterpret_cast<sockaddr*>(&name), size) != 0) {
      ::close(listener);
      return;  // no IPv6 here
    }
    insist(listen(listener, 1) == 0, "listen");
    insist(getsockname(listener, reinterpret_cast<sockaddr*>(&name), &size) == 0, "getsockname");
    ours_ = wire.open(domain, SOCK_STREAM, IPPROTO_TCP);
    insist(ours_ >= 0, "socket");
    insist(connect(ours_, reinterpret_cast<sockaddr*>(&name), size) == 0, "connect");
    theirs_ = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    insist(theirs_ >= 0, "accept4");
    ::close(listener);
  }
  ~Link() {
    if (ours_ >= 0) wire_.close(ours_);
    if (theirs_ >= 0) ::close(theirs_);
  }
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  bool there() const { return theirs_ >= 0; }
  /// Until the other end has all of it.
  void send(std::size_t bytes) { carry(ours_, theirs_, bytes); }
  void receive(std::size_t bytes) { carry(theirs_, ours_, bytes); }
  void close() { insist(wire_.close(std::exchange(ours_, -1)) == 0, "close"); }

 private:
  static void carry(int from, int to, std::size_t bytes) {
    const std::string data(bytes, 'x');
    std::string read(bytes, ' ');
    insist(::send(from, data.data(), bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes), "send");
    insist(recv(to, read.data(), bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes), "recv");
  }

  Wire& wire_;
  int ours_ = -1, theirs_ = -1;
};

using Bytes = Wire::Bytes;

TEST_CASE("a wire counts what its sockets have sent and received, those that are closed too", "[wire]") {
  for (int domain : {AF_INET, AF_INET6}) {
    Wire wire(0);
    CHECK(wire.carried() == Bytes{});
    Link first(wire, domain);
    if (!first.there()) continue;
    Link second(wire, domain);
    first.send(1'000);
    first.receive(50);
    CHECK(wire.carried() == Bytes{1'000, 50});
    second.send(7);
    CHECK(wire.carried() == Bytes{1'007, 50});
    first.close();
    CHECK(wire.carried() == Bytes{1'007, 50});
    Link third(wire, domain);  // with the number of the one that is closed
    third.receive(3);
    CHECK(wire.carried() == Bytes{1'007, 53});
  }
}

TEST_CASE("a wire's sockets are not inherited, and one that cannot be made is an error of socket(2)", "[wire]") {
  Wire wire(1 << 20);
  int made = wire.open(AF_INET, SOCK_STREAM, IPPROTO_TCP);
  REQUIRE(made >= 0);
  CHECK((fcntl(made, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(wire.close(made) == 0);
  errno = 0;
  CHECK(wire.open(-1, SOCK_STREAM, IPPROTO_TCP) == -1);
  CHECK(errno == EAFNOSUPPORT);
  CHECK(wire.close(-1) == -1);
  CHECK(wire.carried() == Bytes{});
}

TEST_CASE("each socket of a wire with a limit is paced by the kernel, and none without", "[wire]") {
  for (std::uint64_t limit : {std::uint64_t{0}, std::uint64_t{64} << 10, std::uint64_t{1} << 20}) {
    Wire wire(limit);
    int made = wire.open(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    REQUIRE(made >= 0);
    unsigned long rate = 0;
    socklen_t size = sizeof rate;
    REQUIRE(getsockopt(made, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, &size) == 0);
    INFO("limit " << limit << ", the kernel's rate " << rate);
    CHECK(rate == (limit == 0 ? ~0ul : limit));
    wire.close(made);
  }
}

TEST_CASE("a wire is counted while other threads open, use and close its sockets, and no byte is lost", "[wire]") {
  Wire wire(0);
  constexpr int kThreads = 4, kLinks = 50;
  std::vector<std::thread> threads;
  std::atomic<bool> done{false};
  std::atomic<int> backwards{0};
  std::vector<std::string> failures(kThreads);
  std::thread counter([&] {
    for (Bytes before; !done;) {
      auto now = wire.carried();
      if (now.sent < before.sent || now.received < before.received) ++backwards;
      before = now;
    }
  });
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      try {
        for (int n = 0; n < kLinks; ++n) {
          Link link(wire, AF_INET);
          link.send(100);
          link.receive(10);
        }
      } catch (const std::exception& failed) {
        failures[static_cast<std::size_t>(i)] = failed.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  done = true;
  counter.join();
  CHECK(backwards == 0);
  CHECK(failures == std::vector<std::string>(kThreads));
  CHECK(wire.carried() == Bytes{kThreads * kLinks * 100, kThreads * kLinks * 10});
}

TEST_CASE("a pace lets a second's worth go at once, and asks to wait for what is beyond", "[wire]") {
  Pace pace(1'000);
  CHECK(pace.wait(0, 100s) == 0s);
  CHECK(pace.wait(1'000, 100s) == 0s);
  CHECK(pace.wait(1'500, 100s) == 500ms);
  CHECK(pace.wait(1'500, 100s + 200ms) == 300ms);
  CHECK(pace.wait(1'500, 101s) == 0s);
}

TEST_CASE("what was sent at the limit costs no wait, and what was sent above it all that is too much", "[wire]") {
  Pace pace(1'000);
  CHECK(pace.wait(0, 100s) == 0s);
  CHECK(pace.wait(10'000, 110s) == 0s);       // in 10 s
  CHECK(pace.wait(20'000, 113s) == 7s - 1s);  // in 3 s
}

TEST_CASE("a pace saves nothing up while nothing is sent, for more than a second's worth", "[wire]") {
  Pace pace(1'000);
  CHECK(pace.wait(0, 100s) == 0s);
  CHECK(pace.wait(0, 100h) == 0s);
  CHECK(pace.wait(10'000, 100h) == 9s);
}

TEST_CASE("a wait is no longer than fifteen seconds at once, and the rest is asked for again", "[wire]") {
  Pace pace(1'000);
  CHECK(pace.wait(0, 100s) == 0s);
  CHECK(pace.wait(101'000, 100s) == 15s);
  CHECK(pace.wait(111'000, 150s) == 15s);
  CHECK(pace.wait(111'000, 200s) == 10s);
  Pace free(0);
  CHECK(free.wait(1'000'000'000, 1s) == 0s);
}

}  // namespace wire_test
}  // namespace
}  // namespace penstock
