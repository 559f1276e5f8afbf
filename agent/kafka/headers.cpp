#include "agent/kafka/headers.h"

#include <algorithm>
#include <charconv>

namespace penstock {
namespace {

void append_digits(std::uint64_t value, std::size_t width, std::string& out) {
  char digits[20];
  auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  auto length = static_cast<std::size_t>(end - digits);
  if (length < width) out.append(width - length, '0');
  out.append(digits, length);
}

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::reading: return "reading";
    case Kind::message: return "message";
    case Kind::event: break;
  }
  return "event";
}

const char* quality_name(Quality quality) {
  switch (quality) {
    case Quality::good: return "good";
    case Quality::uncertain: return "uncertain";
    case Quality::bad: break;
  }
  return "bad";
}

/// A time that came from the device is as right as the device says; ours is, once the clock was synchronised.
bool unsynchronised(const Record& record) { return !record.synchronised && record.time_source == TimeSource::ours; }

void append_big_endian(std::uint64_t value, std::string& out) {
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}

std::uint64_t big_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (char byte : bytes) value = value << 8 | static_cast<std::uint8_t>(byte);
  return value;
}

std::optional<Sequence> parse_sequence(std::string_view text) {
  std::uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value == 0) return std::nullopt;
  return Sequence(value);
}

}  // namespace

void append_rfc3339(WallTime time, std::string& out) {
  using namespace std::chrono;
  constexpr WallTime first = sys_days(year(0) / 1 / 1),
                     last = WallTime(sys_days(year(10000) / 1 / 1)) - microseconds(1);
  time = std::clamp(time, first, last);
  auto day = floor<days>(time);
  year_month_day date(day);
  auto rest = static_cast<std::uint64_t>((time - day).count());
  append_digits(static_cast<unsigned>(static_cast<int>(date.year())), 4, out);
  out += '-';
  append_digits(static_cast<unsigned>(date.month()), 2, out);
  out += '-';
  append_digits(static_cast<unsigned>(date.day()), 2, out);
  out += 'T';
  append_digits(rest / 3'600'000'000, 2, out);
  out += ':';
  append_digits(rest / 60'000'000 % 60, 2, out);
  out += ':';
  append_digits(rest / 1'000'000 % 60, 2, out);
  out += '.';
  append_digits(rest % 1'000'000, 6, out);
  out += 'Z';
}

std::string rfc3339(WallTime time) {
  std::string text;
  append_rfc3339(time, text);
  return text;
}

std::int64_t kafka_timestamp(WallTime time, WallTime now, TimestampStyle style) {
  using namespace std::chrono;
  constexpr WallTime first = sys_days(year(2020) / 1 / 1);
  if (style == TimestampStyle::send || time < first || time > now + minutes(5)) return 0;
  return floor<milliseconds>(time).time_since_epoch().count();
}

namespace {

/// A publisher must not be able to say which record this is.
bool is_ours(std::string_view name) { return name.starts_with("ce_") || name == "penstock" || name == "content-type"; }

}  // namespace

HeaderWriter::HeaderWriter(std::string agent, HeaderStyle style) : agent_(std::move(agent)), style_(style) {}

const std::vector<HeaderView>& HeaderWriter::write(const StoredRecord& stored, std::string_view lane) {
  headers_.clear();
  if (style_ == HeaderStyle::compact) {
    compact(stored, lane);
  } else {
    cloudevents(stored, lane);
  }
  renamed_.clear();
  renamed_.reserve(stored.record.headers.size());  // views into it stay valid
  for (std::size_t i = 0; i < stored.record.headers.size(); ++i) {
    const auto& header = stored.record.headers[i];
    bool by_store = stored.record.retried && i + 1 == stored.record.headers.size();
    if (by_store || !is_ours(header.name)) {
      headers_.push_back({header.name, header.value});
    } else {
      headers_.push_back({renamed_.emplace_back("x-" + header.name), header.value});
    }
  }
  return headers_;
}

void HeaderWriter::cloudevents(const StoredRecord& stored, std::string_view lane) {
  const Record& record = stored.record;
  if (epoch_hex_.empty() || epoch_ != stored.epoch) {
    epoch_ = stored.epoch;
    epoch_hex_ = epoch_.hex();
  }
  id_.assign(epoch_hex_).append(1, ':').append(lane).append(1, ':');
  append_digits(stored.sequence.value(), 1, id_);
  source_.assign("/penstock/").append(agent_).append(1, '/').append(record.driver);
  type_.assign("penstock.").append(record.driver).append(1, '.').append(kind_name(record.kind));
  time_.clear();
  append_rfc3339(record.time, time_);
  sequence_.clear();
  append_digits(stored.sequence.value(), 20, sequence_);

  headers_.push_back({"ce_specversion", "1.0"});
  headers_.push_back({"ce_id", id_});
  headers_.push_back({"ce_source", source_});
  headers_.push_back({"ce_type", type_});
  headers_.push_back({"ce_time", time_});
  if (!record.stream.empty()) headers_.push_back({"ce_subject", record.stream});
  if (!record.content_type.empty()) headers_.push_back({"content-type", record.content_type});
  headers_.push_back({"ce_sequence", sequence_});
  headers_.push_back({"ce_epoch", epoch_hex_});
  headers_.push_back({"ce_lane", lane});
  if (unsynchronised(record)) headers_.push_back({"ce_timequality", "unsynchronised"});
  if (record.quality != Quality::good) headers_.push_back({"ce_quality", quality_name(record.quality)});
}

void HeaderWriter::compact(const StoredRecord& stored, std::string_view lane) {
  const Record& record = stored.record;
  auto append_short = [&](std::string_view text) {
    text = text.substr(0, 255);
    binary_ += static_cast<char>(text.size());
    binary_ += text;
  };
  binary_.assign(1, '\1');
  append_short(agent_);
  binary_.append(reinterpret_cast<const char*>(stored.epoch.bytes.data()), stored.epoch.bytes.size());
  append_short(lane);
  append_big_endian(stored.sequence.value(), binary_);
  append_big_endian(static_cast<std::uint64_t>(record.time.time_since_epoch().count()), binary_);
  binary_ += static_cast<char>((unsynchronised(record) ? 1 : 0) | static_cast<int>(record.quality) << 1);
  headers_.push_back({"penstock", binary_});
}

void NameReader::header(std::string_view name, std::string_view value) {
  if (name == "ce_source") {
    constexpr std::string_view before = "/penstock/";
    if (!value.starts_with(before)) return;
    value.remove_prefix(before.size());
    agent_ = value.substr(0, value.find('/'));
  } else if (name == "ce_lane") {
    lane_ = value;
  } else if (name == "ce_epoch") {
    epoch_ = Epoch::from_hex(value);
    if (!epoch_) bad_ = true;
  } else if (name == "ce_sequence") {
    sequence_ = parse_sequence(value);
    if (!sequence_) bad_ = true;
  } else if (name == "penstock") {
    // u8 version, u8 length, agent, epoch, u8 length, lane, u64 sequence, i64 time, u8 flags
    auto take = [&](std::size_t count) {
      if (count > value.size()) bad_ = true;
      auto part = value.substr(0, count);
      value.remove_prefix(part.size());
      return part;
    };
    auto length = [&] {
      auto byte = take(1);
      return byte.empty() ? std::size_t{0} : static_cast<std::size_t>(static_cast<std::uint8_t>(byte[0]));
    };
    if (take(1) != std::string_view("\1")) bad_ = true;
    agent_ = take(length());
    auto epoch = take(16);
    lane_ = take(length());
    auto sequence = take(8);
    take(8 + 1);
    if (bad_ || !value.empty()) {
      bad_ = true;
      return;
    }
    epoch_.emplace();
    std::copy(epoch.begin(), epoch.end(), epoch_->bytes.begin());
    sequence_ = Sequence(big_endian(sequence));
    if (sequence_->value() == 0) bad_ = true;
  }
}

std::optional<RecordName> NameReader::name() const {
  if (bad_ || agent_.empty() || lane_.empty() || !epoch_ || !sequence_) return std::nullopt;
  return RecordName{agent_, lane_, *epoch_, *sequence_};
}

}  // namespace penstock
