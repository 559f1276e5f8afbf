// PageScan: what can still be told from a damaged store's pages: small rows, and where whole blocks lie.
//
// It trusts nothing but checksums. Every readable page is looked at, whether any tree still leads to it or not, except
// for pages that the newest snapshot has free: what lies there was replaced, or was never committed. When it cannot be
// known which snapshot was the newest, all pages are looked at, and of several versions the newer is taken as far as that
// can be told.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "buffer/block.h"
#include "buffer/pages.h"

namespace penstock {

/// One value that is a whole block, or one fragment of a large record.
struct FoundBlock {
  Sequence first, last;
  std::uint32_t page = 0;
  std::uint32_t run = 0, epoch = 0;  // indexes into PageScan::runs and epochs
  std::uint16_t offset = 0, length = 0;
  std::uint16_t fragment = 0, fragments = 0;
  Lane lane{};
  bool current = false;  // the newest snapshot holds it
};

struct FoundRow {
  std::string value;
  bool current = false;  // the newest snapshot holds it
};

struct PageScan {
  std::uint64_t pages = 0, unreadable = 0;
  std::uint64_t used = 0;  // pages up to the last one that holds anything but zeros
  /// Both meta pages are whole: it is known which snapshot is the newest.
  bool newest_known = false;
  /// ...and all of its small rows were read: rows that are missing were erased.
  bool rows_complete = false;
  std::vector<FoundBlock> blocks;
  std::vector<FoundBlock> dead_letters;  // they lie under other keys, and belong to no lane's order
  std::vector<Run> runs;
  std::vector<Epoch> epochs;
  /// By key. Of marks the highest of each, of ledger entries the widest, unless the newest snapshot has them.
  std::map<std::string, FoundRow> rows;
};

/// `progress`: called now and then.
PageScan scan_pages(const PageSource& pages, const std::function<void()>& progress);

}  // namespace penstock
