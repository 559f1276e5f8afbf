// The headers and the time stamp of a record in Kafka, and what a reader finds in them. docs/formats.md, "Records".
//
// Plain values and pure functions; safe in any thread. HeaderWriter keeps buffers between records, so that writing
// headers does not allocate: one per thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/clock.h"
#include "buffer/record.h"
#include "buffer/store.h"
#include "config/settings.h"

namespace penstock {

/// RFC 3339, UTC, microseconds: 2026-05-04T12:00:00.123456Z. Times outside the years 0 to 9999 are cut to them.
std::string rfc3339(WallTime time);
void append_rfc3339(WallTime time, std::string& out);

/// Kafka's time stamp in milliseconds, or 0 for "now, when it is sent": the event time, if it lies between 2020-01-01 and
/// now + 5 minutes and the style is `event`.
std::int64_t kafka_timestamp(WallTime time, WallTime now, TimestampStyle style);

struct HeaderView {
  std::string_view name, value;
};

class HeaderWriter {
 public:
  HeaderWriter(std::string agent, HeaderStyle style);

  /// The headers of one record, valid until the next call and as long as `stored` and `lane` are.
  const std::vector<HeaderView>& write(const StoredRecord& stored, std::string_view lane);

 private:
  void cloudevents(const StoredRecord& stored, std::string_view lane);
  void compact(const StoredRecord& stored, std::string_view lane);

  std::string agent_;
  HeaderStyle style_;
  std::string id_, source_, type_, time_, sequence_, binary_, epoch_hex_;
  Epoch epoch_;
  std::vector<std::string> renamed_;  // names of the record's own headers that would have been taken for ours
  std::vector<HeaderView> headers_;
};

/// Which record this is: the name it has for ever.
struct RecordName {
  std::string agent, lane;
  Epoch epoch;
  Sequence sequence;
  bool operator==(const RecordName&) const = default;
};

/// Collects what the headers of one Kafka record say, in either style; feed it every header, then ask.
class NameReader {
 public:
  void header(std::string_view name, std::string_view value);
  /// Nothing if the record is not one of ours, or its headers contradict each other.
  std::optional<RecordName> name() const;

 private:
  std::string agent_, lane_;
  std::optional<Epoch> epoch_;
  std::optional<Sequence> sequence_;
  bool bad_ = false;
};

}  // namespace penstock
