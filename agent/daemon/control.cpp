#include "agent/daemon/control.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

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
constexpr std::size_t kAnswerBytes = 16 << 20;
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
  Steady::time_point since = Steady::now();  // it last did something
};

}  // namespace

struct ControlServer::Inside {
  Inside(std::filesystem::path at, Handler with, Descriptor listening)
      : path(std::move(at)),
        handler(std::move(with)),
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
      for (auto& peer : peers) {
        waits.push_back({peer.socket.get(), static_cast<short>(peer.out.empty() ? POLLIN : POLLOUT), 0});
      }
      poll(waits.data(), waits.size(), peers.empty() ? -1 : 1000);
      std::size_t i = 2;
      for (auto peer = peers.begin(); peer != peers.end(); ++i) {
        bool stays = waits[i].revents == 0 ? fresh(*peer) : talk(*peer);
        peer = stays ? std::next(peer) : peers.erase(peer);
      }
      if (waits[1].revents != 0) {
        int number = accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (number >= 0) peers.emplace_back(number);
      }
    }
  }

  /// Idle between two questions is allowed; in the middle of one, or of an answer, only for a while.
  static bool fresh(const Peer& peer) {
    return (peer.in.empty() && peer.out.empty()) || Steady::now() - peer.since < kPatience;
  }

  bool talk(Peer& peer) {
    peer.since = Steady::now();
    if (peer.out.empty()) {
      char buffer[4096];
      auto got = recv(peer.socket.get(), buffer, sizeof buffer, 0);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return false;
      if (got > 0) peer.in.append(buffer, static_cast<std::size_t>(got));
    }
    while (true) {
      if (peer.out.empty()) {
        auto end = peer.in.find('\n');
        if (end == std::string::npos) return peer.in.size() <= kLineBytes;
        peer.out = handler(peer.in.substr(0, end)) + "\n";
        peer.in.erase(0, end + 1);
      }
      auto sent = send(peer.socket.get(), peer.out.data(), peer.out.size(), MSG_NOSIGNAL);
      if (sent < 0) return errno == EAGAIN || errno == EINTR;
      peer.out.erase(0, static_cast<std::size_t>(sent));
      if (!peer.out.empty()) return true;
    }
  }

  const std::filesystem::path path;
  const Handler handler;
  Descriptor listener, stopping;
  std::jthread thread;  // last: begins when all else is there
};

ControlServer::ControlServer(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}
ControlServer::~ControlServer() = default;

Result<std::unique_ptr<ControlServer>> ControlServer::open(const std::filesystem::path& path, Handler handler) {
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
      new ControlServer(std::make_unique<Inside>(path, std::move(handler), std::move(listener))));
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
  auto late = [&] { return transient(fmt::format("{}: no answer in {} ms", path.string(), timeout.count())); };
  while (!out.empty()) {
    if (!ready(POLLOUT)) return late();
    auto sent = send(peer.get(), out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return transient(fmt::format("{}: {}", path.string(), reason()));
    if (sent > 0) out.erase(0, static_cast<std::size_t>(sent));
  }
  while (in.empty() || in.back() != '\n') {
    if (!ready(POLLIN)) return late();
    char buffer[4096];
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
