// Who is at the other end of a connection on loopback?
#pragma once

#include "buffer/result.h"

namespace penstock::mqtt {

/// True when the peer of this accepted TCP socket is a socket that this very process holds: one of our own descriptors
/// (/proc/self/fd) is a socket whose own address is the peer's and whose peer is ours. No other process of this
/// network namespace can have the same pair of addresses at the same time.
Result<bool> peer_is_this_process(int accepted);

}  // namespace penstock::mqtt
