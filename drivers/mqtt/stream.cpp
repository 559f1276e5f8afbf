#include "drivers/mqtt/stream.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "buffer/descriptor.h"

namespace penstock::mqtt {
namespace {

using std::chrono::steady_clock;
constexpr std::chrono::seconds kAddressPatience{5};

struct Address {
  sockaddr_storage bytes{};
  socklen_t length = 0;
};

struct Found {
  std::vector<Address> addresses;
  std::string problem;
};

Found look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  Found found;
  if (int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list); error != 0) {
    found.problem = gai_strerror(error);
    return found;
  }
  for (const addrinfo* each = list; each != nullptr; each = each->ai_next) {
    Address& address = found.addresses.emplace_back();
    std::memcpy(&address.bytes, each->ai_addr, each->ai_addrlen);
    address.length = each->ai_addrlen;
  }
  freeaddrinfo(list);
  return found;
}

// Shared with the thread that looks up, because either may end first.
struct LookUp {
  std::mutex mutex;
  Found found;
  bool done = false;
  Descriptor event{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
};

std::string in_words(int error) { return std::generic_category().message(error); }

class TcpStream final : public Stream {
 public:
  TcpStream(std::string host, std::uint16_t port) : host_(std::move(host)), port_(port) {
    // A numeric address needs no thread, and no patience.
    Found numeric = look_up(host_, port_, AI_NUMERICHOST);
    if (!numeric.addresses.empty()) {
      addresses_ = std::move(numeric.addresses);
      return;
    }
    look_up_ = std::make_shared<LookUp>();
    std::thread([shared = look_up_, name = host_, number = port_] {
      Found found = look_up(name, number, AI_ADDRCONFIG);
      std::lock_guard lock(shared->mutex);
      shared->found = std::move(found);
      shared->done = true;
      eventfd_write(shared->event.get(), 1);
    }).detach();
  }

  int descriptor() const override { return look_up_ ? look_up_->event.get() : socket_.get(); }
  short events() const override { return look_up_ ? POLLIN : connected_ ? POLLIN : POLLOUT; }

  Result<bool> connect() override {
    if (connected_) return true;
    if (look_up_) {
      std::unique_lock lock(look_up_->mutex);
      if (!look_up_->done) return false;
      addresses_ = std::move(look_up_->found.addresses);
      problem_ = fmt::format("cannot resolve {}: {}", host_, look_up_->found.problem);
      lock.unlock();
      look_up_.reset();
    }
    if (socket_) {
      int error = 0;
      socklen_t length = sizeof error;
      getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
      pollfd now{socket_.get(), POLLOUT, 0};
      if (error == 0 && poll(&now, 1, 0) == 0) {
        if (steady_clock::now() < give_up_at_) return false;
        error = ETIMEDOUT;
      }
      if (error == 0) return established();
      failed(error);
    }
    while (next_ < addresses_.size()) {
      const Address& address = addresses_[next_++];
      socket_ = Descriptor(socket(address.bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      give_up_at_ = steady_clock::now() + kAddressPatience;
      if (!socket_) {
        failed(errno);
        continue;
      }
      if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address.bytes), address.length) == 0) {
        return established();
      }
      if (errno == EINPROGRESS) return false;
      failed(errno);
    }
    return transient(problem_);
  }

  Result<std::size_t> read(char* to, std::size_t size) override {
    ssize_t got = recv(socket_.get(), to, size, 0);
    if (got > 0) return static_cast<std::size_t>(got);
    if (got == 0) return transient("the broker closed the connection");
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return std::size_t{0};
    return transient(fmt::format("the connection to the broker broke: {}", in_words(errno)));
  }

  Result<std::size_t> write(std::string_view bytes) override {
    ssize_t sent = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<std::size_t>(sent);
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return std::size_t{0};
    return transient(fmt::format("the connection to the broker broke: {}", in_words(errno)));
  }

  void finish_writing() override { shutdown(socket_.get(), SHUT_WR); }

 private:
  bool established() {
    int on = 1;
    setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return connected_ = true;
  }

  void failed(int error) {
    problem_ = fmt::format("cannot connect to {}:{}: {}", host_, port_, in_words(error));
    socket_ = Descriptor();
  }

  const std::string host_;
  const std::uint16_t port_;
  std::shared_ptr<LookUp> look_up_;
  std::vector<Address> addresses_;
  std::size_t next_ = 0;
  Descriptor socket_;
  bool connected_ = false;
  steady_clock::time_point give_up_at_{};
  std::string problem_;
};

}  // namespace

std::unique_ptr<Stream> tcp_stream(std::string host, std::uint16_t port) {
  return std::make_unique<TcpStream>(std::move(host), port);
}

}  // namespace penstock::mqtt
