// Checkpoints and gap records as they lie in Kafka. docs/formats.md, "Checkpoint" and "Gap record".
//
// Pure functions; safe in any thread. Decoding takes anything and believes nothing: bounded, and `rejected` with the
// reason for whatever is not exactly what the page says. Names it does not know are left alone, a newer version is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/kafka/window.h"
#include "buffer/history.h"
#include "buffer/store.h"

namespace penstock {

inline constexpr int kMessageVersion = 1;
inline constexpr std::size_t kMessageLimit = 4 << 20;
inline constexpr std::size_t kMessageLanes = 1024;          // lanes in one checkpoint or run
inline constexpr std::size_t kMessagePartitions = 100'000;  // in the window of one checkpoint

std::string encode_checkpoint(const Checkpoint& checkpoint, const WindowNote& window, std::string_view agent,
                              WallTime now);

/// `agent` must be the one it was written for.
Result<Checkpoint> decode_checkpoint(std::string_view json, std::string_view agent);
/// The window that a checkpoint carries; nothing if it was written by a version of this program that had none.
Result<std::optional<WindowNote>> decode_window(std::string_view json);

/// A gap as a reader sees it.
struct GapMessage {
  std::string agent, lane;
  Epoch epoch;
  Sequence first, last;  // 0: never numbered
  std::uint64_t count = 0;
  Cause cause = Cause::evicted;
  std::uint64_t entry = 0;  // its number in the ledger; 0: not said
  bool operator==(const GapMessage&) const = default;
};

std::string encode_gap(const Gap& gap, std::string_view agent, std::string_view lane);
Result<GapMessage> decode_gap(std::string_view json);

/// The partition of an agent's checkpoints: crc32(agent) mod partitions, the CRC being zlib's (ISO 3309, ITU-T V.42).
std::int32_t checkpoint_partition(std::string_view agent, std::int32_t partitions);

}  // namespace penstock
