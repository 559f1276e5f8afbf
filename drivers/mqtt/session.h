// Session: Paho MQTT C++ behind a few calls. It connects to the Gate's port and keeps the MQTT session: CONNECT with
// clean start off and a session expiry, credentials, subscriptions. It never sees a message, and reconnects only when
// told.
//
// Threads: one, the driver's; every wait ends when a stop is asked for. Paho has threads of its own for the whole
// process. No Paho persistence: what must outlive a crash is in the store or still at the broker.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "buffer/result.h"
#include "drivers/mqtt/packet.h"

namespace penstock::mqtt {

struct Filter {
  std::string filter;
  int qos = 1;
  bool operator==(const Filter&) const = default;
};

struct SessionSettings {
  std::string client_id;
  std::string user;
  std::string password;
  Version version = Version::v5;
  std::chrono::seconds keep_alive{30};
  std::chrono::seconds session_expiry{7 * 24 * 3600};  // 5.0 only: a 3.1.1 broker has its own
  std::uint16_t receive_maximum = 5'000;               // 5.0 only
  std::chrono::milliseconds patience{30'000};          // for an answer to anything
};

class Session {
 public:
  /// `port`: of the Gate, on 127.0.0.1. Connects nothing yet.
  static Result<std::unique_ptr<Session>> open(SessionSettings settings, std::uint16_t port);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// True when the broker still had our session. The error's text is Paho's; the Gate knows the better one.
  Result<bool> connect(std::stop_token stop);
  /// Per filter the QoS granted, or a reason code of 128 and more. MQTT 5: retained messages are sent for those filters
  /// only that are new to the broker.
  Result<std::vector<std::uint8_t>> subscribe(const std::vector<Filter>& filters, std::stop_token stop);
  Result<void> unsubscribe(const std::vector<std::string>& filters, std::stop_token stop);

  /// Waits for the end of the connection, at most `patience` when there is one; false: stopped, or still connected.
  bool wait_until_lost(std::stop_token stop, std::optional<std::chrono::milliseconds> patience = {});

  /// Says goodbye: the broker keeps the session. Waits at most `patience`.
  void disconnect(std::chrono::milliseconds patience);

 private:
  class Paho;
  explicit Session(std::unique_ptr<Paho> paho);
  std::unique_ptr<Paho> paho_;
};

}  // namespace penstock::mqtt
