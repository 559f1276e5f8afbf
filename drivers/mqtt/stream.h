// Stream: the gate's connection to the broker, a seam so that TLS can stand where plain TCP stands now.
//
// Nothing here waits: the owner polls descriptor() for events(), then goes on. Threads: one, the owner's; the look-up
// of a name runs in a thread of its own, which may outlive the Stream (getaddrinfo(3) cannot be interrupted).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "buffer/result.h"

namespace penstock::mqtt {

class Stream {
 public:
  virtual ~Stream() = default;

  /// What to poll, and for what, to go on with connecting or with a read or write that gave 0. Both may change.
  virtual int descriptor() const = 0;
  virtual short events() const = 0;

  /// Goes on with connecting (look-up, connect, later the TLS handshake); true once there is a connection. Errors are
  /// `transient` and say what failed at which address; `rejected` will mean a certificate that is not to be trusted.
  virtual Result<bool> connect() = 0;

  /// Bytes read; 0 when none are there now. An end of the connection is an error.
  virtual Result<std::size_t> read(char* to, std::size_t size) = 0;
  /// Bytes written; 0 when none can be now.
  virtual Result<std::size_t> write(std::string_view bytes) = 0;
  /// Nothing more will be written.
  virtual void finish_writing() = 0;
};

/// Plain TCP; every address of the name is tried in turn, each for at most 5 s. IPv6 without brackets.
std::unique_ptr<Stream> tcp_stream(std::string host, std::uint16_t port);

}  // namespace penstock::mqtt
