// Pages: LMDB's file as it lies on the disk, read with pread(2) and never mapped, so that nothing in it can kill the
// process: an unreadable sector is an answer, not a SIGBUS, and a wild pointer is a number out of range.
//
// The layout is that of LMDB 0.9 (struct MDB_page, MDB_meta, MDB_node in mdb.c): host byte order, words of the machine.
// A page: its number (a word), u16 unused, u16 flags, then u16 lower and u16 upper (branch, leaf) or u32 pages (overflow).
// Values; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/descriptor.h"

namespace penstock {

inline constexpr std::size_t kPageWord = sizeof(std::size_t);
inline constexpr std::size_t kPageHeaderBytes = kPageWord + 8;
inline constexpr std::size_t kMostTreeDepth = 32;  // LMDB's own limit
/// A word as it lies in a page.
std::uint64_t page_word(const char* at);

/// Where pages come from; a test makes some of them unreadable here.
class PageSource {
 public:
  virtual ~PageSource() = default;
  virtual std::size_t page_bytes() const = 0;
  /// Whole ones; of a file that was cut off in a page, that page does not count.
  virtual std::uint64_t count() const = 0;
  /// False: unreadable.
  virtual bool read(std::uint64_t page, char* into) const = 0;
  /// It will be read soon.
  virtual void announce(std::uint64_t) const {}
};

class FilePages final : public PageSource {
 public:
  /// `file` outlives this.
  FilePages(const Descriptor& file, std::size_t page_bytes);
  std::size_t page_bytes() const override { return page_bytes_; }
  std::uint64_t count() const override { return count_; }
  bool read(std::uint64_t page, char* into) const override;
  void announce(std::uint64_t page) const override;

 private:
  int file_;
  std::size_t page_bytes_;
  std::uint64_t count_ = 0;
};

struct Tree {
  std::uint16_t flags = 0, depth = 0;
  std::uint64_t branch_pages = 0, leaf_pages = 0, overflow_pages = 0, entries = 0;
  std::uint64_t root = 0;
  bool empty() const { return root == static_cast<std::size_t>(-1); }
};

/// One of the first two pages: which snapshot there is.
struct MetaPage {
  std::uint32_t version = 0;
  std::uint64_t page_bytes = 0;
  Tree free, main;
  std::uint64_t last_page = 0, snapshot = 0;
};
inline constexpr std::uint32_t kMetaVersion = 1;
/// Nothing: not a meta page at that place. The version is for the caller to look at.
std::optional<MetaPage> parse_meta_page(std::string_view page, std::uint64_t number);

struct Node {
  std::string_view key;
  std::string_view value;    // of a leaf, when it lies in the page itself
  bool big = false;          // else it begins at `child`
  std::uint64_t length = 0;  // of the value, wherever it is
  std::uint64_t child = 0;   // of a branch: the page below; of a big value: its first page
};

/// The longest node that lies in a leaf.
std::size_t longest_node(std::size_t page_bytes);
/// How many pages a big value takes.
std::uint64_t pages_of_value(std::uint64_t length, std::size_t page_bytes);

enum class PageKind : std::uint16_t { branch = 1, leaf = 2, overflow = 4, meta = 8 };
bool has_kind(std::string_view page, PageKind kind);
/// All nodes of a page; nothing if anything in it is not exactly as LMDB writes it.
std::optional<std::vector<Node>> strict_nodes(std::string_view page, std::uint64_t number, PageKind kind);
/// The nodes of what may be a damaged leaf: those that lie within the page.
std::vector<Node> some_nodes(std::string_view page);
/// The header of the first page of a big value, exactly as LMDB writes it.
bool is_overflow_page(std::string_view header, std::uint64_t number, std::uint64_t pages);

}  // namespace penstock
