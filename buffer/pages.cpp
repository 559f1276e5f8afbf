#include "buffer/pages.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

namespace penstock {
namespace {

constexpr std::size_t kNodeHeaderBytes = 8;
constexpr std::uint16_t kBigData = 1;
constexpr std::size_t kMostKeyBytes = 511;
constexpr std::uint32_t kMetaMagic = 0xBEEFC0DE;
constexpr std::size_t kTreeBytes = 8 + 5 * kPageWord;

template <class Int>
Int host(const char* at) {
  Int value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
std::size_t even(std::size_t length) { return (length + 1) & ~std::size_t{1}; }

Tree parse_tree(const char* at) {
  Tree tree;
  tree.flags = host<std::uint16_t>(at + 4);
  tree.depth = host<std::uint16_t>(at + 6);
  tree.branch_pages = page_word(at + 8);
  tree.leaf_pages = page_word(at + 8 + kPageWord);
  tree.overflow_pages = page_word(at + 8 + 2 * kPageWord);
  tree.entries = page_word(at + 8 + 3 * kPageWord);
  tree.root = page_word(at + 8 + 4 * kPageWord);
  return tree;
}

std::uint16_t flags_of(std::string_view page) { return host<std::uint16_t>(page.data() + kPageWord + 2); }

/// The node at `offset`, and in `size` how many bytes it takes; nothing if it does not lie between `low` and the end.
std::optional<Node> node_at(std::string_view page, std::size_t offset, std::size_t low, PageKind kind,
                            std::size_t* size) {
  if (offset % 2 != 0 || offset < low || offset + kNodeHeaderBytes > page.size()) return std::nullopt;
  const char* at = page.data() + offset;
  std::uint64_t low_half = host<std::uint16_t>(at), high_half = host<std::uint16_t>(at + 2);
  std::uint16_t flags = host<std::uint16_t>(at + 4);
  std::size_t key_bytes = host<std::uint16_t>(at + 6);
  const std::size_t left = page.size() - offset - kNodeHeaderBytes;
  if (key_bytes > kMostKeyBytes || key_bytes > left) return std::nullopt;
  Node node;
  node.key = page.substr(offset + kNodeHeaderBytes, key_bytes);
  *size = kNodeHeaderBytes + key_bytes;
  if (kind == PageKind::branch) {
    node.child = low_half | high_half << 16;
    if (kPageWord > 4) node.child |= std::uint64_t{flags} << 32;
  } else {
    if ((flags & ~kBigData) != 0) return std::nullopt;
    node.length = low_half | high_half << 16;
    node.big = flags == kBigData;
    std::size_t here = node.big ? kPageWord : static_cast<std::size_t>(node.length);
    if (here > left - key_bytes) return std::nullopt;
    const char* data = node.key.data() + key_bytes;
    if (node.big) {
      node.child = page_word(data);
    } else {
      node.value = std::string_view(data, here);
    }
    *size += here;
    bool too_long = kNodeHeaderBytes + key_bytes + node.length > longest_node(page.size());
    if (too_long && !node.big) return std::nullopt;
  }
  *size = even(*size);
  return node;
}

}  // namespace

std::uint64_t page_word(const char* at) { return host<std::size_t>(at); }

FilePages::FilePages(const Descriptor& file, std::size_t page_bytes) : file_(file.get()), page_bytes_(page_bytes) {
  struct stat info {};
  if (::fstat(file_, &info) == 0 && info.st_size > 0) count_ = static_cast<std::uint64_t>(info.st_size) / page_bytes_;
}

bool FilePages::read(std::uint64_t page, char* into) const {
  if (page >= count_) return false;
  for (std::size_t done = 0; done < page_bytes_;) {
    auto got = ::pread(file_, into + done, page_bytes_ - done, static_cast<off_t>(page * page_bytes_ + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += static_cast<std::size_t>(got);
  }
  return true;
}

void FilePages::announce(std::uint64_t page) const {
  if (page >= count_) return;
  (void)::posix_fadvise(file_, static_cast<off_t>(page * page_bytes_), static_cast<off_t>(page_bytes_),
                        POSIX_FADV_WILLNEED);
}

std::optional<MetaPage> parse_meta_page(std::string_view page, std::uint64_t number) {
  if (page.size() < kPageHeaderBytes + 8 + 2 * kPageWord + 2 * kTreeBytes + 2 * kPageWord) return std::nullopt;
  if (page_word(page.data()) != number || flags_of(page) != static_cast<std::uint16_t>(PageKind::meta))
    return std::nullopt;
  const char* at = page.data() + kPageHeaderBytes;
  if (host<std::uint32_t>(at) != kMetaMagic) return std::nullopt;
  MetaPage meta;
  meta.version = host<std::uint32_t>(at + 4);
  at += 8 + 2 * kPageWord;  // past address and map size, which LMDB does not use when it is told the size
  meta.page_bytes = host<std::uint32_t>(at);
  meta.free = parse_tree(at);
  meta.main = parse_tree(at + kTreeBytes);
  meta.last_page = page_word(at + 2 * kTreeBytes);
  meta.snapshot = page_word(at + 2 * kTreeBytes + kPageWord);
  return meta;
}

std::size_t longest_node(std::size_t page_bytes) {
  return (((page_bytes - kPageHeaderBytes) / 2) & ~std::size_t{1}) - sizeof(std::uint16_t);
}

std::uint64_t pages_of_value(std::uint64_t length, std::size_t page_bytes) {
  return (kPageHeaderBytes - 1 + length) / page_bytes + 1;
}

bool has_kind(std::string_view page, PageKind kind) { return flags_of(page) == static_cast<std::uint16_t>(kind); }

std::optional<std::vector<Node>> strict_nodes(std::string_view page, std::uint64_t number, PageKind kind) {
  if (page_word(page.data()) != number || !has_kind(page, kind)) return std::nullopt;
  std::size_t lower = host<std::uint16_t>(page.data() + kPageWord + 4);
  std::size_t upper = host<std::uint16_t>(page.data() + kPageWord + 6);
  if (lower < kPageHeaderBytes || lower % 2 != 0 || lower > upper || upper > page.size()) return std::nullopt;
  std::vector<Node> nodes;
  std::vector<std::uint32_t> places;  // offset << 16 | size
  nodes.reserve((lower - kPageHeaderBytes) / 2);
  places.reserve((lower - kPageHeaderBytes) / 2);
  for (std::size_t at = kPageHeaderBytes; at < lower; at += 2) {
    std::size_t size = 0, offset = host<std::uint16_t>(page.data() + at);
    auto node = node_at(page, offset, upper, kind, &size);
    if (!node) return std::nullopt;
    nodes.push_back(*node);
    places.push_back(static_cast<std::uint32_t>(offset << 16 | size));
  }
  // LMDB leaves no hole between nodes: any wrong length or place shows.
  std::sort(places.begin(), places.end());
  std::size_t end = upper;
  for (auto place : places) {
    if (place >> 16 != end) return std::nullopt;
    end += place & 0xffff;
  }
  if (end != page.size()) return std::nullopt;
  return nodes;
}

std::vector<Node> some_nodes(std::string_view page) {
  std::vector<Node> nodes;
  std::size_t lower = host<std::uint16_t>(page.data() + kPageWord + 4);
  if (lower < kPageHeaderBytes || lower > page.size()) lower = page.size() / 4;  // who knows: some are enough
  for (std::size_t at = kPageHeaderBytes; at + 2 <= lower; at += 2) {
    std::size_t size = 0, offset = host<std::uint16_t>(page.data() + at);
    if (auto node = node_at(page, offset, at + 2, PageKind::leaf, &size)) nodes.push_back(*node);
  }
  return nodes;
}

bool is_overflow_page(std::string_view header, std::uint64_t number, std::uint64_t pages) {
  return page_word(header.data()) == number && has_kind(header, PageKind::overflow) &&
         host<std::uint32_t>(header.data() + kPageWord + 4) == pages;
}

}  // namespace penstock
