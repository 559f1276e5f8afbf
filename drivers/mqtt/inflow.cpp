#include "drivers/mqtt/inflow.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "drivers/lines/utf8.h"

namespace penstock::mqtt {
namespace {

bool plain_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0; });
}

// What is not UTF-8 becomes U+FFFD: MQTT forbids it, but to end the connection would make the broker send it for ever.
void append_utf8(std::string& to, std::string_view text) {
  if (plain_ascii(text)) {
    to += text;
    return;
  }
  while (!text.empty()) {
    std::size_t length = utf8_character(text);
    to += length > 0 ? text.substr(0, length) : std::string_view("\xEF\xBF\xBD");
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
}

std::string utf8(std::string_view text) {
  std::string sound;
  append_utf8(sound, text);
  return sound;
}

constexpr std::size_t kGroupBytes = 256 << 10;

std::vector<std::string> split_template(std::string_view text) {
  constexpr std::string_view kTopic = "{topic}";
  std::vector<std::string> parts;
  for (std::size_t at; (at = text.find(kTopic)) != std::string_view::npos; text.remove_prefix(at + kTopic.size())) {
    parts.emplace_back(text.substr(0, at));
  }
  parts.emplace_back(text);
  return parts;
}

}  // namespace

Inflow::Inflow(InflowSettings settings, Outlet& outlet)
    : settings_(std::move(settings)),
      stream_parts_(split_template(settings_.stream)),
      outlet_(outlet),
      max_record_bytes_(outlet.max_record_bytes()) {}

void Inflow::fill_record(Record& record) const {
  record.kind = Kind::message;
  record.stream = stream_parts_.front();
  for (std::size_t i = 1; i < stream_parts_.size(); ++i) {
    append_utf8(record.stream, publish_.topic);
    record.stream += stream_parts_[i];
  }
  record.content_type = utf8(publish_.content_type);
  record.headers.reserve(publish_.user_properties.size());
  for (const auto& property : publish_.user_properties) {
    record.headers.push_back({utf8(property.name), utf8(property.value)});
  }
  record.payload = publish_.payload;
}

Result<void> Inflow::take(const FixedHeader& header, std::string_view body) {
  if (auto parsed = parse_publish(header, body, settings_.version, publish_); !parsed.ok()) return parsed;
  if (publish_.retained && !settings_.keep_retained) {
    outlet_.count("retained_skipped");
    taken_.messages.push_back({publish_.packet_id, publish_.qos, Owes::nothing});
    return {};
  }
  Record& record = taken_.records.emplace_back();
  fill_record(record);
  std::size_t bytes = record.bytes();
  if (bytes > max_record_bytes_) {
    taken_.records.pop_back();
    take_too_large(publish_.qos, publish_.packet_id);
    return {};
  }
  taken_.bytes += bytes;
  taken_.messages.push_back({publish_.packet_id, publish_.qos, Owes::record});
  return {};
}

void Inflow::take_too_large(std::uint8_t qos, std::uint16_t packet_id) {
  outlet_.count("too_large");
  taken_.messages.push_back({packet_id, qos, Owes::refusal});
  taken_.refusals = true;
}

void Inflow::take_pubrel(std::uint16_t packet_id) {
  // Its record is on disk already, else PUBREC would not have left; the order of answers is kept all the same.
  unacknowledged_.push_back({0, packet_id, PacketType::pubcomp});
}

Result<void> Inflow::submit() {
  std::size_t fresh_messages = 0;
  if (!taken_.messages.empty()) {
    std::size_t usual = std::min<std::size_t>(taken_.messages.size(), 1'024);
    Batch fresh = std::exchange(taken_, Batch{});
    taken_.records.reserve(usual);
    taken_.messages.reserve(usual);
    fresh_messages = fresh.messages.size();
    // Small reads that wait become one group, so that the number of groups stays small.
    if (!waiting_.empty() && waiting_.back().bytes + fresh.bytes <= kGroupBytes) {
      append(waiting_.back(), std::move(fresh));
    } else {
      waiting_.push_back(std::move(fresh));
    }
  }
  while (!waiting_.empty()) {
    auto all = submit(waiting_.front());
    if (!all.ok()) return all.error();
    if (!*all) break;
    expect_acknowledgements(waiting_.front());
    waiting_.pop_front();
  }
  if (settings_.drop_qos0_when_busy) {
    for (auto& batch : waiting_) {
      dropped_ +=
          take_out(batch, [](const Message& message) { return message.qos == 0 && message.owes == Owes::record; });
    }
  }
  weigh_waiting();
  if (fresh_messages > 0) outlet_.count("messages", fresh_messages);
  return tell_dropped();
}

/// The broker sends again what has QoS 1 or 2. Nothing: none of it does.
std::optional<std::uint64_t> Inflow::sent_once(const Batch& batch) {
  std::uint64_t once = 0, again = 0;
  for (const auto& message : batch.messages) {
    if (message.owes == Owes::record) ++(message.qos == 0 ? once : again);
  }
  return again > 0 ? std::optional(once) : std::nullopt;
}

Result<bool> Inflow::submit(Batch& batch) {
  if (!batch.records.empty()) {
    auto ticket = outlet_.offer(batch.records, no_changes_, sent_once(batch));
    if (ticket.ok()) {
      batch.ticket = *ticket;
      batch.records.clear();
      for (auto& message : batch.messages) {
        if (message.owes == Owes::record) message.owes = Owes::nothing;
      }
    } else if (ticket.error().fault == Fault::full) {
      return false;
    } else if (ticket.error().fault == Fault::rejected) {
      auto all = submit_one_by_one(batch);
      if (!all.ok() || !*all) return all;
    } else {
      return ticket.error();
    }
  }
  if (batch.refusals) {
    auto owed =
        static_cast<std::uint64_t>(std::count_if(batch.messages.begin(), batch.messages.end(),
                                                 [](const Message& message) { return message.owes == Owes::refusal; }));
    auto ticket = outlet_.give_up(Cause::too_large, owed);
    if (!ticket.ok() && ticket.error().fault == Fault::full) return false;
    if (!ticket.ok()) return ticket.error();
    batch.ticket = *ticket;
    batch.refusals = false;
    for (auto& message : batch.messages) message.owes = Owes::nothing;
  }
  return true;
}

// The Outlet refuses a whole group for one record in it: find out which.
Result<bool> Inflow::submit_one_by_one(Batch& batch) {
  std::size_t done = 0;
  Result<bool> all = true;
  std::vector<Record> one(1);
  for (auto& message : batch.messages) {
    if (message.owes != Owes::record) continue;
    one.resize(1);
    one[0] = std::move(batch.records[done]);
    auto ticket = message.qos == 0 ? outlet_.offer(one, no_changes_) : outlet_.offer(one, no_changes_, 0);
    if (ticket.ok()) {
      batch.ticket = *ticket;
      message.owes = Owes::nothing;
    } else if (ticket.error().fault == Fault::rejected) {
      outlet_.count("too_large");
      message.owes = Owes::refusal;
      batch.refusals = true;
    } else {
      batch.records[done] = std::move(one[0]);
      if (ticket.error().fault == Fault::full) {
        all = false;
      } else {
        all = ticket.error();
      }
      break;
    }
    ++done;
  }
  batch.records.erase(batch.records.begin(), batch.records.begin() + static_cast<std::ptrdiff_t>(done));
  return all;
}

void Inflow::append(Batch& to, Batch from) {
  to.records.insert(to.records.end(), std::make_move_iterator(from.records.begin()),
                    std::make_move_iterator(from.records.end()));
  to.messages.insert(to.messages.end(), from.messages.begin(), from.messages.end());
  to.bytes += from.bytes;
  to.refusals = to.refusals || from.refusals;
}

template <class Leave>
std::uint64_t Inflow::take_out(Batch& batch, Leave leave) {
  Batch kept;
  kept.ticket = batch.ticket;
  std::size_t next = 0;
  for (const auto& message : batch.messages) {
    Record* record = message.owes == Owes::record ? &batch.records[next++] : nullptr;
    if (leave(message)) continue;
    kept.messages.push_back(message);
    kept.refusals = kept.refusals || message.owes == Owes::refusal;
    if (record == nullptr) continue;
    kept.bytes += record->bytes();
    kept.records.push_back(std::move(*record));
  }
  std::uint64_t left = batch.messages.size() - kept.messages.size();
  batch = std::move(kept);
  return left;
}

void Inflow::expect_acknowledgements(const Batch& batch) {
  for (const auto& message : batch.messages) {
    if (message.qos == 0) continue;
    unacknowledged_.push_back(
        {batch.ticket, message.packet_id, message.qos == 1 ? PacketType::puback : PacketType::pubrec});
  }
}

std::size_t Inflow::release(std::string& out) {
  if (unacknowledged_.empty()) return 0;
  Ticket durable = outlet_.durable();
  std::size_t released = 0;
  while (!unacknowledged_.empty() && unacknowledged_.front().ticket <= durable) {
    append_acknowledgement(out, unacknowledged_.front().answer, unacknowledged_.front().packet_id);
    unacknowledged_.pop_front();
    ++released;
  }
  return released;
}

bool Inflow::thirsty() const {
  return waiting_messages_ < settings_.waiting_messages && waiting_bytes_ < settings_.waiting_bytes &&
         unacknowledged_.size() < settings_.unacknowledged;
}

std::uint64_t Inflow::left_behind() const {
  std::uint64_t left = dropped_;
  for (const auto& batch : waiting_) {
    left += static_cast<std::uint64_t>(
        std::count_if(batch.messages.begin(), batch.messages.end(),
                      [](const Message& message) { return message.qos == 0 && message.owes == Owes::record; }));
  }
  return left;
}

void Inflow::forget_connection() {
  unacknowledged_.clear();
  auto comes_again = [](const Message& message) { return message.qos > 0; };
  take_out(taken_, comes_again);
  for (auto& batch : waiting_) take_out(batch, comes_again);
  std::erase_if(waiting_, [](const Batch& batch) { return batch.messages.empty(); });
  weigh_waiting();
}

Result<void> Inflow::tell_dropped() {
  if (dropped_ == 0) return {};
  auto ticket = outlet_.give_up(Cause::refused, dropped_);
  if (ticket.ok()) {
    outlet_.count("dropped", std::exchange(dropped_, 0));
    return {};
  }
  if (ticket.error().fault == Fault::full) return {};
  return ticket.error();
}

void Inflow::weigh_waiting() {
  waiting_messages_ = waiting_bytes_ = 0;
  for (const auto& batch : waiting_) {
    waiting_messages_ += batch.messages.size();
    waiting_bytes_ += batch.bytes;
  }
}

}  // namespace penstock::mqtt
