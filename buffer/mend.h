// Mend: looks at a store's data before LMDB may open it, and makes it whole again when it is damaged.
//
// At every open the file's structure is proven (buffer/page_check.h). With the mark `suspect` every page is read, and LMDB
// itself walks over everything in a child process with a time limit: a crash, a hang or an error there is damage too.
// Damage leads to a salvage (buffer/salvage.h) into `salvaged/`, from where the new file takes the place of the damaged
// one, which stays as `damaged.mdb`, the newest such file only, as long as the disk has room for what the store may yet
// need. If nothing can be salvaged, and no frame of the journal either, the file is moved aside all the same, the
// journal as `damaged.journal`, and the store begins anew.
//
// A crash at any instant: until `salvaged/complete` exists nothing but `salvaged/` was touched, and it is made again; from
// then on the next open takes the switch up where it was.
//
// Nothing is touched for a reason that is no damage: newer format, permission, memory, a full disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "buffer/clock.h"
#include "buffer/manifest.h"
#include "buffer/result.h"

namespace penstock {

/// What was done before the store was opened.
struct Mended {
  enum class Outcome {
    found_whole,  // it was suspect, and is not damaged
    salvaged,
    begun_anew,  // nothing could be kept
  };
  Outcome outcome = Outcome::found_whole;
  std::string why;
  std::uint64_t pages = 0, unreadable_pages = 0;
  std::uint64_t blocks = 0, records = 0, lost = 0;
  bool newest_may_be_missing = false, states_may_be_old = false, new_epoch = false;
  std::string kept_as;  // where the damaged file lies; empty: the disk had no room for it
  bool operator==(const Mended&) const = default;
};
/// In one line, for the log.
std::string describe(const Mended& mended);

struct MendSettings {
  std::uint64_t capacity_bytes = 0;
  std::vector<std::string> lanes;
  WallTime now{};
  std::function<void()> progress;  // called now and then while a file is read or written; may be empty
};

/// Nothing: there was nothing to do. `manifest`: as read from the directory. After `begun_anew` the directory has no store any more. The manifest may have been
/// changed. `rejected`, `full`: nothing was touched. `broken`: the disk cannot be used.
Result<std::optional<Mended>> mend(const StoreDirectory& directory, const Manifest& manifest,
                                   const MendSettings& settings);

}  // namespace penstock
