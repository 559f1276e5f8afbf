#include "buffer/meta.h"

#include "buffer/bytes.h"

namespace penstock {
namespace {

constexpr std::size_t kIdBytes = 16;

template <class IdType>
void append_id(std::string& to, const IdType& id) {
  to.append(reinterpret_cast<const char*>(id.bytes.data()), kIdBytes);
}

template <class IdType>
IdType read_id(const char* at) {
  IdType id;
  for (std::size_t i = 0; i < kIdBytes; ++i) id.bytes[i] = static_cast<std::uint8_t>(at[i]);
  return id;
}

constexpr std::string_view kDeadLetter = "dead_letter";
constexpr std::size_t kDeadLetterBytes = kIdBytes + 2 + 8;

void append_dead_letter(std::string& to, const DeadLetterId& id) {
  append_id(to, id.epoch);
  append_big(to, number(id.lane));
  append_big(to, id.sequence.value());
}

void append_firsts(std::string& to, const LaneFirsts& firsts) {
  append_big(to, static_cast<std::uint16_t>(firsts.size()));
  for (const auto& [lane, first] : firsts) {
    append_big(to, number(lane));
    append_big(to, first.value());
  }
}

std::optional<LaneFirsts> parse_firsts(std::string_view value) {
  if (value.size() < 2) return std::nullopt;
  std::size_t count = load_big<std::uint16_t>(value.data());
  if (value.size() != 2 + 10 * count) return std::nullopt;
  LaneFirsts firsts;
  for (std::size_t i = 0; i < count; ++i) {
    const char* at = value.data() + 2 + 10 * i;
    firsts[Lane{load_big<std::uint16_t>(at)}] = Sequence(load_big<std::uint64_t>(at + 2));
  }
  return firsts;
}

template <class Int>
std::string numbered_key(std::string_view name, Int value) {
  std::string key = meta_key(name);
  append_big(key, value);
  return key;
}

}  // namespace

std::string meta_key(std::string_view name) {
  std::string key(1, '\0');
  key += name;
  return key;
}

std::string lane_key(Lane lane) { return numbered_key("lane", number(lane)); }
std::string marks_key(Lane lane) { return numbered_key("marks", number(lane)); }
std::string epoch_key(std::uint32_t index) { return numbered_key("epoch", index); }
std::string run_key(std::uint32_t index) { return numbered_key("run", index); }
std::string ledger_key(std::uint64_t entry) { return numbered_key("ledger", entry); }

std::string state_key(std::string_view driver, std::string_view name) {
  std::string key = meta_key("state");
  key += driver;
  key += '\0';
  key += name;
  return key;
}

std::string block_key(Lane lane, Sequence first) {
  std::string key(1, '\x01');
  append_big(key, number(lane));
  append_big(key, first.value());
  return key;
}

std::string fragment_key(Lane lane, Sequence sequence, std::uint16_t fragment) {
  std::string key = block_key(lane, sequence);
  if (fragment != 0) append_big(key, fragment);
  return key;
}

std::optional<BlockKey> parse_block_key(std::string_view key) {
  if ((key.size() != 11 && key.size() != 13) || key[0] != '\x01') return std::nullopt;
  BlockKey parsed{Lane{load_big<std::uint16_t>(key.data() + 1)}, Sequence(load_big<std::uint64_t>(key.data() + 3)), 0};
  if (key.size() == 13) parsed.fragment = load_big<std::uint16_t>(key.data() + 11);
  return parsed;
}

std::string dead_letter_key(const DeadLetterId& id, std::uint16_t fragment) {
  std::string key(1, '\x02');
  append_dead_letter(key, id);
  if (fragment != 0) append_big(key, fragment);
  return key;
}

std::string dead_letter_row_key(const DeadLetterId& id) {
  std::string key = meta_key(kDeadLetter);
  append_dead_letter(key, id);
  return key;
}

std::optional<DeadLetterId> parse_dead_letter_row_key(std::string_view key) {
  const std::string prefix = meta_key(kDeadLetter);
  if (key.size() != prefix.size() + kDeadLetterBytes || key.substr(0, prefix.size()) != prefix) return std::nullopt;
  const char* at = key.data() + prefix.size();
  return DeadLetterId{read_id<Epoch>(at), Lane{load_big<std::uint16_t>(at + kIdBytes)},
                      Sequence(load_big<std::uint64_t>(at + kIdBytes + 2))};
}

bool is_dead_letter_key(std::string_view key) {
  return (key.size() == 1 + kDeadLetterBytes || key.size() == 3 + kDeadLetterBytes) && key[0] == '\x02';
}

std::string encode_dead_letter_row(const DeadLetterRow& row) {
  std::string value;
  append_big(value, row.number);
  append_big(value, static_cast<std::int64_t>(row.time.time_since_epoch().count()));
  append_big(value, row.pieces);
  return value + row.reason;
}

std::optional<DeadLetterRow> parse_dead_letter_row(std::string_view value) {
  if (value.size() < 18) return std::nullopt;
  DeadLetterRow row;
  row.number = load_big<std::uint64_t>(value.data());
  row.time = WallTime(std::chrono::microseconds(load_big<std::int64_t>(value.data() + 8)));
  row.pieces = load_big<std::uint16_t>(value.data() + 16);
  row.reason = value.substr(18);
  if (row.pieces == 0) return std::nullopt;
  return row;
}

std::string encode_marks(const Marks& marks) {
  std::string value;
  append_big(value, marks.last.value());
  append_big(value, marks.delivered.value());
  append_big(value, marks.dropped.value());
  return value;
}

std::optional<Marks> parse_marks(std::string_view value) {
  if (value.size() != 24) return std::nullopt;
  auto at = [&](std::size_t offset) { return Sequence(load_big<std::uint64_t>(value.data() + offset)); };
  return Marks{at(0), at(8), at(16)};
}

std::string encode_sealed(const Sealed& sealed) {
  std::string value;
  append_big(value, sealed.records);
  append_big(value, sealed.rows);
  return value;
}

std::optional<Sealed> parse_sealed(std::string_view value) {
  if (value.size() != 16) return std::nullopt;
  return Sealed{load_big<std::uint64_t>(value.data()), load_big<std::uint64_t>(value.data() + 8)};
}

std::string encode_epoch(const EpochRow& row) {
  std::string value;
  append_id(value, row.epoch);
  append_id(value, row.forked_from);
  append_firsts(value, row.first);
  return value;
}

std::optional<EpochRow> parse_epoch(std::string_view value) {
  if (value.size() < 2 * kIdBytes) return std::nullopt;
  auto firsts = parse_firsts(value.substr(2 * kIdBytes));
  if (!firsts) return std::nullopt;
  return EpochRow{read_id<Epoch>(value.data()), read_id<Digest>(value.data() + kIdBytes), std::move(*firsts)};
}

std::string encode_run(const RunRow& row) {
  std::string value;
  append_id(value, row.run);
  append_id(value, row.epoch);
  append_firsts(value, row.first);
  return value;
}

std::optional<RunRow> parse_run(std::string_view value) {
  if (value.size() < 2 * kIdBytes) return std::nullopt;
  auto firsts = parse_firsts(value.substr(2 * kIdBytes));
  if (!firsts) return std::nullopt;
  return RunRow{read_id<Run>(value.data()), read_id<Epoch>(value.data() + kIdBytes), std::move(*firsts)};
}

std::string encode_ledger_entry(const LedgerEntry& entry) {
  std::string value;
  value += static_cast<char>(entry.cause);
  value += '\0';
  append_big(value, number(entry.lane));
  append_big(value, entry.first.value());
  append_big(value, entry.last.value());
  append_big(value, entry.count);
  append_big(value, static_cast<std::int64_t>(entry.time.time_since_epoch().count()));
  return value;
}

std::optional<LedgerEntry> parse_ledger_entry(std::string_view value) {
  if (value.size() != 36 || value[0] < 1 || value[0] > 8) return std::nullopt;
  LedgerEntry entry;
  entry.cause = static_cast<Cause>(value[0]);
  entry.lane = Lane{load_big<std::uint16_t>(value.data() + 2)};
  entry.first = Sequence(load_big<std::uint64_t>(value.data() + 4));
  entry.last = Sequence(load_big<std::uint64_t>(value.data() + 12));
  entry.count = load_big<std::uint64_t>(value.data() + 20);
  entry.time = WallTime(std::chrono::microseconds(load_big<std::int64_t>(value.data() + 28)));
  return entry;
}

}  // namespace penstock
