#include "buffer/page_scan.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "buffer/meta.h"
#include "buffer/row_check.h"

namespace penstock {
namespace {

constexpr std::uint64_t kPagesPerProgress = 4096;

bool has_name(std::string_view key, std::string_view name, std::size_t number_bytes) {
  return key.size() == 1 + name.size() + number_bytes && key.substr(1, name.size()) == name;
}

/// What there is when two versions of a row were found and neither is known to be the newer.
std::string merge(std::string_view key, const std::string& a, std::string_view b) {
  if (has_name(key, "marks", 2)) {
    auto one = parse_marks(a), other = parse_marks(b);
    if (one && other) {  // marks only rise
      return encode_marks({std::max(one->last, other->last), std::max(one->delivered, other->delivered),
                           std::max(one->dropped, other->dropped)});
    }
  }
  if (has_name(key, "ledger", 8)) {
    auto one = parse_ledger_entry(a), other = parse_ledger_entry(b);
    if (one && other) return other->count > one->count ? std::string(b) : a;
  }
  if (key == meta_key("ledger_last")) return std::max(a, std::string(b));
  return a;
}

/// Without checks, a row must at least look like one of ours.
bool looks_right(std::string_view key, std::string_view value) {
  if (has_name(key, "lane", 2)) return !value.empty() && value.size() <= 255;
  if (has_name(key, "marks", 2)) return parse_marks(value).has_value();
  if (has_name(key, "epoch", 4)) return parse_epoch(value).has_value();
  if (has_name(key, "run", 4)) return parse_run(value).has_value();
  if (has_name(key, "ledger", 8)) return parse_ledger_entry(value).has_value();
  if (key == meta_key("ledger_last")) return value.size() == 8;
  if (key == meta_key("format")) return value.size() == 4;
  return key.size() > 1 && key[1] >= 'a' && key[1] <= 'z';
}

class Scanning {
 public:
  Scanning(const PageSource& pages, const std::function<void()>& progress) : pages_(pages), progress_(progress) {}

  PageScan run() {
    found_.pages = pages_.count();
    auto pages = static_cast<std::size_t>(found_.pages);
    block_pages_.resize(pages);
    leaf_pages_.resize(pages);
    free_pages_.resize(pages);
    visited_.resize(pages);
    find_newest();
    std::string page(pages_.page_bytes(), '\0');
    for (std::uint64_t i = 0; i < found_.pages; ++i) {
      if (i % kPagesPerProgress == 0 && progress_) progress_();
      if (!pages_.read(i, page.data())) {
        ++found_.unreadable;
        continue;
      }
      if (page.find_first_not_of('\0') == std::string::npos) continue;
      found_.used = i + 1;
      if (i >= 2) look_at(i, page);
    }
    // A store whose rows have checks has no others; an older one has none.
    found_.rows = checked_.empty() ? std::move(unchecked_) : std::move(checked_);
    if (found_.rows_complete) std::erase_if(found_.rows, [](const auto& row) { return !row.second.current; });
    return std::move(found_);
  }

 private:
  bool on(const std::vector<bool>& set, std::uint64_t page) const {
    return page < set.size() && set[static_cast<std::size_t>(page)];
  }
  void put(std::vector<bool>& set, std::uint64_t page) {
    if (page < set.size()) set[static_cast<std::size_t>(page)] = true;
  }

  void find_newest() {
    std::optional<MetaPage> metas[2];
    for (std::uint64_t i = 0; i < 2; ++i) {
      std::string page(pages_.page_bytes(), '\0');
      if (!pages_.read(i, page.data())) return;
      metas[i] = parse_meta_page(page, i);
      if (!metas[i] || metas[i]->version != kMetaVersion || metas[i]->page_bytes != pages_.page_bytes()) return;
      if (metas[i]->snapshot % 2 != i && metas[i]->snapshot != 0) return;
    }
    const auto& newest = metas[1]->snapshot > metas[0]->snapshot ? *metas[1] : *metas[0];
    const auto& older = metas[1]->snapshot > metas[0]->snapshot ? *metas[0] : *metas[1];
    if (newest.snapshot - older.snapshot != 1) return;
    found_.newest_known = found_.rows_complete = true;
    last_page_ = newest.last_page;
    if (!newest.main.empty()) walk(newest.main.root, newest.main.depth, {}, true);
    if (!newest.free.empty()) walk_free(newest.free.root, newest.free.depth);
    for (std::size_t page = 0; page < free_pages_.size(); ++page) {
      bool both = free_pages_[page] && visited_[page];
      if (both || (visited_[page] && page > last_page_)) found_.newest_known = found_.rows_complete = false;
    }
  }

  struct Bounds {
    std::optional<std::string> low, high;  // of keys: low <= key < high
    bool hold(std::string_view key) const { return (!low || key >= *low) && (!high || key < *high); }
  };

  /// As far as the tree goes. `rows`: there may be small rows below.
  void walk(std::uint64_t number, std::size_t height, const Bounds& bounds, bool rows) {
    std::string page(pages_.page_bytes(), '\0');
    const bool leaf = height == 1;
    bool whole = height >= 1 && height <= kMostTreeDepth && number >= 2 && !on(visited_, number);
    whole = whole && pages_.read(number, page.data());
    put(visited_, number);
    auto nodes = whole ? strict_nodes(page, number, leaf ? PageKind::leaf : PageKind::branch) : std::nullopt;
    for (std::size_t i = leaf ? 0 : 1; nodes && i < nodes->size(); ++i) {
      if (!bounds.hold((*nodes)[i].key)) whole = false;  // another page than the one that belongs here
    }
    if (whole && leaf) put(leaf_pages_, number);
    if (!nodes || !whole) {
      found_.rows_complete = found_.rows_complete && !rows;
      return;
    }
    for (std::size_t i = 0; i < nodes->size(); ++i) {
      const auto& node = (*nodes)[i];
      if (leaf) {
        if (node.big) put(block_pages_, node.child);
        bool holds = !is_small_row(node.key) || (!node.big && without_check(node.key, node.value));
        found_.rows_complete = found_.rows_complete && holds;
        continue;
      }
      Bounds below = bounds;
      if (i > 0) below.low = node.key;
      if (i + 1 < nodes->size()) below.high = (*nodes)[i + 1].key;
      walk(node.child, height - 1, below, rows && (i == 0 || is_small_row(node.key)));
    }
  }

  void walk_free(std::uint64_t number, std::size_t height) {
    std::string page(pages_.page_bytes(), '\0');
    if (height < 1 || height > kMostTreeDepth || number < 2 || on(free_pages_, number)) return;
    if (!pages_.read(number, page.data())) return;
    auto nodes = strict_nodes(page, number, height == 1 ? PageKind::leaf : PageKind::branch);
    if (!nodes) return;
    put(free_pages_, number);
    for (const auto& node : *nodes) {
      if (height > 1) {
        walk_free(node.child, height - 1);
        continue;
      }
      std::string big;
      auto list = node.value;
      for (std::uint64_t i = 0; node.big && i < pages_of_value(node.length, pages_.page_bytes()); ++i) {
        if (!pages_.read(node.child + i, page.data())) break;
        big += page;
      }
      if (node.big) list = std::string_view(big).substr(std::min(big.size(), kPageHeaderBytes));
      std::uint64_t count = list.size() < kPageWord ? 0 : page_word(list.data());
      for (std::uint64_t i = 1; i <= count && (i + 1) * kPageWord <= list.size(); ++i) {
        put(free_pages_, page_word(list.data() + i * kPageWord));
      }
    }
  }

  void look_at(std::uint64_t number, std::string_view page) {
    // What the newest snapshot holds there: a leaf in the place of a block, or the other way round, is not from it.
    const bool block = found_.newest_known && on(block_pages_, number);
    const bool current = found_.newest_known && on(leaf_pages_, number);
    if (found_.newest_known && !block && !current && (on(free_pages_, number) || number > last_page_)) return;
    if (page.substr(kPageHeaderBytes, 4) == "PSBK") {
      take_block(number, page, kPageHeaderBytes, page.size() - kPageHeaderBytes, block);
      return;
    }
    for (const auto& node : some_nodes(page)) {
      if (is_small_row(node.key)) {
        take_row(node, page, current);
      } else if (!node.big && (parse_block_key(node.key) || is_dead_letter_key(node.key))) {
        auto offset = static_cast<std::size_t>(node.value.data() - page.data());
        take_block(number, page, offset, node.value.size(), current);
      }
    }
  }

  /// A value that fills a page says itself how long it is.
  void take_block(std::uint64_t number, std::string_view page, std::size_t offset, std::size_t room, bool current) {
    if (room < kBlockHeaderBytes || number > std::numeric_limits<std::uint32_t>::max()) return;
    std::uint32_t stored = 0;
    for (std::size_t i = 4; i-- > 0;) stored = stored << 8 | static_cast<unsigned char>(page[offset + 80 + i]);
    std::size_t length = std::min<std::uint64_t>(room, std::uint64_t{kBlockHeaderBytes} + stored);
    auto header = check_block(page.substr(offset, length));
    if (!header) return;
    FoundBlock block;
    block.lane = header->stamp.lane;
    block.first = header->first;
    block.last = header->last;
    block.page = static_cast<std::uint32_t>(number);
    block.offset = static_cast<std::uint16_t>(offset);
    block.length = static_cast<std::uint16_t>(length);
    block.run = index_of(found_.runs, header->stamp.run);
    block.epoch = index_of(found_.epochs, header->stamp.epoch);
    block.fragment = header->fragment;
    block.fragments = header->fragments;
    block.current = current;
    (header->stamp.dead_letter ? found_.dead_letters : found_.blocks).push_back(block);
  }

  template <class IdType>
  static std::uint32_t index_of(std::vector<IdType>& known, const IdType& id) {
    auto found = std::find(known.rbegin(), known.rend(), id);  // mostly the newest
    if (found != known.rend()) return static_cast<std::uint32_t>(known.rend() - found - 1);
    known.push_back(id);
    return static_cast<std::uint32_t>(known.size() - 1);
  }

  void take_row(const Node& node, std::string_view page, bool current) {
    std::string big;
    auto stored = node.value;
    if (node.big) {
      std::string bytes(page.size(), '\0');
      auto pages = pages_of_value(node.length, page.size());
      if (node.child < 2 || node.child >= found_.pages || pages > found_.pages - node.child) return;
      for (std::uint64_t i = 0; i < pages; ++i) {
        if (!pages_.read(node.child + i, bytes.data())) return;
        big += bytes;
      }
      stored = std::string_view(big).substr(kPageHeaderBytes, static_cast<std::size_t>(node.length));
    }
    if (auto value = without_check(node.key, stored)) {
      keep(checked_, node.key, *value, current);
    } else if (has_kind(page, PageKind::leaf) && looks_right(node.key, stored)) {
      keep(unchecked_, node.key, stored, current);
    }
  }

  static void keep(std::map<std::string, FoundRow>& rows, std::string_view key, std::string_view value, bool current) {
    auto [at, fresh] = rows.try_emplace(std::string(key));
    auto& row = at->second;
    if (fresh || (current && !row.current)) {
      row = {std::string(value), current};
    } else if (current == row.current) {
      row.value = merge(key, row.value, value);
    }
  }

  const PageSource& pages_;
  const std::function<void()>& progress_;
  PageScan found_;
  std::vector<bool> block_pages_, leaf_pages_, free_pages_, visited_;
  std::uint64_t last_page_ = 0;
  std::map<std::string, FoundRow> checked_, unchecked_;
};

}  // namespace

PageScan scan_pages(const PageSource& pages, const std::function<void()>& progress) {
  return Scanning(pages, progress).run();
}

}  // namespace penstock
