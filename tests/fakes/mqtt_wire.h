// MQTT at the level of bytes, for tests: what a scripted broker and a plain publisher write, put together by hand,
// apart from the program's own code.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace penstock::wire {

inline std::string u16(std::size_t value) {
  return {static_cast<char>(value >> 8 & 255), static_cast<char>(value & 255)};
}
inline std::string text(std::string_view value) { return u16(value.size()) + std::string(value); }
inline std::string variable(std::size_t value) {
  std::string bytes;
  do {
    bytes += static_cast<char>((value & 127) | (value > 127 ? 128 : 0));
    value >>= 7;
  } while (value > 0);
  return bytes;
}
inline std::string packet(unsigned first, std::string_view body) {
  return std::string(1, static_cast<char>(first)) + variable(body.size()) + std::string(body);
}

/// `properties` are those of MQTT 5, without their length; nothing: 3.1.1.
inline std::string publish(std::string_view topic, std::string_view payload, int qos, std::size_t id,
                           std::optional<std::string> properties = std::string(), bool retained = false,
                           bool duplicate = false) {
  std::string body = text(topic);
  if (qos > 0) body += u16(id);
  if (properties) body += variable(properties->size()) + *properties;
  body += payload;
  return packet(0x30u | static_cast<unsigned>(qos) << 1 | (retained ? 1u : 0u) | (duplicate ? 8u : 0u), body);
}
inline std::string connack(int reason = 0, bool present = false,
                           std::optional<std::string> properties = std::string()) {
  std::string body{static_cast<char>(present), static_cast<char>(reason)};
  if (properties) body += variable(properties->size()) + *properties;
  return packet(0x20, body);
}
inline std::string acknowledgement(unsigned first, std::size_t id) { return packet(first, u16(id)); }
inline std::string puback(std::size_t id) { return acknowledgement(0x40, id); }

struct Packet {
  unsigned first = 0;
  std::string body;
  unsigned type() const { return first >> 4; }
  std::size_t id() const {
    return body.size() < 2 ? 0 : static_cast<unsigned char>(body[0]) * 256u + static_cast<unsigned char>(body[1]);
  }
};

/// A blocking TCP connection with a limit to every wait; throws std::runtime_error when it passes, or at the end.
class Connection {
 public:
  static constexpr int kPatience = 20'000;  // ms

  explicit Connection(int descriptor) : descriptor_(descriptor) {}
  static Connection to(std::uint16_t port) {
    int made = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    name.sin_port = htons(port);
    if (connect(made, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) {
      close(made);
      throw std::runtime_error("cannot connect to 127.0.0.1:" + std::to_string(port));
    }
    int on = 1;
    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return Connection(made);
  }
  Connection(Connection&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)), read_(std::move(other.read_)) {}
  Connection& operator=(Connection&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    std::swap(read_, other.read_);
    return *this;
  }
  ~Connection() {
    if (descriptor_ >= 0) close(descriptor_);
  }

  int descriptor() const { return descriptor_; }

  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      wait(POLLOUT, kPatience);
      ssize_t sent = send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno != EAGAIN) throw std::runtime_error("the connection broke while writing");
      if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  /// As much as goes without waiting; gives what is left.
  std::string_view write_some(std::string_view bytes) {
    ssize_t sent = send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) throw std::runtime_error("the connection broke while writing");
    if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
    return bytes;
  }

  Packet read(int patience = kPatience) {
    auto packet = try_read(patience);
    if (!packet) throw std::runtime_error("no packet in time");
    return *packet;
  }
  /// Nothing when none comes in time.
  std::optional<Packet> try_read(int patience) {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience);
    while (true) {
      if (auto packet = cut()) return packet;
      auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
      if (!wait(POLLIN, static_cast<int>(std::max<long long>(left.count(), 0)), false)) return {};
      char bytes[65'536];
      ssize_t got = recv(descriptor_, bytes, sizeof bytes, 0);
      if (got <= 0) throw std::runtime_error("the connection ended");
      read_.append(bytes, static_cast<std::size_t>(got));
    }
  }
  /// True when the other side closes within the time; packets before that are thrown away.
  bool ends(int patience = kPatience) {
    try {
      while (try_read(patience)) continue;
      return false;
    } catch (const std::runtime_error&) {
      return true;
    }
  }
  /// Reset: the other side learns nothing in good order.
  void reset() {
    linger now{1, 0};
    setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(std::exchange(descriptor_, -1));
  }

 private:
  bool wait(short events, int patience, bool must = true) {
    pollfd polled{descriptor_, events, 0};
    if (poll(&polled, 1, patience) > 0) return true;
    if (must) throw std::runtime_error("the other side does not take what is written");
    return false;
  }
  std::optional<Packet> cut() {
    if (read_.size() - at_ < 2) return {};
    std::size_t length = 0, at = at_ + 1;
    for (int shift = 0;; shift += 7, ++at) {
      if (at >= read_.size()) return {};
      length |= static_cast<std::size_t>(read_[at] & 127) << shift;
      if ((read_[at] & 128) == 0) break;
    }
    ++at;
    if (read_.size() - at < length) return {};
    Packet packet{static_cast<unsigned char>(read_[at_]), read_.substr(at, length)};
    at_ = at + length;
    if (at_ > 65'536) {
      read_.erase(0, at_);
      at_ = 0;
    }
    return packet;
  }

  int descriptor_;
  std::string read_;
  std::size_t at_ = 0;
};

/// A plain publisher, and a simple subscriber where a test needs a second opinion.
class Client {
 public:
  Client(std::uint16_t port, const std::string& id, int version = 5, bool clean = true, const std::string& user = "",
         const std::string& password = "")
      : version_(version), connection_(Connection::to(port)) {
    unsigned flags = (clean ? 2u : 0u) | (user.empty() ? 0u : 128u) | (password.empty() ? 0u : 64u);
    std::string body = text("MQTT") + std::string{static_cast<char>(version), static_cast<char>(flags)} + u16(600);
    if (version == 5) body += '\0';
    body += text(id);
    if (!user.empty()) body += text(user);
    if (!password.empty()) body += text(password);
    connection_.write(packet(0x10, body));
    Packet answer = connection_.read();
    if (answer.type() != 2 || answer.body.size() < 2 || answer.body[1] != 0) throw std::runtime_error("not connected");
  }

  std::string message(std::string_view topic, std::string_view payload, int qos, bool retained = false,
                      const std::string& properties = "") {
    if (qos > 0) id_ = id_ % 65'535 + 1;
    return wire::publish(topic, payload, qos, id_, version_ == 5 ? std::optional(properties) : std::nullopt, retained);
  }
  void publish(std::string_view topic, std::string_view payload, int qos = 1, bool retained = false,
               const std::string& properties = "") {
    connection_.write(message(topic, payload, qos, retained, properties));
    if (qos > 0) await_acknowledgements(1);
  }
  /// Sends the messages made by `make(i)`, at QoS 1 with at most `window` under way.
  template <class Make>
  void publish_many(std::size_t count, Make make, int qos = 1, std::size_t window = 500) {
    std::size_t open = 0;
    std::string out;
    for (std::size_t i = 0; i < count; ++i) {
      auto [topic, payload] = make(i);
      out += message(topic, payload, qos);
      ++open;
      if (out.size() > 32'768 || open >= window) {
        connection_.write(out);
        out.clear();
        if (qos > 0) await_acknowledgements(open);
        open = 0;
      }
    }
    connection_.write(out);
    if (qos > 0) await_acknowledgements(open);
  }
  Connection& connection() { return connection_; }

 private:
  void await_acknowledgements(std::size_t count) {
    while (count > 0) {
      if (connection_.read().type() == 4) --count;
    }
  }
  const int version_;
  Connection connection_;
  std::size_t id_ = 0;
};

}  // namespace penstock::wire
