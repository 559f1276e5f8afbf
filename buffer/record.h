// Record: one reading or message, the thing Penstock exists to carry; and what travels with it through a commit.
//
// Plain values, no threads. A record is immutable in meaning from `put` on: the payload reaches Kafka untouched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "buffer/clock.h"

namespace penstock {

enum class Kind : std::uint8_t { reading = 0, message = 1, event = 2 };
enum class Quality : std::uint8_t { good = 0, uncertain = 1, bad = 2 };
enum class TimeSource : std::uint8_t { ours = 0, device = 1 };

struct Header {
  std::string name;
  std::string value;
  bool operator==(const Header&) const = default;
};

/// The header that names the record of which this one is a retry: <epoch, 32 hex digits>:<lane name>:<sequence>.
inline constexpr const char* kRetryOf = "ce_retryof";

struct Record {
  std::string driver;  // the table's name in the config; set by the Outlet
  std::string stream;  // where it came from: boiler/temp
  std::string key;     // the {key} of the Kafka key template; may be empty
  Kind kind = Kind::reading;
  Quality quality = Quality::good;
  TimeSource time_source = TimeSource::ours;
  bool synchronised = false;  // the clock was known to be right when `time` was read from it
  bool retried = false;       // its last header is kRetryOf: the store alone says so, never a publisher
  WallTime time{};            // event time; the Outlet fills it in, and the next one, when left at zero
  BootTime boottime{};        // when it was taken, on the clock of the boot it was taken in
  std::string content_type;
  std::vector<Header> headers;
  std::string payload;

  bool operator==(const Record&) const = default;

  /// What counts against max_record_bytes and intake_bytes: every string, and a fixed overhead.
  std::size_t bytes() const {
    std::size_t sum = 64 + driver.size() + stream.size() + key.size() + content_type.size() + payload.size();
    for (const auto& header : headers) sum += 8 + header.name.size() + header.value.size();
    return sum;
  }
};

/// The most bytes of a state's name together with its driver's, and of its value: both fit in a leaf of the store.
inline constexpr std::size_t kMostStateNameBytes = 400, kMostStateValueBytes = 1024;

/// Something a driver must remember in the same commit as its records (an MQTT packet id, a file position). Names
/// belong to the driver. No value: forgotten.
struct StateChange {
  std::string name;
  std::optional<std::string> value;
};

/// Why data was given up. The numbers are stored in the ledger and never reused.
enum class Cause : std::uint8_t {
  evicted = 1,              // capacity: the oldest made room
  expired = 2,              // max_age
  too_large = 3,            // over max_record_bytes: never numbered
  damaged = 4,              // a block whose checksum or continuity failed
  dead_letter = 5,          // Kafka refuses the record itself; it is kept aside
  refused = 6,              // reject_newest or on_busy = "drop": never numbered
  discarded = 7,            // a dead letter that somebody threw away: told a second time, as a count
  dead_letter_evicted = 8,  // a dead letter that had to make room, in the same way
};
inline constexpr Cause kCauses[] = {Cause::evicted,     Cause::expired, Cause::too_large, Cause::damaged,
                                    Cause::dead_letter, Cause::refused, Cause::discarded, Cause::dead_letter_evicted};
const char* name_of(Cause cause);

/// What was given up before it could be numbered.
struct Refusal {
  Cause cause = Cause::refused;
  std::uint64_t count = 0;
};

/// The place of a put among all puts of this process: 1, 2, 3... Durable when the watermark of tickets has reached it.
using Ticket = std::uint64_t;

/// What one put hands over; all of it is in one commit or none of it. Any part may be empty.
struct Group {
  Lane lane{};
  std::string driver;
  std::vector<Record> records;
  std::vector<StateChange> changes;
  std::optional<Refusal> refusal;
  /// Its source sends again what it is not answered for. So under reject_newest nothing of it is done where there is no
  /// room, its changes neither, and nobody is told of a loss: the writer keeps it, and its ticket waits.
  bool comes_again = false;
  std::uint64_t sent_once = 0;  // of its records, those that nobody sends again all the same (MQTT QoS 0)
};

}  // namespace penstock
