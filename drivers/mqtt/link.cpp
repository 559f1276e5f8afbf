#include "drivers/mqtt/link.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace penstock::mqtt {
namespace {

constexpr std::size_t kReadBytes = 64 << 10;
constexpr int kReadsInOneGroup = 4;
// After a read that brought messages the next one waits so long: a broker that writes them one by one would otherwise
// make a group of each. A message that comes alone is read at once.
constexpr std::chrono::microseconds kRest{500};
// Enough for one read and for the address of a PUBLISH, topic of 65,535 bytes included.
constexpr std::size_t kUsualBuffer = kReadBytes + (128 << 10);
// Paho's own packets, and the broker's answers to them, are small.
constexpr std::size_t kMostControlBytes = 1 << 20;

bool carries(PacketType type) { return type == PacketType::publish || type == PacketType::pubrel; }

}  // namespace

Link::Link(const LinkSettings& settings, Descriptor client, std::unique_ptr<Stream> broker, Inflow& inflow, Time now)
    : settings_(settings),
      client_(std::move(client)),
      broker_(std::move(broker)),
      inflow_(inflow),
      from_broker_(kUsualBuffer),
      keep_alive_(settings.keep_alive),
      up_by_(now + settings.connect_timeout),
      last_sent_(now),
      last_received_(now),
      reading_since_(now) {}

bool Link::reading() const {
  return connected_ && (closing_ || (!reading_stopped_ && inflow_.thirsty() && to_client_.size() < kMostControlBytes));
}

bool Link::resting(Time now) const { return up_ && !closing_ && now - last_taken_ < kRest; }

Link::Polled Link::prepare(Time now) {
  bool read = reading();
  if (read && !was_reading_) reading_since_ = now;
  was_reading_ = read;

  Polled polled;
  polled.client = {client_.get(), 0, 0};
  if (client_ && to_broker_.size() < kMostControlBytes) polled.client.events |= POLLIN;
  if (client_ && !to_client_.empty()) polled.client.events |= POLLOUT;
  polled.broker = {broker_->descriptor(), 0, 0};
  if (!connected_) {
    polled.broker.events = broker_->events();
  } else {
    if (read && !resting(now)) polled.broker.events |= POLLIN;
    if (!to_broker_.empty()) polled.broker.events |= POLLOUT;
  }

  if (closing_) {
    polled.due = close_by_;
  } else if (!up_) {
    // A try of one address may run out of time without an event.
    polled.due = std::min(up_by_, now + std::chrono::seconds(1));
  } else {
    polled.due = (pinged_ ? last_sent_ : std::min(last_sent_, last_received_)) + keep_alive_ / 2;
    if (resting(now)) polled.due = std::min(polled.due, last_taken_ + kRest);
  }
  return polled;
}

Result<void> Link::serve(const Polled& polled, Time now) {
  if (!connected_) {
    auto connected = broker_->connect();
    if (!connected.ok()) return connected.error();
    connected_ = *connected;
  }
  if ((polled.client.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
    if (auto read = read_client(); !read.ok()) {
      // Paho has closed. What it said last, and what may be acknowledged, still reaches the broker.
      client_.reset();
      if (!up_) return ended(read.error());
      begin_closing(now);
    }
  }
  if (connected_ && (polled.broker.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
    auto read = reading() ? read_broker(now) : Result<void>();
    // Reset or closed both ways: poll(2) says so also while nothing is read.
    if (!reading() && (polled.broker.revents & (POLLHUP | POLLERR)) != 0 && read.ok()) {
      read = transient("the connection to the broker broke");
    }
    if (!read.ok()) {
      flush_client();
      return ended(read.error());
    }
  }
  if (closing_) {
    if (auto sent = flush(now); !sent.ok()) return sent.error();
    if (to_broker_.empty()) broker_->finish_writing();
    if (now >= close_by_) return transient("disconnected");
    return {};
  }
  if (!up_ && now >= up_by_) {
    return transient(fmt::format("no answer from {} in {} ms", settings_.broker, settings_.connect_timeout.count()));
  }
  if (auto alive = keep_alive(now); !alive.ok()) return ended(alive.error());
  return release(now);
}

Result<void> Link::release(Time now) {
  if (!closing_ && up_) inflow_.release(to_broker_);
  if (auto sent = flush(now); !sent.ok()) return ended(sent.error());
  return {};
}

// --- Paho's side

Result<void> Link::read_client() {
  char bytes[4096];
  ssize_t got = recv(client_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return {};
  if (got <= 0) return transient("the session was closed here");
  from_client_.append(bytes, static_cast<std::size_t>(got));
  return take_from_client();
}

Result<void> Link::take_from_client() {
  std::string_view rest = from_client_;
  while (true) {
    auto header = read_fixed_header(rest);
    if (!header.ok()) return header.error();
    if (!*header) break;
    if ((*header)->size() > kMostControlBytes) return rejected("a packet of our own side over 1 MiB");
    if (rest.size() < (*header)->size()) break;
    std::string_view packet = rest.substr(0, (*header)->size());
    if ((*header)->type() == PacketType::pingreq) {
      append_pingresp(to_client_);
    } else {
      to_broker_ += packet;
    }
    rest.remove_prefix(packet.size());
  }
  from_client_.erase(0, from_client_.size() - rest.size());
  return {};
}

void Link::flush_client() {
  while (client_ && !to_client_.empty()) {
    ssize_t sent = send(client_.get(), to_client_.data(), to_client_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (sent < 0) {
      // It will be seen as closed at its next turn.
      to_client_.clear();
      return;
    }
    to_client_.erase(0, static_cast<std::size_t>(sent));
  }
}

// --- the broker's side

Result<void> Link::read_broker(Time now) {
  Result<void> result;
  for (int i = 0; i < kReadsInOneGroup && result.ok(); ++i) {
    if (from_broker_.size() - end_ < kReadBytes) {
      std::memmove(from_broker_.data(), from_broker_.data() + begin_, end_ - begin_);
      end_ -= std::exchange(begin_, 0);
      if (from_broker_.size() - end_ < kReadBytes) from_broker_.resize(end_ + kReadBytes);
    }
    auto got = broker_->read(from_broker_.data() + end_, from_broker_.size() - end_);
    if (!got.ok()) {
      // What came before the end counts: the reason, or messages at QoS 0.
      if (auto submitted = submit(); !submitted.ok()) return submitted;
      return got.error();
    }
    if (*got == 0) break;
    bool filled = *got == from_broker_.size() - end_;
    last_received_ = now;
    pinged_.reset();
    end_ += *got;
    if (closing_) {
      begin_ = end_ = 0;
      continue;
    }
    result = take_from_broker(now);
    if (!filled) break;
  }
  auto submitted = submit();
  return result.ok() ? submitted : result;
}

Result<void> Link::take_from_broker(Time now) {
  while (begin_ < end_) {
    if (skipped_) {
      std::size_t passed = std::min(skipped_->rest, end_ - begin_);
      begin_ += passed;
      skipped_->rest -= passed;
      if (skipped_->rest > 0) break;
      inflow_.take_too_large(skipped_->qos, skipped_->packet_id);
      skipped_.reset();
      continue;
    }
    std::string_view bytes(from_broker_.data() + begin_, end_ - begin_);
    auto header = read_fixed_header(bytes);
    if (!header.ok()) return header.error();
    if (!*header) break;
    const FixedHeader& packet = **header;
    if (packet.type() == PacketType::publish && packet.size() > settings_.max_packet_bytes) {
      auto address = read_publish_address(packet, bytes.substr(packet.length));
      if (!address.ok()) return address.error();
      if (!*address) break;
      spdlog::warn("mqtt \"{}\": a message of {} bytes on topic \"{}\" is too large and is given up", settings_.name,
                   packet.remaining, (*address)->topic.substr(0, 200));
      skipped_ = Skipped{packet.remaining - (*address)->length, packet.qos(), (*address)->packet_id};
      begin_ += packet.length + (*address)->length;
      if (skipped_->rest == 0) {
        inflow_.take_too_large(skipped_->qos, skipped_->packet_id);
        skipped_.reset();
      }
      continue;
    }
    if (packet.type() != PacketType::publish && packet.size() > kMostControlBytes) {
      return rejected(fmt::format("a packet of type {} and {} bytes from the broker: not MQTT, or out of step",
                                  packet.first >> 4, packet.remaining));
    }
    if (bytes.size() < packet.size()) {
      if (from_broker_.size() - begin_ < packet.size()) from_broker_.resize(begin_ + packet.size());
      break;
    }
    if (auto taken = take_packet(packet, bytes.substr(0, packet.size()), now); !taken.ok()) return taken;
    begin_ += packet.size();
  }
  if (begin_ == end_) {
    begin_ = end_ = 0;
    // One large message must not keep its memory for ever.
    if (from_broker_.size() > 2 * kUsualBuffer) from_broker_ = std::vector<char>(kUsualBuffer);
  }
  return {};
}

Result<void> Link::take_packet(const FixedHeader& header, std::string_view packet, Time now) {
  std::string_view body = packet.substr(header.length);
  if (carries(header.type())) {
    if (!up_) return rejected("a message from the broker before its CONNACK");
    if (header.type() == PacketType::publish) {
      last_taken_ = now;
      return inflow_.take(header, body);
    }
    auto packet_id = parse_packet_id(body);
    if (!packet_id.ok()) return packet_id.error();
    inflow_.take_pubrel(*packet_id);
    return {};
  }
  switch (header.type()) {
    case PacketType::connack: {
      auto connack = parse_connack(body, settings_.version);
      if (!connack.ok()) return connack.error();
      if (connack->reason == 0) {
        up_ = true;
        last_sent_ = last_received_ = now;
        if (connack->keep_alive && *connack->keep_alive > 0) keep_alive_ = std::chrono::seconds(*connack->keep_alive);
      } else {
        reason_ = fmt::format("{} refused the connection: {}", settings_.broker,
                              reason_in_words(connack->reason, settings_.version));
        if (!connack->reason_string.empty()) reason_ += fmt::format(" ({})", connack->reason_string.substr(0, 200));
      }
      break;
    }
    case PacketType::disconnect: {
      auto disconnect = parse_disconnect(body);
      if (!disconnect.ok()) return disconnect.error();
      reason_ = fmt::format("{} ended the connection: {}", settings_.broker,
                            reason_in_words(disconnect->reason, settings_.version));
      if (!disconnect->reason_string.empty()) reason_ += fmt::format(" ({})", disconnect->reason_string.substr(0, 200));
      break;
    }
    case PacketType::pingresp: return {};  // it answers our ping, not Paho's
    default: break;
  }
  to_client_ += packet;
  return {};
}

Result<void> Link::submit() {
  if (closing_) return {};
  auto submitted = inflow_.submit();
  if (!submitted.ok()) outlet_failure_ = submitted.error();
  return submitted;
}

// MQTT 3.1.2.10: the broker gives us up after one and a half times the keep alive without a packet of ours. We give it
// up when a ping has no answer within a keep alive during which we did read.
Result<void> Link::keep_alive(Time now) {
  if (!up_ || keep_alive_.count() == 0) return {};
  auto half = keep_alive_ / 2;
  if (pinged_ && was_reading_ && now - std::max(*pinged_, reading_since_) >= keep_alive_) {
    return transient(fmt::format("{} has not answered for {} ms", settings_.broker, keep_alive_.count()));
  }
  if (now - last_sent_ >= half || (!pinged_ && now - last_received_ >= half)) {
    append_pingreq(to_broker_);
    last_sent_ = now;
    if (!pinged_) pinged_ = now;
  }
  return {};
}

Result<void> Link::flush(Time now) {
  flush_client();
  while (connected_ && !to_broker_.empty()) {
    auto sent = broker_->write(to_broker_);
    if (!sent.ok()) return sent.error();
    if (*sent == 0) break;
    to_broker_.erase(0, *sent);
    last_sent_ = now;
  }
  return {};
}

void Link::begin_closing(Time now) {
  if (closing_) return;
  inflow_.release(to_broker_);
  closing_ = true;
  close_by_ = now + settings_.linger;
  inflow_.forget_connection();
}

Error Link::ended(const Error& why) const { return reason_.empty() ? why : transient(reason_); }

}  // namespace penstock::mqtt
