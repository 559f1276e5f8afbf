#include "buffer/page_check.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

#include "buffer/meta.h"
#include "buffer/row_check.h"

namespace penstock {
namespace {

constexpr std::uint16_t kIntegerKey = 8;
constexpr std::size_t kBlockKeyBytes = 11;  // without a fragment's number
constexpr std::uint64_t kMostUnwritten = 4096;

class Checking {
 public:
  Checking(const PageSource& pages, Depth depth) : pages_(pages), depth_(depth) {}

  PageCheck run() {
    check_metas();
    if (found_.damage.empty() && !found_.newer_format) {
      seen_.resize(static_cast<std::size_t>(meta_.last_page + 1));
      check_tree(meta_.main, "the tree of rows", false);
      check_tree(meta_.free, "the free list", true);
      if (taken_ + 1 != meta_.last_page)
        damaged(fmt::format("{} pages are accounted for, of {}", taken_ + 2, meta_.last_page + 1));
      // A check does not hold by chance: where one row has it, all must.
      if (checked_ != 0 && unchecked_ != 0) damaged(fmt::format("{} small rows fail their check", unchecked_));
      if (!format_) damaged("the row \"format\" is missing");
    }
    return std::move(found_);
  }

 private:
  struct Level {
    std::string bytes;
    std::uint64_t number = 0;
  };
  struct Bounds {
    std::optional<std::string> low, high;  // of keys: low <= key < high
  };
  struct Counts {
    std::uint64_t branch = 0, leaf = 0, overflow = 0, entries = 0;
  };

  bool damaged(std::string what) {
    if (found_.damage.empty()) found_.damage = std::move(what);
    return false;
  }

  bool read(std::uint64_t number, std::string& into) {
    into.resize(pages_.page_bytes());
    ++found_.pages_read;
    return pages_.read(number, into.data());
  }

  /// LMDB writes snapshot n to meta page n % 2, so the two must be neighbours; otherwise one of them is not what was
  /// written last, and commits would be lost without a trace.
  void check_metas() {
    std::optional<MetaPage> metas[2];
    for (std::uint64_t i = 0; i < 2; ++i) {
      std::string bytes;
      if (!read(i, bytes)) {
        damaged(fmt::format("meta page {} cannot be read", i));
        return;
      }
      metas[i] = parse_meta_page(bytes, i);
    }
    if (metas[0] && metas[1] && metas[0]->version == metas[1]->version && metas[0]->version > kMetaVersion) {
      found_.newer_format = true;
      return;
    }
    for (std::uint64_t i = 0; i < 2; ++i) {
      const auto& meta = metas[i];
      if (!meta || meta->version != kMetaVersion) {
        damaged(fmt::format("page {} is no meta page", i));
        return;
      }
      if (meta->page_bytes != pages_.page_bytes()) {
        damaged(fmt::format("meta page {} speaks of pages of {} bytes", i, meta->page_bytes));
        return;
      }
      if (meta->snapshot % 2 != i && meta->snapshot != 0) {
        damaged(fmt::format("meta page {} has snapshot {}", i, meta->snapshot));
        return;
      }
    }
    auto older = std::min(metas[0]->snapshot, metas[1]->snapshot);
    meta_ = metas[1]->snapshot > metas[0]->snapshot ? *metas[1] : *metas[0];
    if (meta_.snapshot - older != 1) {
      damaged(fmt::format("snapshots {} and {} are no neighbours", older, meta_.snapshot));
      return;
    }
    // The last pages may be free and never have been written.
    if (meta_.last_page < 1 || meta_.last_page > 2 * pages_.count() + kMostUnwritten) {
      damaged(fmt::format("the last page is {}, the file has {}", meta_.last_page, pages_.count()));
      return;
    }
    if (meta_.free.flags != kIntegerKey || meta_.main.flags != 0) damaged("the flags of the meta page");
  }

  bool take(std::uint64_t first, std::uint64_t count, std::string_view by, bool is_free = false) {
    for (std::uint64_t page = first; page - first < count; ++page) {
      if (page < 2 || page > meta_.last_page || (!is_free && page >= pages_.count()))
        return damaged(fmt::format("{} speaks of page {}", by, page));
      if (seen_[static_cast<std::size_t>(page)]) return damaged(fmt::format("page {} is used twice", page));
      seen_[static_cast<std::size_t>(page)] = true;
      ++taken_;
    }
    return true;
  }

  bool check_tree(const Tree& tree, std::string_view name, bool free) {
    if (!found_.damage.empty()) return false;
    Counts counts;
    if (tree.depth > kMostTreeDepth || (tree.depth == 0) != tree.empty())
      return damaged(fmt::format("{}: depth", name));
    if (!tree.empty() && !check_page(tree.root, tree.depth, {}, name, free, counts)) return false;
    if (counts.branch != tree.branch_pages || counts.leaf != tree.leaf_pages ||
        counts.overflow != tree.overflow_pages || counts.entries != tree.entries) {
      return damaged(fmt::format("{}: {} + {} + {} pages and {} entries were found, {} + {} + {} and {} should be",
                                 name, counts.branch, counts.leaf, counts.overflow, counts.entries, tree.branch_pages,
                                 tree.leaf_pages, tree.overflow_pages, tree.entries));
    }
    return true;
  }

  bool check_page(std::uint64_t number, std::size_t height, const Bounds& bounds, std::string_view name, bool free,
                  Counts& counts) {
    if (!take(number, 1, name)) return false;
    std::string bytes;
    if (!read(number, bytes)) return damaged(fmt::format("{}: page {} cannot be read", name, number));
    const bool leaf = height == 1;
    auto nodes = strict_nodes(bytes, number, leaf ? PageKind::leaf : PageKind::branch);
    if (!nodes || nodes->empty() || (!leaf && !free && nodes->size() < 2)) {
      return damaged(fmt::format("{}: page {} is no {}", name, number, leaf ? "leaf" : "branch"));
    }
    ++(leaf ? counts.leaf : counts.branch);
    for (std::size_t i = leaf ? 0 : 1; i < nodes->size(); ++i) {  // the first key of a branch means nothing
      if (!in_order(*nodes, i, leaf, bounds, free)) {
        return damaged(fmt::format("{}: page {} is not in order", name, number));
      }
    }
    if (leaf) {
      counts.entries += nodes->size();
      for (const auto& node : *nodes) {
        if (!(free ? check_free(node, counts) : check_row(node, counts))) return false;
      }
      return true;
    }
    if (height == 2 && nodes->size() > 2) {
      for (const auto& node : *nodes) pages_.announce(node.child);
    }
    for (std::size_t i = 0; i < nodes->size(); ++i) {
      Bounds below = bounds;
      if (i > 0) below.low = (*nodes)[i].key;
      if (i + 1 < nodes->size()) below.high = (*nodes)[i + 1].key;
      if (!check_page((*nodes)[i].child, height - 1, below, name, free, counts)) return false;
    }
    return true;
  }

  static bool less(std::string_view a, std::string_view b, bool free) {
    if (!free) return a < b;
    return a.size() == kPageWord && b.size() == kPageWord && page_word(a.data()) < page_word(b.data());
  }

  static bool in_order(const std::vector<Node>& nodes, std::size_t i, bool leaf, const Bounds& bounds, bool free) {
    auto key = nodes[i].key;
    if (free ? key.size() != kPageWord : key.empty()) return false;
    if (i > (leaf ? 0 : 1) && !less(nodes[i - 1].key, key, free)) return false;
    if (i == (leaf ? 0u : 1u) && bounds.low && less(key, *bounds.low, free)) return false;
    return i + 1 != nodes.size() || !bounds.high || less(key, *bounds.high, free);
  }

  /// Whatever has fragments has all of them up to its last: a key that turned within its order would hide records.
  bool key_follows(std::string_view key) {
    if (is_small_row(key)) return true;
    auto before = std::exchange(block_before_, parse_block_key(key));
    if (key[0] != '\x01') return true;
    if (!block_before_ || block_before_->first == Sequence()) return false;
    if (key.size() == kBlockKeyBytes) return true;
    return before && before->lane == block_before_->lane && before->first == block_before_->first &&
           before->fragment + 1 == block_before_->fragment;
  }

  bool check_row(const Node& node, Counts& counts) {
    if (!key_follows(node.key)) return damaged("a block's key is out of place");
    std::string big;
    auto value = node.value;
    if (node.big) {
      auto pages = pages_of_value(node.length, pages_.page_bytes());
      counts.overflow += pages;
      if (!take(node.child, pages, "the tree of rows")) return false;
      if (!is_small_row(node.key)) return depth_ == Depth::structure || check_overflow(node.child, pages);
      if (!read_big(node, pages, big)) return false;
      value = big;
    }
    if (!is_small_row(node.key)) return true;
    ++(without_check(node.key, value) ? checked_ : unchecked_);
    format_ = format_ || node.key == meta_key("format");
    return true;
  }

  bool check_overflow(std::uint64_t number, std::uint64_t pages) {
    std::string bytes;
    if (!read(number, bytes)) return damaged(fmt::format("page {} cannot be read", number));
    return is_overflow_page(bytes, number, pages) || damaged(fmt::format("page {} has another header", number));
  }

  bool read_big(const Node& node, std::uint64_t pages, std::string& into) {
    std::string bytes;
    for (std::uint64_t i = 0; i < pages; ++i) {
      if (!read(node.child + i, bytes)) return damaged(fmt::format("page {} cannot be read", node.child + i));
      if (i == 0 && !is_overflow_page(bytes, node.child, pages)) {
        return damaged(fmt::format("page {} has another header", node.child));
      }
      into += bytes;
    }
    into = into.substr(kPageHeaderBytes, static_cast<std::size_t>(node.length));
    return true;
  }

  /// A list of pages: how many, and their numbers, falling.
  bool check_free(const Node& node, Counts& counts) {
    std::string big;
    auto value = node.value;
    if (node.big) {
      auto pages = pages_of_value(node.length, pages_.page_bytes());
      counts.overflow += pages;
      if (!take(node.child, pages, "the free list")) return false;
      if (!read_big(node, pages, big)) return false;
      value = big;
    }
    if (value.size() < kPageWord || value.size() % kPageWord != 0) return damaged("the free list: a list's length");
    std::uint64_t count = page_word(value.data()), before = UINT64_MAX;
    if (count > value.size() / kPageWord - 1) return damaged("the free list: a list's count");
    for (std::uint64_t i = 1; i <= count; ++i) {
      std::uint64_t page = page_word(value.data() + i * kPageWord);
      if (page >= before) return damaged("the free list is not in order");
      before = page;
      if (!take(page, 1, "the free list", true)) return false;
    }
    return true;
  }

  const PageSource& pages_;
  const Depth depth_;
  PageCheck found_;
  MetaPage meta_;
  std::vector<bool> seen_;
  std::uint64_t taken_ = 0;
  std::optional<BlockKey> block_before_;
  std::uint64_t checked_ = 0, unchecked_ = 0;
  bool format_ = false;
};

}  // namespace

PageCheck check_pages(const PageSource& pages, Depth depth) { return Checking(pages, depth).run(); }

}  // namespace penstock
