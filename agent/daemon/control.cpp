#include "agent/daemon/control.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <list>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "buffer/descriptor.h"

namespace penstock {
namespace {

using Steady = std::chrono::steady_clock;
constexpr std::size_t kConnections = 16;
constexpr std::size_t kLineBytes = 64 << 10;
constexpr std::size_t kAnswerBytes = 256 << 20;
constexpr std::chrono::milliseconds kSoon{1}, kLater{50};  // between two calls of what answers later
constexpr std::chrono::seconds kPatience{10};

std::string reason() { return std::generic_category().message(errno); }

Result<sockaddr_un> unix_address(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string text = path.string();
  if (text.size() >= sizeof address.sun_path) {
    return rejected(fmt::format("control socket: the path {} has {} bytes, a socket's has at most {}", text,
                                text.size(), sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, text.c_str(), text.size() + 1);
  return address;
}

struct Peer {
  explicit Peer(int number) : socket(number) {}
  Descriptor socket;
  std::string in, out;
  std::size_t searched = 0;                  // of `in`: no line ends there
  std::size_t sent = 0;                      // of `out`
  ControlAnswer::Later later;                // will give `out`
  Steady::time_point since = Steady::now();  // it last did something, or was last asked something

  bool idle() const { return in.empty() && out.empty(); }
};

}  // namespace

struct ControlServer::Inside {
  Inside(std::filesystem::path at, Handler with, Descriptor listening, std::size_t large_line)
      : path(std::move(at)),
        handler(std::move(with)),
        large_line_bytes(large_line),
        listener(std::move(listening)),
        stopping(eventfd(0, EFD_CLOEXEC)),
        thread([this](std::stop_token stop) { serve(stop); }) {}
  ~Inside() {
    thread.request_stop();
    std::uint64_t one = 1;
    [[maybe_unused]] auto written = write(stopping.get(), &one, sizeof one);
    thread.join();
    unlink(path.c_str());
  }

  void serve(std::stop_token stop) {
    std::list<Peer> peers;
    while (!stop.stop_requested()) {
      std::vector<pollfd> waits{{stopping.get(), POLLIN, 0}};
      waits.push_back({peers.size() < kConnections ? listener.get() : -1, POLLIN, 0});
      for (auto& peer : peers) waits.push_back({wanted(peer) == 0 ? -1 : peer.socket.get(), wanted(peer), 0});
      poll(waits.data(), waits.size(), pause(peers));
      std::size_t i = 2;
      for (auto peer = peers.begin(); peer != peers.end(); ++i) {
        bool stays = peer->later ? answer_later(*peer) : waits[i].revents == 0 ? fresh(*peer) : talk(*peer);
        if (large == &*peer && (!stays || peer->in.size() <= kLineBytes)) large = nullptr;
        peer = stays ? std::next(peer) : peers.erase(peer);
      }
      if (waits[1].revents != 0) {
        int number = accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (number >= 0) peers.emplace_back(number);
      }
    }
  }

  /// What to wait for with poll(2); nothing for one whose answer is on its way, or that waits for its turn.
  short wanted(const Peer& peer) const {
    if (peer.later) return 0;
    if (!peer.out.empty()) return POLLOUT;
    return peer.in.size() > kLineBytes && large != nullptr && large != &peer ? short{0} : short{POLLIN};
  }

  /// Until something has to be looked at whoever speaks.
  static int pause(const std::list<Peer>& peers) {
    if (peers.empty()) return -1;
    std::chrono::milliseconds shortest{1000};
    for (const auto& peer : peers) {
      if (!peer.later) continue;
      auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(Steady::now() - peer.since);
      shortest = std::min(shortest, std::clamp(waited / 10, kSoon, kLater));
    }
    return static_cast<int>(shortest.count());
  }

  /// Idle between two questions is allowed; in the middle of one, or of an answer, only for a while.
  static bool fresh(const Peer& peer) { return peer.idle() || Steady::now() - peer.since < kPatience; }

  bool answer_later(Peer& peer) {
    auto answer = peer.later();
    if (!answer) return true;
    peer.later = {};
    peer.out = std::move(*answer) + "\n";
    return talk(peer);
  }

  bool talk(Peer& peer) {
    peer.since = Steady::now();
    if (peer.out.empty()) {
      char buffer[32 << 10];
      auto got = recv(peer.socket.get(), buffer, sizeof buffer, 0);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return false;
      if (got > 0) peer.in.append(buffer, static_cast<std::size_t>(got));
    }
    while (true) {
      if (peer.out.empty()) {
        auto end = peer.in.find('\n', peer.searched);
        peer.searched = peer.in.size();
        if (end == std::string::npos) return may_go_on(peer);
        auto answer = handler(peer.in.substr(0, end));
        peer.in.erase(0, end + 1);
        peer.in.shrink_to_fit();
        peer.searched = 0;
        peer.later = std::move(answer.later);
        if (peer.later) return true;
        peer.out = std::move(answer.text) + "\n";
      }
      auto sent = send(peer.socket.get(), peer.out.data() + peer.sent, peer.out.size() - peer.sent, MSG_NOSIGNAL);
      if (sent < 0) return errno == EAGAIN || errno == EINTR;
      peer.sent += static_cast<std::size_t>(sent);
      if (peer.sent < peer.out.size()) return true;
      peer.out = {};
      peer.sent = 0;
    }
  }

  /// A line without its end so far.
  bool may_go_on(const Peer& peer) {
    if (peer.in.size() <= kLineBytes) return true;
    if (peer.in.size() > large_line_bytes) return false;
    if (large == nullptr) large = &peer;
    return true;
  }

  const std::filesystem::path path;
  const Handler handler;
  const std::size_t large_line_bytes;
  const Peer* large = nullptr;  // whose turn it is with a large line; the thread's own
  Descriptor listener, stopping;
  std::jthread thread;  // last: begins when all else is there
};

ControlServer::ControlServer(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}
ControlServer::~ControlServer() = default;

Result<std::unique_ptr<ControlServer>> ControlServer::open(const std::filesystem::path& path, Handler handler,
                                                           std::size_t large_line_bytes) {
  auto address = unix_address(path);
  if (!address) return address.error();
  int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listening < 0) return transient(fmt::format("control socket: {}", reason()));
  Descriptor listener(listening);
  unlink(path.c_str());
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&*address), sizeof *address) != 0 ||
      chmod(path.c_str(), 0660) != 0 || listen(listener.get(), 16) != 0) {
    return transient(fmt::format("control socket {}: {}", path.string(), reason()));
  }
  return std::unique_ptr<ControlServer>(
      new ControlServer(std::make_unique<Inside>(path, std::move(handler), std::move(listener), large_line_bytes)));
}

Result<std::string> ask_control(const std::filesystem::path& path, const std::string& line,
                                std::chrono::milliseconds timeout) {
  auto address = unix_address(path);
  if (!address) return address.error();
  Descriptor peer(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (peer.get() < 0) return transient(fmt::format("control socket: {}", reason()));
  if (connect(peer.get(), reinterpret_cast<sockaddr*>(&*address), sizeof *address) != 0) {
    return transient(fmt::format("no agent answers at {}: {}", path.string(), reason()));
  }
  auto deadline = Steady::now() + timeout;
  auto ready = [&](short events) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Steady::now()).count();
    pollfd wait{peer.get(), events, 0};
    return left > 0 && poll(&wait, 1, static_cast<int>(left)) > 0;
  };
  std::string out = line + "\n", in;
  std::size_t out_at = 0;
  auto late = [&] { return transient(fmt::format("{}: no answer in {} ms", path.string(), timeout.count())); };
  while (out_at < out.size()) {
    if (!ready(POLLOUT)) return late();
    auto sent = send(peer.get(), out.data() + out_at, out.size() - out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return transient(fmt::format("{}: {}", path.string(), reason()));
    if (sent > 0) out_at += static_cast<std::size_t>(sent);
  }
  while (in.empty() || in.back() != '\n') {
    if (!ready(POLLIN)) return late();
    char buffer[32 << 10];
    auto got = recv(peer.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) return transient(fmt::format("{}: the connection was closed before the answer", path.string()));
    in.append(buffer, static_cast<std::size_t>(got));
    if (in.size() > kAnswerBytes) return transient(fmt::format("{}: the answer is too long", path.string()));
  }
  in.pop_back();
  return in;
}

std::filesystem::path control_path(const std::filesystem::path& state_directory) {
  const char* runtime = std::getenv("RUNTIME_DIRECTORY");
  if (runtime == nullptr || *runtime == '\0') return state_directory / "control.sock";
  std::string first(runtime);
  return std::filesystem::path(first.substr(0, first.find(':'))) / "control.sock";
}

std::filesystem::path find_control(const std::filesystem::path& state_directory) {
  std::error_code ignored;
  auto ours = state_directory / "control.sock";
  std::filesystem::path systemd = "/run/penstock/control.sock";
  return !std::filesystem::exists(ours, ignored) && std::filesystem::exists(systemd, ignored) ? systemd : ours;
}

}  // namespace penstock
