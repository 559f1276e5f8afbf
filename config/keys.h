// Keys: the table of a section's keys. One table reads the section into a plain struct, reports all that is wrong with
// it, and is the source of the JSON Schema, the reference page and the example file. Defaults are those of the struct.
//
//   struct PressSettings { std::string port; std::chrono::milliseconds interval{1000}; bool operator==(...) const =
//   default; };
//
//   KeyTable press_keys() {
//     return Keys<PressSettings>()
//         .key("port", &PressSettings::port, "the serial port").required().example("\"/dev/ttyUSB0\"")
//         .key("interval", &PressSettings::interval, "time between two readings").between(10ms, 24h)
//         .verify([](const PressSettings& s, Complaints& say) { if (...) say.problem("port", "is not ..., expected
//         ..."); });
//   }
//
// What a key takes follows from its member: std::string, bool, integers, double, a std::chrono duration, Secret,
// std::filesystem::path, std::vector<std::string>, std::map<std::string, std::string>; std::optional of these has no
// default. Sizes, rates, percentages and choices are said (`.size`, `.rate`, `.percentage`, `.choice`), a list of
// tables is `.tables`. required, between, example, unit, one_of and check speak of the key before them.
//
// Plain values, no threads. Nothing here throws; every mistake becomes a Problem of the Reading.
#pragma once

#include <any>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "config/secret.h"
#include "config/units.h"
#include "config/value.h"

namespace penstock {

/// What is learned while a file is read.
struct Reading {
  std::filesystem::path directory;  // of the file: a relative { file = "..." } starts here
  bool readable_by_all = false;     // the file is: a literal secret in it earns a warning
  bool whole = true;                // false: lines were left out, so that a missing key may be one of them
  std::multimap<std::string, std::string> homes;  // key -> section, for a key that stands in the wrong one
  std::vector<Problem> problems;
  std::vector<Problem> warnings;
};

/// Settings whose type only their driver knows. A value: copied, compared.
class AnySettings {
 public:
  AnySettings() = default;
  template <class S>
  static AnySettings of(S settings) {
    AnySettings any;
    any.held_ = std::move(settings);
    any.equal_ = [](const std::any& a, const std::any& b) {
      const auto* left = std::any_cast<S>(&a);
      const auto* right = std::any_cast<S>(&b);
      return left != nullptr && right != nullptr && *left == *right;
    };
    return any;
  }
  /// nullptr when they are of another type.
  template <class S>
  const S* as() const {
    return std::any_cast<S>(&held_);
  }
  bool operator==(const AnySettings& other) const {
    if (!held_.has_value() || !other.held_.has_value()) return held_.has_value() == other.held_.has_value();
    return equal_(held_, other.held_);
  }

 private:
  std::any held_;
  bool (*equal_)(const std::any&, const std::any&) = nullptr;
};

enum class KeyType {
  string,
  boolean,
  integer,
  floating,
  duration,
  size,
  rate,
  percentage,
  choice,
  strings,
  string_table,
  tables,
  secret
};

class Slot;

/// One key, its type erased.
struct Key {
  std::string name;
  KeyType type = KeyType::string;
  std::string doc;
  std::string unit;      // of a number: "messages"
  std::string fallback;  // the default as TOML; empty: none
  std::string example;   // for the example file, as TOML; empty: the default
  bool required = false;
  std::optional<double> least, most;  // numbers; durations in microseconds, sizes in bytes
  std::vector<std::string> choices;
  std::vector<Key> keys;                                 // of a list of tables
  std::function<std::string(const std::string&)> check;  // of a string, or each of a list: what was expected, or empty
  std::function<void(void* settings, Slot& slot)> read;

  /// "a duration such as \"50ms\"", with its range.
  std::string expected() const;
};

/// For Keys::verify: places a complaint at a key.
class Complaints {
 public:
  Complaints(const Value& table, std::string path, Reading& reading)
      : table_(table), path_(std::move(path)), reading_(reading) {}
  /// `text` goes on after the key's path: "is 5, expected less than batch_interval".
  void problem(std::string_view key, std::string_view text);
  void warning(std::string_view key, std::string_view text);

 private:
  Problem made(std::string_view key, std::string_view text) const;
  const Value& table_;
  std::string path_;
  Reading& reading_;
};

struct KeyTable {
  std::vector<Key> keys;
  /// Reads a table whose path in the file is `path` ("drivers.plant"). Names in `also` are known to the caller.
  std::function<AnySettings(const Value& table, const std::string& path, Reading& reading,
                            const std::vector<std::string>& also)>
      read;
};

/// One value on its way into its member.
class Slot {
 public:
  Slot(const Key& key, const Value& value, std::string path, Reading& reading)
      : key_(key), value_(value), path_(std::move(path)), reading_(reading) {}

  // Nothing means that a problem was reported.
  std::optional<std::string> string();
  std::optional<bool> boolean();
  std::optional<std::int64_t> integer(std::int64_t least, std::uint64_t most);
  std::optional<double> floating();
  std::optional<std::chrono::microseconds> duration(std::chrono::microseconds resolution);
  std::optional<std::uint64_t> size();
  std::optional<std::uint64_t> rate();
  std::optional<double> percentage();
  std::optional<std::size_t> choice();
  std::optional<std::vector<std::string>> strings();
  std::optional<std::map<std::string, std::string>> string_table();
  std::optional<Secret> secret();
  /// The items of a list of tables; each is given to `read` with its path.
  void tables(const std::function<void(const Value&, const std::string&, Reading&)>& read);

 private:
  void wrong(const std::string& hint = {});
  bool in_range(double number);
  std::optional<std::string> secret_text(const Value& value, const std::string& path);

  const Key& key_;
  const Value& value_;
  std::string path_;
  Reading& reading_;
};

namespace keys_inside {

/// Reports unknown and missing keys of `table` and fills `settings` from the others.
void read_table(const std::vector<Key>& keys, const Value& table, const std::string& path, Reading& reading,
                const std::vector<std::string>& also, void* settings);
std::string toml_text(std::string_view text);
std::string print(double value);
std::string print(const std::vector<std::string>& list);

template <class T>
struct IsDuration : std::false_type {};
template <class R, class P>
struct IsDuration<std::chrono::duration<R, P>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {
  using Inner = T;
};
template <class>
inline constexpr bool kUnknown = false;

template <class M>
constexpr KeyType type_of() {
  if constexpr (IsOptional<M>::value)
    return type_of<typename IsOptional<M>::Inner>();
  else if constexpr (std::same_as<M, std::string> || std::same_as<M, std::filesystem::path>)
    return KeyType::string;
  else if constexpr (std::same_as<M, bool>)
    return KeyType::boolean;
  else if constexpr (std::integral<M>)
    return KeyType::integer;
  else if constexpr (std::floating_point<M>)
    return KeyType::floating;
  else if constexpr (IsDuration<M>::value)
    return KeyType::duration;
  else if constexpr (std::same_as<M, Secret>)
    return KeyType::secret;
  else if constexpr (std::same_as<M, std::vector<std::string>>)
    return KeyType::strings;
  else if constexpr (std::same_as<M, std::map<std::string, std::string>>)
    return KeyType::string_table;
  else
    static_assert(kUnknown<M>, "a key cannot have this type");
}

/// Reads the slot as `type` into the member.
template <class M>
void read_member(KeyType type, Slot& slot, M& member) {
  if constexpr (IsOptional<M>::value) {
    typename IsOptional<M>::Inner inner{};
    read_member(type, slot, inner);
    member = inner;
  } else if constexpr (std::same_as<M, std::string> || std::same_as<M, std::filesystem::path>) {
    if (auto read = slot.string()) member = *read;
  } else if constexpr (std::same_as<M, bool>) {
    if (auto read = slot.boolean()) member = *read;
  } else if constexpr (std::integral<M>) {
    if (type == KeyType::size || type == KeyType::rate) {
      if (auto read = type == KeyType::size ? slot.size() : slot.rate()) member = static_cast<M>(*read);
    } else {
      constexpr auto kLeast = std::is_signed_v<M> ? static_cast<std::int64_t>(std::numeric_limits<M>::min()) : 0;
      constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<M>::max());
      if (auto read = slot.integer(kLeast, kMost)) member = static_cast<M>(*read);
    }
  } else if constexpr (std::floating_point<M>) {
    if (auto read = type == KeyType::percentage ? slot.percentage() : slot.floating()) member = static_cast<M>(*read);
  } else if constexpr (IsDuration<M>::value) {
    if (auto read = slot.duration(std::chrono::duration_cast<std::chrono::microseconds>(M(1)))) {
      member = std::chrono::duration_cast<M>(*read);
    }
  } else if constexpr (std::same_as<M, Secret>) {
    if (auto read = slot.secret()) member = *read;
  } else if constexpr (std::same_as<M, std::vector<std::string>>) {
    if (auto read = slot.strings()) member = *read;
  } else {
    if (auto read = slot.string_table()) member = *read;
  }
}

/// The default as TOML; empty: there is none worth writing.
template <class M>
std::string print_member(KeyType type, const M& member) {
  if constexpr (IsOptional<M>::value)
    return "";
  else if constexpr (std::same_as<M, std::string>)
    return toml_text(member);
  else if constexpr (std::same_as<M, std::filesystem::path>)
    return toml_text(member.string());
  else if constexpr (std::same_as<M, bool>)
    return member ? "true" : "false";
  else if constexpr (std::integral<M>) {
    if (type == KeyType::size) return toml_text(print_size(static_cast<std::uint64_t>(member)));
    if (type == KeyType::rate) return toml_text(print_rate(static_cast<std::uint64_t>(member)));
    return std::to_string(member);
  } else if constexpr (std::floating_point<M>) {
    return type == KeyType::percentage ? toml_text(print_percentage(member)) : print(static_cast<double>(member));
  } else if constexpr (IsDuration<M>::value) {
    return toml_text(print_duration(std::chrono::duration_cast<std::chrono::microseconds>(member)));
  } else if constexpr (std::same_as<M, std::vector<std::string>>) {
    return print(member);
  } else {
    return "";
  }
}

}  // namespace keys_inside

/// Builds the KeyTable of settings S.
template <class S>
class Keys {
 public:
  template <class M>
  Keys& key(std::string name, M S::*member, std::string doc) {
    return add(std::move(name), keys_inside::type_of<M>(), member, std::move(doc));
  }
  template <class M>
  Keys& size(std::string name, M S::*member, std::string doc) {
    return add(std::move(name), KeyType::size, member, std::move(doc));
  }
  /// Bytes a second.
  template <class M>
  Keys& rate(std::string name, M S::*member, std::string doc) {
    return add(std::move(name), KeyType::rate, member, std::move(doc));
  }
  /// 0 to 100.
  template <class M>
  Keys& percentage(std::string name, M S::*member, std::string doc) {
    return add(std::move(name), KeyType::percentage, member, std::move(doc));
  }
  template <class M>
  Keys& choice(std::string name, M S::*member, std::vector<std::pair<std::string, M>> choices, std::string doc) {
    Key key;
    key.name = std::move(name), key.type = KeyType::choice, key.doc = std::move(doc);
    const S defaults{};
    for (const auto& [word, value] : choices) {
      key.choices.push_back(word);
      if (value == defaults.*member) key.fallback = keys_inside::toml_text(word);
    }
    key.read = [member, choices](void* settings, Slot& slot) {
      if (auto index = slot.choice()) static_cast<S*>(settings)->*member = choices[*index].second;
    };
    keys_.push_back(std::move(key));
    return *this;
  }
  /// A list of tables, each read by `table`'s keys.
  template <class T>
  Keys& tables(std::string name, std::vector<T> S::*member, const KeyTable& table, std::string doc) {
    Key key;
    key.name = std::move(name), key.type = KeyType::tables, key.doc = std::move(doc), key.keys = table.keys;
    key.read = [member, read = table.read](void* settings, Slot& slot) {
      auto& list = static_cast<S*>(settings)->*member;
      list.clear();
      slot.tables([&](const Value& item, const std::string& path, Reading& reading) {
        auto any = read(item, path, reading, {});
        if (const T* one = any.template as<T>()) list.push_back(*one);
      });
    };
    keys_.push_back(std::move(key));
    return *this;
  }

  // --- of the key before
  Keys& required() { return last().required = true, last().fallback.clear(), *this; }
  Keys& example(std::string toml) { return last().example = std::move(toml), *this; }
  Keys& unit(std::string unit) { return last().unit = std::move(unit), *this; }
  /// Both ends included. Durations for durations, bytes for sizes, else plain numbers.
  Keys& between(std::chrono::microseconds least, std::chrono::microseconds most) {
    return between(static_cast<double>(least.count()), static_cast<double>(most.count()));
  }
  Keys& between(double least, double most) { return last().least = least, last().most = most, *this; }
  /// `check` says what was expected ("host:port"), or nothing when the string is right.
  Keys& check(std::function<std::string(const std::string&)> check) { return last().check = std::move(check), *this; }

  // --- of the whole table
  /// Called once the table was read without a problem.
  Keys& verify(std::function<void(const S&, Complaints&)> verify) { return verify_ = std::move(verify), *this; }

  operator KeyTable() const {
    return {keys_, [keys = keys_, verify = verify_](const Value& table, const std::string& path, Reading& reading,
                                                    const std::vector<std::string>& also) {
              S settings{};
              auto before = reading.problems.size();
              keys_inside::read_table(keys, table, path, reading, also, &settings);
              if (verify && reading.whole && reading.problems.size() == before) {
                Complaints complaints(table, path, reading);
                verify(settings, complaints);
              }
              return AnySettings::of(std::move(settings));
            }};
  }

 private:
  template <class M>
  Keys& add(std::string name, KeyType type, M S::*member, std::string doc) {
    Key key;
    key.name = std::move(name), key.type = type, key.doc = std::move(doc);
    const S defaults{};
    key.fallback = keys_inside::print_member(type, defaults.*member);
    key.read = [type, member](void* settings, Slot& slot) {
      keys_inside::read_member(type, slot, static_cast<S*>(settings)->*member);
    };
    keys_.push_back(std::move(key));
    return *this;
  }
  Key& last() { return keys_.back(); }

  std::vector<Key> keys_;
  std::function<void(const S&, Complaints&)> verify_;
};

}  // namespace penstock
