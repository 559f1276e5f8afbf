// Gate: the relay inside the process through which Paho talks to the broker, so that acknowledgements can wait for
// disks.
//
//   broker  <-- Stream -->  Gate  <-- 127.0.0.1, a port of the kernel's choice -->  Paho MQTT C++
//                            |
//                          Outlet
//
// Paho does the session: CONNECT, credentials, subscriptions, will. The Gate carries the data: it takes every PUBLISH
// out of the stream, and PUBACK leaves once the record is on disk, in the order the messages came (drivers/mqtt/link.h,
// inflow.h). It takes one connection at a time, and only from this process; each makes a new one to the broker.
//
// Threads: one of its own, ended by the destructor in less than a second. The functions here may be called by any
// thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "drivers/driver.h"
#include "drivers/mqtt/inflow.h"
#include "drivers/mqtt/link.h"
#include "drivers/mqtt/stream.h"

namespace penstock::mqtt {

class Gate {
 public:
  /// Begins a connection to the broker; called in the Gate's thread.
  using Dial = std::function<std::unique_ptr<Stream>()>;

  /// Listens and starts the thread. The Outlet outlives the Gate, which uses its on_durable.
  static Result<std::unique_ptr<Gate>> open(LinkSettings link, InflowSettings inflow, Dial dial, Outlet& outlet);
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  /// Where Paho connects to, on 127.0.0.1.
  std::uint16_t port() const;
  /// Why the last connection ended: "broker:1883 refused the connection: bad user name or password".
  std::string why_ended() const;
  /// The Outlet takes nothing any more, and neither does the Gate.
  std::optional<Error> outlet_failure() const;

  /// Reads no more from the broker, and waits until what was read is on disk and acknowledged; false when that took
  /// longer than `patience`: the broker will send again what was not. Before the session says goodbye.
  bool settle(std::chrono::milliseconds patience);

 private:
  class Relay;
  explicit Gate(std::unique_ptr<Relay> relay);
  std::unique_ptr<Relay> relay_;
};

}  // namespace penstock::mqtt
