// PageCheck: proves that LMDB can be given a file, before it is: it checks nothing itself and follows every pointer.
//
// Read are the two meta pages, all branch and leaf pages and the free list: what says where anything lies. They must be
// exactly as LMDB writes them, every small row must hold its check, no page may be used twice, and LMDB's own counts
// must come out. The blocks' pages are not read (they have checksums, and a store may be large): one page in some 130.
// So nothing that lay damaged before the store was opened makes LMDB crash, loop, or lose its way.
#pragma once

#include <cstdint>
#include <string>

#include "buffer/pages.h"

namespace penstock {

struct PageCheck {
  std::string damage;         // empty: there is none
  bool newer_format = false;  // no damage: the file is a later LMDB's
  std::uint64_t pages_read = 0;
};

enum class Depth {
  structure,  // what is said above
  all,        // and every page of a block: that it can be read and that its header is right
};

PageCheck check_pages(const PageSource& pages, Depth depth = Depth::structure);

}  // namespace penstock
