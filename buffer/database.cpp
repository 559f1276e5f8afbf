#include "buffer/database.h"

#include <fmt/format.h>
#include <lmdb.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "buffer/meta.h"
#include "buffer/pages.h"
#include "buffer/row_check.h"

namespace penstock {
namespace {

MDB_val as_val(std::string_view text) { return {text.size(), const_cast<char*>(text.data())}; }
std::string_view as_view(const MDB_val& val) { return {static_cast<const char*>(val.mv_data), val.mv_size}; }

constexpr MDB_dbi kFreeList = 0, kUnnamed = 1;

std::uint64_t pages_of(MDB_txn* txn, MDB_dbi database) {
  MDB_stat stat{};
  mdb_stat(txn, database, &stat);
  return stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
}

/// LMDB compares keys of a database only after this.
DatabaseCode open_unnamed(MDB_env* env) {
  MDB_txn* txn = nullptr;
  if (int code = mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn); code != 0) return code;
  MDB_dbi unnamed = 0;
  if (int code = mdb_dbi_open(txn, nullptr, 0, &unnamed); code != 0) {
    mdb_txn_abort(txn);
    return code;
  }
  return mdb_txn_commit(txn);
}

Error open_error(const std::filesystem::path& directory, DatabaseCode code) {
  std::string what = fmt::format("{}: {}", (directory / "data.mdb").string(), text_of(code));
  if (code == ENOSPC || code == EDQUOT) return full(std::move(what));
  return is_damage(code) ? broken(std::move(what)) : rejected(std::move(what));
}

}  // namespace

bool map_is_full(DatabaseCode code) { return code == MDB_MAP_FULL || code == MDB_TXN_FULL; }
bool may_be_full_disk(DatabaseCode code) { return code == ENOSPC || code == EIO || code == EDQUOT; }
bool is_damage(DatabaseCode code) {
  return code == MDB_INVALID || code == MDB_CORRUPTED || code == MDB_VERSION_MISMATCH || code == MDB_PANIC ||
         code == MDB_PAGE_NOTFOUND || code == MDB_CURSOR_FULL || code == MDB_BAD_TXN || code == EIO;
}
std::string text_of(DatabaseCode code) { return fmt::format("{} ({})", mdb_strerror(code), code); }

std::size_t system_page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

Result<std::unique_ptr<Environment>> Environment::open(const std::filesystem::path& directory,
                                                       std::uint64_t capacity_bytes) {
  MDB_env* env = nullptr;
  if (int code = mdb_env_create(&env); code != 0) return open_error(directory, code);
  int code = mdb_env_set_mapsize(env, capacity_bytes);
  // NOTLS: read transactions belong to objects, not to threads. A commit is on disk when it returns: there are few.
  if (code == 0) code = mdb_env_open(env, directory.c_str(), MDB_NOTLS, 0640);
  if (code == 0) code = open_unnamed(env);
  MDB_stat stat{};
  if (code == 0) code = mdb_env_stat(env, &stat);
  if (code != 0) {
    mdb_env_close(env);
    return open_error(directory, code);
  }
  int dead = 0;
  mdb_reader_check(env, &dead);  // slots of a life that was killed would hold back free pages
  std::unique_ptr<Environment> environment(new Environment(env, stat.ms_psize));
  environment->look_at_format();
  return environment;
}

/// The row `format` says, by its length, whether small rows have checks; and its page, which lies in a leaf and says its
/// own number, where the map begins.
void Environment::look_at_format() {
  Transaction snapshot(*this, Transaction::Access::read);
  std::string key = meta_key("format");
  MDB_val k = as_val(key), v{};
  if (snapshot.code() != 0 || mdb_get(snapshot.txn_, kUnnamed, &k, &v) != 0) return;
  rows_are_checked_ = v.mv_size != sizeof(std::uint32_t);
  if (page_bytes_ > system_page_bytes()) return;  // then the address does not tell where the page begins
  auto at = reinterpret_cast<std::uintptr_t>(v.mv_data) & ~(static_cast<std::uintptr_t>(page_bytes_) - 1);
  std::size_t number = 0;
  std::memcpy(&number, reinterpret_cast<const char*>(at), sizeof number);
  map_ = reinterpret_cast<const char*>(at - number * page_bytes_);
}

DatabaseCode Environment::check_rows() {
  if (rows_are_checked_) return 0;
  Transaction change(*this, Transaction::Access::write);
  std::vector<std::pair<std::string, std::string>> rows;
  {
    Cursor cursor(change);
    for (bool more = cursor.seek(meta_key("")); more && is_small_row(cursor.key()); more = cursor.next()) {
      rows.emplace_back(cursor.key(), cursor.value());
    }
  }
  for (const auto& [key, value] : rows) change.put(key, with_check(key, value));
  auto code = change.commit();
  if (code == 0) rows_are_checked_ = true;
  return code;
}

bool Environment::page_is_right(std::string_view key, std::string_view value) const {
  constexpr std::size_t kNodeBytes = 8;
  if (map_ == nullptr || kNodeBytes + key.size() + value.size() <= longest_node(page_bytes_)) return true;
  const char* page = value.data() - kPageHeaderBytes;
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  auto offset = reinterpret_cast<std::uintptr_t>(page) - reinterpret_cast<std::uintptr_t>(map_);
  if (offset >= info.me_mapsize) return true;  // a page of this transaction, in RAM
  return is_overflow_page({page, kPageHeaderBytes}, offset / page_bytes_, pages_of_value(value.size(), page_bytes_));
}

Environment::~Environment() { mdb_env_close(env_); }

PageCounts Environment::pages() const {
  PageCounts counts;
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  counts.capacity = info.me_mapsize / page_bytes_;
  counts.used = counts.capacity;
  MDB_txn* txn = nullptr;
  if (mdb_txn_begin(env_, nullptr, MDB_RDONLY, &txn) != 0) return counts;
  counts.used = 2 + pages_of(txn, kFreeList) + pages_of(txn, kUnnamed);
  mdb_txn_abort(txn);
  counts.free = counts.capacity > counts.used ? counts.capacity - counts.used : 0;
  return counts;
}

std::uint64_t Environment::used_bytes() const {
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  return (static_cast<std::uint64_t>(info.me_last_pgno) + 1) * page_bytes_;
}

std::uint64_t Environment::snapshot() const {
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  return info.me_last_txnid;
}

DatabaseCode Environment::sync() { return mdb_env_sync(env_, 1); }

void Environment::forget_memory(std::string_view from, std::string_view to) const {
  auto page = static_cast<std::uintptr_t>(page_bytes_);
  auto first = reinterpret_cast<std::uintptr_t>(from.data()) & ~(page - 1);
  auto end = (reinterpret_cast<std::uintptr_t>(to.data()) + to.size() + page - 1) & ~(page - 1);
  // The map is shared and read-only: whoever still reads a page gets it back from the page cache.
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

/// A page that is touched once stays mapped, the kernel maps its neighbours besides, and every page is used again some day:
/// in the end all of the file would count as this process's memory.
void Environment::forget_all_memory() const {
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  if (map_ != nullptr) forget_memory({map_, 0}, {map_, info.me_mapsize});
}

Transaction::Transaction(const Environment& environment, Access access) : environment_(environment) {
  code_ = mdb_txn_begin(environment.env_, nullptr, access == Access::read ? MDB_RDONLY : 0, &txn_);
  if (code_ != 0) txn_ = nullptr;
}

Transaction::~Transaction() {
  if (txn_ != nullptr) mdb_txn_abort(txn_);
}

std::uint64_t Transaction::snapshot() const { return txn_ == nullptr ? 0 : mdb_txn_id(txn_); }

std::optional<std::string_view> Transaction::get(std::string_view key) {
  if (code_ != 0) return std::nullopt;
  MDB_val k = as_val(key), v{};
  int code = mdb_get(txn_, kUnnamed, &k, &v);
  if (code == 0) return checked(key, as_view(v));
  if (code != MDB_NOTFOUND) code_ = code;
  return std::nullopt;
}

std::optional<std::string_view> Transaction::checked(std::string_view key, std::string_view stored) {
  if (!environment_.rows_are_checked() || !is_small_row(key)) return stored;
  auto value = without_check(key, stored);
  if (!value) code_ = MDB_CORRUPTED;
  return value;
}

void Transaction::check_page_of(std::string_view key) {
  if (is_small_row(key)) return;
  auto value = get(key);
  if (value && !environment_.page_is_right(key, *value)) code_ = MDB_CORRUPTED;
}

void Transaction::put(std::string_view key, std::string_view value) {
  check_page_of(key);
  if (code_ != 0) return;
  std::string with;
  if (environment_.rows_are_checked() && is_small_row(key)) value = with = with_check(key, value);
  MDB_val k = as_val(key), v = as_val(value);
  touched_ = true;
  code_ = mdb_put(txn_, kUnnamed, &k, &v, 0);
}

void Transaction::erase(std::string_view key) {
  check_page_of(key);
  if (code_ != 0) return;
  MDB_val k = as_val(key);
  int code = mdb_del(txn_, kUnnamed, &k, nullptr);
  if (code == MDB_NOTFOUND) return;
  touched_ = true;
  code_ = code;
}

DatabaseCode Transaction::commit() {
  if (code_ != 0) return code_;
  code_ = mdb_txn_commit(txn_);
  txn_ = nullptr;
  if (touched_) environment_.forget_all_memory();
  return code_;
}

Cursor::Cursor(Transaction& transaction) : transaction_(transaction) {
  if (transaction.code_ != 0) return;
  transaction.code_ = mdb_cursor_open(transaction.txn_, kUnnamed, &cursor_);
  if (transaction.code_ != 0) cursor_ = nullptr;
}

Cursor::~Cursor() {
  if (cursor_ != nullptr) mdb_cursor_close(cursor_);
}

bool Cursor::move(int operation, std::string_view key) {
  if (transaction_.code_ != 0) return false;
  MDB_val k = as_val(key), v{};
  int code = mdb_cursor_get(cursor_, &k, &v, static_cast<MDB_cursor_op>(operation));
  if (code == 0) {
    key_ = as_view(k);
    auto value = transaction_.checked(key_, as_view(v));
    value_ = value.value_or(std::string_view());
    return value.has_value();
  }
  if (code != MDB_NOTFOUND) transaction_.code_ = code;
  return false;
}

bool Cursor::seek(std::string_view key) { return move(MDB_SET_RANGE, key); }
bool Cursor::next() { return move(MDB_NEXT, {}); }
bool Cursor::previous() { return move(MDB_PREV, {}); }
bool Cursor::last() { return move(MDB_LAST, {}); }

}  // namespace penstock
