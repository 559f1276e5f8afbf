// Salvage: makes a new environment of what a damaged one still holds.
//
// Kept are the small rows, the dead letters and every whole block that was not delivered or given up; of versions that
// overlap the one the newest snapshot holds, else that of the newer run, else the one with more records. What is missing before
// something that is kept is entered in the ledger as damaged; behind the last block the journal may have it, and if not
// the store enters it when it comes to it. The damaged file is only read.
//
// Small rows that the journal has, too, are taken from there, unless the newest snapshot holds newer ones: a row that was lost
// with its page would else come back as an older page has it, and the store would believe that. They become part of the new
// environment, so that the journal does not put them over what is entered here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "buffer/clock.h"
#include "buffer/frame.h"
#include "buffer/identity.h"
#include "buffer/pages.h"
#include "buffer/result.h"

namespace penstock {

/// What a frame of the journal says of small rows.
struct FrameRows {
  std::uint64_t frame = 0;
  Rows rows;
};

struct SalvageSettings {
  std::filesystem::path directory;  // exists and is empty: the new environment goes here
  std::uint64_t capacity_bytes = 0;
  std::vector<std::string> lanes;  // as configured: names for lanes whose names are lost
  std::uint32_t format = 1;        // when that row is lost
  std::vector<Epoch> epochs;       // that the journal speaks of: its records shall find a store that knows them
  std::size_t lanes_seen = 0;      // that the journal speaks of
  std::vector<FrameRows> journal;  // all that it has, by number
  WallTime now{};
  std::function<void()> progress;  // called now and then; may be empty
};

struct Salvaged {
  std::uint64_t pages = 0, unreadable_pages = 0;
  std::uint64_t used_pages = 0;  // of the damaged file: what lies behind is zeros
  std::uint64_t blocks = 0, records = 0;
  std::uint64_t lost = 0;              // records, entered in the ledger
  bool newest_may_be_missing = false;  // what the last commits brought may be missing without a trace
  bool states_may_be_old = false;      // and what drivers remembered may be that of an earlier commit
  bool new_epoch = false;              // the chain of epochs was lost: undelivered records belong to a new one
};

/// `rejected` with `nothing`: nothing was found that could be kept. `full`: the disk has no room for it.
Result<Salvaged> salvage(const PageSource& pages, const SalvageSettings& settings, bool* nothing);

}  // namespace penstock
