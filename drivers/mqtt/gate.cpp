#include "drivers/mqtt/gate.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "drivers/mqtt/own_peer.h"

namespace penstock::mqtt {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

Error system_error(const char* what) {
  return transient(fmt::format("{}: {}", what, std::generic_category().message(errno)));
}

Result<Descriptor> listen_on_loopback(std::uint16_t& port) {
  Descriptor listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return system_error("cannot make a socket");
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof name;
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&name), length) != 0 || listen(listener.get(), 4) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &length) != 0) {
    return system_error("cannot listen on 127.0.0.1");
  }
  port = ntohs(name.sin_port);
  return listener;
}

timespec time_until(steady_clock::time_point due, steady_clock::time_point now) {
  auto left = std::clamp(due - now, steady_clock::duration(0), steady_clock::duration(std::chrono::seconds(1)));
  auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
  return {static_cast<time_t>(nanoseconds / 1'000'000'000), static_cast<long>(nanoseconds % 1'000'000'000)};
}

}  // namespace

// What the thread of the Gate works on; `mutex_` guards only what other threads ask for.
class Gate::Relay {
 public:
  Relay(LinkSettings link, InflowSettings inflow, Dial dial, Outlet& outlet, Descriptor listener, Descriptor wake,
        std::uint16_t port)
      : port_(port),
        settings_(std::move(link)),
        dial_(std::move(dial)),
        outlet_(outlet),
        inflow_(std::move(inflow), outlet),
        listener_(std::move(listener)),
        wake_(std::move(wake)) {
    outlet_.on_durable([this] { eventfd_write(wake_.get(), 1); });
    thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
  }

  ~Relay() {
    thread_.request_stop();
    eventfd_write(wake_.get(), 1);
    thread_.join();
    outlet_.on_durable({});
    tell_left_behind();
  }

  std::uint16_t port() const { return port_; }

  std::string why_ended() const {
    std::lock_guard lock(mutex_);
    return why_ended_;
  }

  std::optional<Error> outlet_failure() const {
    std::lock_guard lock(mutex_);
    return outlet_failure_;
  }

  bool settle(milliseconds patience) {
    settling_ = true;
    eventfd_write(wake_.get(), 1);
    std::unique_lock lock(mutex_);
    return settled_changed_.wait_for(lock, patience, [&] { return settled_; });
  }

 private:
  void run(const std::stop_token& stop) {
    // A connection that is closing may still say its last words; they are few, and close_by is near.
    while (!stop.stop_requested() || (link_ && link_->closing())) {
      auto now = steady_clock::now();
      pollfd polled[4] = {{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}, {-1, 0, 0}, {-1, 0, 0}};
      auto due = now + std::chrono::seconds(1);
      Link::Polled linked;
      if (link_) {
        linked = link_->prepare(now);
        polled[2] = linked.client;
        polled[3] = linked.broker;
        due = std::min(due, linked.due);
      }
      timespec patience = time_until(due, now);
      if (ppoll(polled, 4, &patience, nullptr) < 0 && errno != EINTR) {
        end_link(system_error("cannot poll"));
        return;
      }
      now = steady_clock::now();
      if (polled[0].revents != 0) {
        eventfd_t ignored;
        eventfd_read(wake_.get(), &ignored);
      }
      offer_again();
      if (link_) {
        linked.client.revents = polled[2].revents;
        linked.broker.revents = polled[3].revents;
        if (settling_) link_->stop_reading();
        if (auto served = link_->serve(linked, now); !served.ok()) end_link(served.error());
      }
      if (polled[1].revents != 0) accept_client(now);
      if (settling_) tell_settled();
    }
    link_.reset();
  }

  // Room may have come; the second of poll's patience is for an Outlet that does not tell.
  void offer_again() {
    if (!inflow_.waiting() || outlet_failure()) return;
    if (auto submitted = inflow_.submit(); !submitted.ok()) {
      fail(submitted.error());
      if (link_) end_link(submitted.error());
    }
  }

  void accept_client(steady_clock::time_point now) {
    Descriptor client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client) return;
    if (auto ours = peer_is_this_process(client.get()); !ours.ok() || !*ours) {
      outlet_.count("foreign_connections");
      if (!ours.ok() || now >= next_warning_) {
        next_warning_ = now + std::chrono::minutes(1);
        spdlog::warn("mqtt \"{}\": turned away a connection to 127.0.0.1:{} that is not our own{}{}", settings_.name,
                     port_, ours.ok() ? "" : ": ", ours.ok() ? "" : ours.error().what);
      }
      return;
    }
    if (outlet_failure()) return;
    // The session gave up the one before, whether we have seen it or not.
    if (link_) end_link(transient("replaced by a new connection"));
    int on = 1;
    setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    link_ = std::make_unique<Link>(settings_, std::move(client), dial_(), inflow_, now);
  }

  // The reason is there before Paho can notice the end.
  void end_link(const Error& why) {
    {
      std::lock_guard lock(mutex_);
      why_ended_ = why.what;
    }
    if (link_ && link_->outlet_failure()) fail(*link_->outlet_failure());
    inflow_.forget_connection();
    link_.reset();
  }

  // At the end of all: what was never acknowledged to anybody, and will not come again.
  void tell_left_behind() {
    std::uint64_t left = inflow_.left_behind();
    if (left == 0) return;
    outlet_.count("left_behind", left);
    auto told = outlet_.give_up(Cause::refused, left);
    spdlog::warn("mqtt \"{}\": {} messages of QoS 0 found no room in the queue before the end{}", settings_.name, left,
                 told.ok() ? "" : ", nor did their loss in the ledger");
  }

  void fail(const Error& error) {
    std::lock_guard lock(mutex_);
    outlet_failure_ = error;
  }

  void tell_settled() {
    bool settled = inflow_.idle() && (!link_ || link_->flushed());
    std::lock_guard lock(mutex_);
    settled_ = settled;
    if (settled_) settled_changed_.notify_all();
  }

  const std::uint16_t port_;
  const LinkSettings settings_;
  const Dial dial_;
  Outlet& outlet_;
  Inflow inflow_;
  Descriptor listener_;
  Descriptor wake_;
  std::unique_ptr<Link> link_;
  steady_clock::time_point next_warning_{};

  mutable std::mutex mutex_;
  std::condition_variable settled_changed_;
  bool settled_ = false;
  std::string why_ended_;
  std::optional<Error> outlet_failure_;
  std::atomic<bool> settling_{false};
  std::jthread thread_;  // last: it ends first
};

Result<std::unique_ptr<Gate>> Gate::open(LinkSettings link, InflowSettings inflow, Dial dial, Outlet& outlet) {
  std::uint16_t port = 0;
  auto listener = listen_on_loopback(port);
  if (!listener.ok()) return listener.error();
  Descriptor wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return system_error("cannot make an eventfd");
  link.max_packet_bytes = std::max<std::size_t>(link.max_packet_bytes, outlet.max_record_bytes() + (128 << 10));
  return std::unique_ptr<Gate>(new Gate(std::make_unique<Relay>(std::move(link), std::move(inflow), std::move(dial),
                                                                outlet, std::move(*listener), std::move(wake), port)));
}

Gate::Gate(std::unique_ptr<Relay> relay) : relay_(std::move(relay)) {}
Gate::~Gate() = default;

std::uint16_t Gate::port() const { return relay_->port(); }
std::string Gate::why_ended() const { return relay_->why_ended(); }
std::optional<Error> Gate::outlet_failure() const { return relay_->outlet_failure(); }
bool Gate::settle(std::chrono::milliseconds patience) { return relay_->settle(patience); }

}  // namespace penstock::mqtt
