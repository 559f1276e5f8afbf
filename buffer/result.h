// Result<T>: a value or an Error; the only way a failure travels between rooms.
//
// A Fault says what the caller should do, not what went wrong; `what` says what happened, with names and numbers.
// An error is either passed up or dealt with and logged, never both. No exception crosses a folder.
#pragma once

#include <cassert>
#include <string>
#include <utility>
#include <variant>

namespace penstock {

enum class Fault {
  transient,  // back off and try again
  full,       // slow down, or drop by a stated policy
  rejected,   // wrong and stays wrong: set aside, count, say so
  broken,     // the disk or an invariant cannot be trusted: end the process
};

inline const char* name_of(Fault fault) {
  switch (fault) {
    case Fault::transient: return "transient";
    case Fault::full: return "full";
    case Fault::rejected: return "rejected";
    case Fault::broken: break;
  }
  return "broken";
}

struct Error {
  Fault fault = Fault::broken;
  std::string what;
};

inline Error transient(std::string what) { return {Fault::transient, std::move(what)}; }
inline Error full(std::string what) { return {Fault::full, std::move(what)}; }
inline Error rejected(std::string what) { return {Fault::rejected, std::move(what)}; }
inline Error broken(std::string what) { return {Fault::broken, std::move(what)}; }

template <class T = void>
class [[nodiscard]] Result {
 public:
  Result(T value) : either_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : either_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return either_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& operator*() { return assert(ok()), *std::get_if<0>(&either_); }
  const T& operator*() const { return assert(ok()), *std::get_if<0>(&either_); }
  T* operator->() { return &**this; }
  const T* operator->() const { return &**this; }

  const Error& error() const { return assert(!ok()), *std::get_if<1>(&either_); }

 private:
  std::variant<T, Error> either_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}

  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Error& error() const { return assert(!ok_), error_; }

 private:
  Error error_;
  bool ok_ = true;
};

}  // namespace penstock
