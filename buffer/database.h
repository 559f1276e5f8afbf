// Database: as much of LMDB as the store needs, and the only place that includes lmdb.h.
//
// An Environment has one unnamed database. One thread writes; a ReadTransaction may live in any thread. Inside a
// transaction the first error sticks: later calls do nothing and code() tells it, so that a list of writes is checked
// once, by commit(). Views returned by get(), key() and value() end with the transaction or its next write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "buffer/result.h"

struct MDB_env;
struct MDB_txn;
struct MDB_cursor;

namespace penstock {

/// What LMDB or the system answered; 0 is success.
using DatabaseCode = int;
bool map_is_full(DatabaseCode code);
/// ENOSPC or EIO: a full disk is reported as either.
bool may_be_full_disk(DatabaseCode code);
/// The file cannot be trusted: the next open must look at it.
bool is_damage(DatabaseCode code);
std::string text_of(DatabaseCode code);

/// LMDB gives a new environment pages of this size.
std::size_t system_page_bytes();

struct PageCounts {
  std::uint64_t capacity = 0, used = 0, free = 0;  // capacity = used + free
};

class Environment {
 public:
  /// Opens or makes data.mdb and lock.mdb in `directory`.
  static Result<std::unique_ptr<Environment>> open(const std::filesystem::path& directory,
                                                   std::uint64_t capacity_bytes);
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  std::size_t page_bytes() const { return page_bytes_; }
  /// The longest value that fills exactly one page.
  std::size_t value_bytes() const { return page_bytes_ - 8 - sizeof(std::size_t); }
  /// Exact, in O(1) (lab: equal to a walk of the free list).
  PageCounts pages() const;
  /// Bytes of the file that any snapshot may use; what lies behind is nobody's.
  std::uint64_t used_bytes() const;
  /// The number of the newest snapshot.
  std::uint64_t snapshot() const;
  /// Flushes everything committed so far.
  DatabaseCode sync();
  /// Small rows carry a check (buffer/row_check.h), which get(), put() and Cursor add and take away; a row that fails it
  /// is MDB_CORRUPTED. Of a new environment always; of one made before there were checks after check_rows().
  bool rows_are_checked() const { return rows_are_checked_; }
  DatabaseCode check_rows();
  /// Gives back the memory that reading these two values of the map, and what lies between them, has taken.
  void forget_memory(std::string_view from, std::string_view to) const;
  /// Reads where the map lies out of the row `format`. open() does that; of a new environment it must be told when the
  /// row is there.
  void look_at_format();

 private:
  friend class Transaction;
  Environment(MDB_env* env, std::size_t page_bytes) : env_(env), page_bytes_(page_bytes) {}
  void forget_all_memory() const;
  /// False: the page that holds the value is not as LMDB wrote it, and must not be freed by what it says of itself.
  bool page_is_right(std::string_view key, std::string_view value) const;

  MDB_env* env_;
  std::size_t page_bytes_;
  bool rows_are_checked_ = true;
  const char* map_ = nullptr;  // where LMDB has mapped page 0; null: not known
};

class Cursor;

class Transaction {
 public:
  enum class Access { read, write };
  Transaction(const Environment& environment, Access access);
  ~Transaction();  // aborts what was not committed
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  DatabaseCode code() const { return code_; }
  std::uint64_t snapshot() const;

  /// Nothing: there is none, or code() is an error.
  std::optional<std::string_view> get(std::string_view key);
  void put(std::string_view key, std::string_view value);
  /// Erasing what is not there is no error.
  void erase(std::string_view key);
  /// Gives back, too, the memory that was taken by what reading and writing mapped of the file.
  DatabaseCode commit();
  /// Something was put or erased.
  bool touched() const { return touched_; }

 private:
  friend class Cursor;
  friend class Environment;
  /// What was stored, without its check.
  std::optional<std::string_view> checked(std::string_view key, std::string_view stored);
  /// The page that is about to be freed or written again.
  void check_page_of(std::string_view key);

  const Environment& environment_;
  bool touched_ = false;
  MDB_txn* txn_ = nullptr;
  DatabaseCode code_ = 0;
};

class Cursor {
 public:
  explicit Cursor(Transaction& transaction);
  ~Cursor();
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;

  /// To the first entry at or after `key`. Each returns false when there is none.
  bool seek(std::string_view key);
  bool next();
  bool previous();
  bool last();

  std::string_view key() const { return key_; }
  std::string_view value() const { return value_; }

 private:
  bool move(int operation, std::string_view key);

  Transaction& transaction_;
  MDB_cursor* cursor_ = nullptr;
  std::string_view key_, value_;
};

}  // namespace penstock
