// Value: a configuration file as a tree, every node with its place in the file. TOML is read in parse.cpp only.
//
// Plain values, no threads.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

/// Line and column, counted from 1.
struct Place {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
  auto operator<=>(const Place&) const = default;
};

/// Something wrong (or, as a warning, doubtful) in a file.
struct Problem {
  Place place;
  std::string what;
  bool operator==(const Problem&) const = default;
};

struct Member;

struct Value {
  enum class Type { string, integer, floating, boolean, date, list, table };

  Type type = Type::table;
  Place place;
  std::string text;         // string: with ${NAME} replaced
  std::string written;      // string: as it stands in the file; what an error may show
  bool unresolved = false;  // string: a ${NAME} in it has no value, which has been said
  std::int64_t integer = 0;
  double floating = 0;
  bool boolean = false;
  std::vector<Value> items;     // list
  std::vector<Member> members;  // table, in the order of the file

  const Member* find(std::string_view name) const;
  /// For an error text: `"written"`, `50`, `a list`. Credentials of a URL are masked, control characters replaced.
  std::string described() const;
};

struct Member {
  std::string name;
  Place place;  // of the name
  Value value;
};

/// The variables that ${NAME} may take; a test passes its own.
using Variables = std::function<std::optional<std::string>(const std::string& name)>;
/// Of this process. Nobody may change it meanwhile (Penstock never does).
Variables process_environment();

struct ParsedFile {
  Value root;
  std::vector<Problem> problems;
  bool whole = true;  // false: lines that are not TOML were left out of `root`
};

/// Reads TOML and replaces ${NAME} in every string ($$ is a $). A line that is not TOML does not hide the problems of
/// the others: where it stands alone it is left out and the rest is read. At most 1 MiB.
ParsedFile parse_toml(std::string_view text, const Variables& environment);

/// The candidate that was probably meant, if any is near: at most a third of its letters differ.
std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates);
/// `, did you mean "candidate"?`, or nothing.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace penstock
