// Link: one MQTT connection as the gate sees it, Paho on one side and the broker on the other.
//
// Every packet passes through unchanged, except: an inbound PUBLISH (and PUBREL) goes to the Inflow and never to Paho,
// its acknowledgement comes from the Inflow, and Paho's PINGREQ is answered here, while pings of our own go to the
// broker: it must hear from us, and be heard, also when Paho is idle or when the Outlet is full and we do not read.
//
// Threads: the gate's only. Nothing waits: prepare() says what to poll, serve() does what can be done. When the Link
// ends without a word, the broker keeps what was not acknowledged and sends it over the next one.
#pragma once

#include <poll.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/descriptor.h"
#include "drivers/mqtt/inflow.h"
#include "drivers/mqtt/packet.h"
#include "drivers/mqtt/stream.h"

namespace penstock::mqtt {

struct LinkSettings {
  std::string name;    // the driver's, for the log
  std::string broker;  // host:port, for the log
  Version version = Version::v5;
  std::chrono::milliseconds keep_alive{30'000};
  std::chrono::milliseconds connect_timeout{20'000};  // look-up, connect and CONNACK together
  std::chrono::milliseconds linger{200};              // for the broker to close after our DISCONNECT
  std::size_t max_packet_bytes = 2 << 20;             // a PUBLISH larger than this is never held in memory
};

class Link {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Link(const LinkSettings& settings, Descriptor client, std::unique_ptr<Stream> broker, Inflow& inflow, Time now);
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  struct Polled {
    pollfd client{};
    pollfd broker{};
    Time due{};  // serve() has something to do then, at the latest
  };
  Polled prepare(Time now);
  /// An error means that this Link has ended, and says why; `transient` and `rejected` alike lead to a new one.
  Result<void> serve(const Polled& polled, Time now);

  /// Records became durable or room was made: acknowledgements may leave. As serve().
  Result<void> release(Time now);

  /// From now on nothing more is read from the broker.
  void stop_reading() { reading_stopped_ = true; }
  bool closing() const { return closing_; }
  /// Everything written so far has left.
  bool flushed() const { return to_broker_.empty() && to_client_.empty(); }
  /// The Outlet takes nothing any more: why. The Link has ended then.
  const std::optional<Error>& outlet_failure() const { return outlet_failure_; }

 private:
  bool reading() const;
  bool resting(Time now) const;
  Result<void> read_client();
  Result<void> take_from_client();
  Result<void> read_broker(Time now);
  Result<void> take_from_broker(Time now);
  Result<void> take_packet(const FixedHeader& header, std::string_view packet, Time now);
  Result<void> submit();
  Result<void> keep_alive(Time now);
  Result<void> flush(Time now);
  void flush_client();
  void begin_closing(Time now);
  Error ended(const Error& why) const;

  const LinkSettings& settings_;
  Descriptor client_;
  std::unique_ptr<Stream> broker_;
  Inflow& inflow_;

  std::string from_client_;
  std::string to_client_;
  std::string to_broker_;
  std::vector<char> from_broker_;  // bytes begin_..end_ are read and not yet taken
  std::size_t begin_ = 0;
  std::size_t end_ = 0;

  struct Skipped {  // a PUBLISH too large to be a record, of which so much is still to come
    std::size_t rest = 0;
    std::uint8_t qos = 0;
    std::uint16_t packet_id = 0;
  };
  std::optional<Skipped> skipped_;

  bool connected_ = false;  // the Stream is
  bool up_ = false;         // CONNACK said yes
  bool reading_stopped_ = false;
  bool was_reading_ = true;
  bool closing_ = false;
  std::chrono::milliseconds keep_alive_;
  Time up_by_;
  Time close_by_{};
  Time last_sent_{};
  Time last_received_{};
  Time reading_since_{};
  Time last_taken_{};           // when a read brought messages
  std::optional<Time> pinged_;  // and not heard from the broker since
  std::string reason_;          // what the broker gave as a reason before it closed
  std::optional<Error> outlet_failure_;
};

}  // namespace penstock::mqtt
