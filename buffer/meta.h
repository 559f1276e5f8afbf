// Keys of the store and the values of its small rows (docs/formats.md, "The store"). Pure functions; parsing a value
// checks its length and gives nothing when it is wrong.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "buffer/history.h"
#include "buffer/identity.h"
#include "buffer/ledger.h"

namespace penstock {

/// `00` name
std::string meta_key(std::string_view name);
std::string lane_key(Lane lane);
std::string marks_key(Lane lane);
std::string epoch_key(std::uint32_t index);
std::string run_key(std::uint32_t index);
std::string ledger_key(std::uint64_t number);
std::string state_key(std::string_view driver, std::string_view name);
/// `01` lane, sequence; the key of a block and of a large record's fragment 0
std::string block_key(Lane lane, Sequence first);
std::string fragment_key(Lane lane, Sequence sequence, std::uint16_t fragment);

struct BlockKey {
  Lane lane{};
  Sequence first;
  std::uint16_t fragment = 0;  // 0: the key itself
};
/// Nothing: not a key under `01`.
std::optional<BlockKey> parse_block_key(std::string_view key);

/// `02` epoch, lane, sequence; the key of a dead letter, and with a fragment behind it of the pieces of a large one
std::string dead_letter_key(const DeadLetterId& id, std::uint16_t fragment);
/// Of what is said about it; and back.
std::string dead_letter_row_key(const DeadLetterId& id);
std::optional<DeadLetterId> parse_dead_letter_row_key(std::string_view key);
bool is_dead_letter_key(std::string_view key);

struct DeadLetterRow {
  std::uint64_t number = 0;  // the lower the older
  WallTime time{};           // when it was set aside
  std::uint16_t pieces = 1;  // values under `02`
  std::string reason;
};
std::string encode_dead_letter_row(const DeadLetterRow& row);
std::optional<DeadLetterRow> parse_dead_letter_row(std::string_view value);

struct Marks {
  Sequence last, delivered, dropped;
  bool operator==(const Marks&) const = default;
};
std::string encode_marks(const Marks& marks);
std::optional<Marks> parse_marks(std::string_view value);

/// How far LMDB is with the journal.
struct Sealed {
  std::uint64_t records = 0;  // it has the records up to this frame
  std::uint64_t rows = 0;     // ...and the small rows up to this one
};
std::string encode_sealed(const Sealed& sealed);
std::optional<Sealed> parse_sealed(std::string_view value);

using LaneFirsts = std::map<Lane, Sequence>;

struct EpochRow {
  Epoch epoch;
  Digest forked_from;
  LaneFirsts first;
};
std::string encode_epoch(const EpochRow& row);
std::optional<EpochRow> parse_epoch(std::string_view value);

struct RunRow {
  Run run;
  Epoch epoch;
  LaneFirsts first;
};
std::string encode_run(const RunRow& row);
std::optional<RunRow> parse_run(std::string_view value);

std::string encode_ledger_entry(const LedgerEntry& entry);
std::optional<LedgerEntry> parse_ledger_entry(std::string_view value);

}  // namespace penstock
