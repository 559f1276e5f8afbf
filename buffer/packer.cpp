#include "buffer/packer.h"

#include <algorithm>

#include "buffer/meta.h"

namespace penstock {
namespace {

// A block this full is closed: trying for the last few bytes would compress it again for nothing.
constexpr double kFullEnough = 0.92;
// How far below the page the estimate aims.
constexpr double kAim = 0.97;

}  // namespace

std::size_t Packer::probe_at(std::size_t room) const {
  auto estimate = static_cast<std::size_t>(static_cast<double>(room) / std::max(ratio_, 0.001) * kAim);
  return std::clamp(estimate, room + 1, kMostRawBytes);
}

void Packer::pack(std::span<const Record* const> records, Sequence next, const BlockStamp& stamp, BlockCoder& coder,
                  std::vector<Row>& rows) {
  draft_ = open_;
  draft_first_ = open_first_;
  draft_stamp_ = open_stamp_;
  if (draft_.count() != 0 && draft_stamp_ != stamp) draft_.clear();
  std::size_t kept = draft_.count();  // of the draft, what is on disk already under its key
  std::size_t probe = probe_at(coder.room());

  for (std::size_t i = 0; i < records.size();) {
    if (draft_.count() == 0) {
      draft_first_ = Sequence(next.value() + i);
      draft_stamp_ = stamp;
      kept = 0;
    }
    draft_.append(*records[i++]);
    bool last = i == records.size();
    if (draft_.raw_bytes() < probe && !last) continue;

    auto encoded = coder.encode(stamp, draft_first_, draft_);
    auto raw = static_cast<double>(draft_.raw_bytes());
    auto stored = static_cast<double>(encoded.stored_length);
    if (draft_.raw_bytes() > coder.room()) ratio_ += 0.3 * (stored / raw - ratio_);
    if (encoded.value.empty()) {
      i -= settle_overflow(kept, encoded.stored_length, stamp, coder, rows);
      draft_.clear();
      probe = probe_at(coder.room());
      continue;
    }
    bool full = stored >= kFullEnough * static_cast<double>(coder.room()) || draft_.raw_bytes() >= kMostRawBytes;
    if (full || last) rows.push_back({block_key(stamp.lane, draft_first_), std::move(encoded.value)});
    if (full) {
      draft_.clear();
      probe = probe_at(coder.room());
    } else if (stored > 0) {
      auto again = static_cast<std::size_t>(raw * kAim * static_cast<double>(coder.room()) / stored);
      probe = std::clamp(again, draft_.raw_bytes() + 64, kMostRawBytes + 64);
    }
  }
}

/// The draft is too long for a page: writes as much of it as fits and says how many of its last records must be packed
/// again into the next block.
std::size_t Packer::settle_overflow(std::size_t kept, std::size_t stored, const BlockStamp& stamp, BlockCoder& coder,
                                    std::vector<Row>& rows) {
  const std::size_t all = draft_.count();
  while (draft_.count() > 1) {
    double share = kAim * static_cast<double>(coder.room()) / static_cast<double>(stored);
    auto raw = static_cast<std::size_t>(static_cast<double>(draft_.raw_bytes()) * share);
    std::size_t count = std::clamp<std::size_t>(draft_.count_within(raw), 1, draft_.count() - 1);
    if (count <= kept) return all - kept;  // the block on disk stays as it is
    draft_.cut(count);
    auto encoded = coder.encode(stamp, draft_first_, draft_);
    if (!encoded.value.empty()) {
      rows.push_back({block_key(stamp.lane, draft_first_), std::move(encoded.value)});
      return all - count;
    }
    stored = encoded.stored_length;
  }
  auto pieces = coder.fragments(stamp, draft_first_, draft_);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    rows.push_back({fragment_key(stamp.lane, draft_first_, static_cast<std::uint16_t>(i)), std::move(pieces[i])});
  }
  return all - 1;
}

void Packer::rewrite(BlockCoder& coder, std::vector<Row>& rows) const {
  if (!open()) return;
  auto encoded = coder.encode(open_stamp_, open_first_, open_);
  if (!encoded.value.empty()) rows.push_back({block_key(open_stamp_.lane, open_first_), std::move(encoded.value)});
}

void Packer::accept() {
  std::swap(open_, draft_);
  open_first_ = draft_first_;
  open_stamp_ = draft_stamp_;
}

void Packer::close() { open_.clear(); }

}  // namespace penstock
