// The one file that knows toml++.
#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cctype>
#include <string>

#include "config/value.h"

namespace penstock {
namespace {

constexpr std::size_t kMostBytes = 1 << 20;
constexpr std::size_t kMostSyntaxErrors = 20;
// toml++ limits nested brackets (256), not dotted keys; its tables are taken down recursively.
constexpr std::size_t kMostDots = 500;

Place place_of(const toml::source_region& region) {
  return {std::max<std::uint32_t>(1, region.begin.line), std::max<std::uint32_t>(1, region.begin.column)};
}

bool is_name_letter(char letter) { return std::isalnum(static_cast<unsigned char>(letter)) != 0 || letter == '_'; }

/// ${NAME} and $$; any other $ stands for itself (MQTT knows $SYS and $share).
std::string substitute(const std::string& written, Place place, const Variables& environment,
                       std::vector<Problem>& problems) {
  std::string text;
  for (std::size_t at = 0; at < written.size(); ++at) {
    if (written[at] != '$' || at + 1 == written.size() || (written[at + 1] != '$' && written[at + 1] != '{')) {
      text += written[at];
      continue;
    }
    if (written[at + 1] == '$') {
      text += '$';
      ++at;
      continue;
    }
    auto close = written.find('}', at);
    auto name = close == std::string::npos ? "" : written.substr(at + 2, close - at - 2);
    if (name.empty() || !std::all_of(name.begin(), name.end(), is_name_letter)) {
      problems.push_back({place, "\"${\" begins no variable, expected \"${NAME}\", or \"$${\" for the text itself"});
      return written;
    }
    auto value = environment(name);
    if (!value) {
      problems.push_back({place, fmt::format("the environment variable {} is not set", name)});
    } else {
      text += *value;
    }
    at = close;
  }
  return text;
}

class Converter {
 public:
  Converter(const Variables& environment, std::vector<Problem>& problems)
      : environment_(environment), problems_(problems) {}

  Value convert(const toml::node& node) {
    Value value;
    value.place = place_of(node.source());
    if (const auto* table = node.as_table()) {
      value.type = Value::Type::table;
      for (const auto& [key, child] : *table) {
        value.members.push_back({std::string(key.str()), place_of(key.source()), convert(child)});
      }
      std::stable_sort(value.members.begin(), value.members.end(),
                       [](const Member& a, const Member& b) { return a.place < b.place; });
    } else if (const auto* list = node.as_array()) {
      value.type = Value::Type::list;
      for (const auto& child : *list) value.items.push_back(convert(child));
    } else if (const auto* string = node.as_string()) {
      value.type = Value::Type::string;
      value.written = string->get();
      auto before = problems_.size();
      value.text = substitute(value.written, value.place, environment_, problems_);
      value.unresolved = problems_.size() != before;
    } else if (const auto* integer = node.as_integer()) {
      value.type = Value::Type::integer;
      value.integer = integer->get();
    } else if (const auto* floating = node.as_floating_point()) {
      value.type = Value::Type::floating;
      value.floating = floating->get();
    } else if (const auto* boolean = node.as_boolean()) {
      value.type = Value::Type::boolean;
      value.boolean = boolean->get();
    } else {
      value.type = Value::Type::date;
    }
    return value;
  }

 private:
  const Variables& environment_;
  std::vector<Problem>& problems_;
};

/// The table, or the first syntax error.
std::optional<Problem> read(std::string_view text, toml::table& table) {
  try {
    table = toml::parse(text);
    return std::nullopt;
  } catch (const toml::parse_error& error) {
    std::string_view what = error.description();
    constexpr std::string_view kPrefix = "Error while parsing ";
    if (what.starts_with(kPrefix)) what.remove_prefix(kPrefix.size());
    // It may quote what stands in the file: never more than a letter of it, it could be a secret.
    if (auto saw = what.find(", saw '"); saw != std::string_view::npos && what.size() - saw > 11)
      what = what.substr(0, saw);
    if (what.find("not representable") != std::string_view::npos) what = "the number is too large";
    std::string clean(what);
    // toml++ quotes control characters as they are
    std::replace_if(
        clean.begin(), clean.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, '?');
    return Problem{place_of(error.source()), "not TOML: " + clean};
  }
}

struct Line {
  std::size_t begin, end;  // without the line feed
};

Line line_at(std::string_view text, std::uint32_t number) {
  std::size_t begin = 0;
  for (std::uint32_t line = 1; line < number; ++line) {
    auto feed = text.find('\n', begin);
    if (feed == std::string_view::npos) return {text.size(), text.size()};
    begin = feed + 1;
  }
  return {begin, std::min(text.find('\n', begin), text.size())};
}

/// True if the line is one `key = value` and what it says cannot reach into the next lines.
bool stands_alone(std::string_view line) {
  auto first = line.find_first_not_of(" \t");
  if (first == std::string_view::npos || line[first] == '[') return false;
  auto equals = line.find('=');
  if (equals == std::string_view::npos) return true;  // words
  auto value = line.find_first_not_of(" \t", equals + 1);
  if (value == std::string_view::npos) return true;
  auto rest = line.substr(value);
  if (rest.starts_with("\"\"\"") || rest.starts_with("'''")) return false;
  return rest[0] != '[' || std::count(rest.begin(), rest.end(), '[') == std::count(rest.begin(), rest.end(), ']');
}

std::optional<Problem> too_deep(std::string_view text) {
  std::uint32_t number = 1;
  std::size_t dots = 0;
  char quote = 0;
  for (char letter : text) {
    if (letter == '\n') {
      ++number, dots = 0, quote = 0;
    } else if (quote != 0) {
      if (letter == quote) quote = 0;
    } else if (letter == '"' || letter == '\'') {
      quote = letter;
    } else if (letter == '.' && ++dots > kMostDots) {
      return Problem{{number, 1}, fmt::format("more than {} dots in one line", kMostDots)};
    }
  }
  return std::nullopt;
}

}  // namespace

ParsedFile parse_toml(std::string_view text, const Variables& environment) {
  ParsedFile parsed;
  auto give_up = [&](Problem problem) {
    parsed.whole = false;
    parsed.problems.push_back(std::move(problem));
    return parsed;
  };
  if (text.size() > kMostBytes)
    return give_up({{1, 1}, fmt::format("the file has {} bytes, at most 1 MiB is read", text.size())});
  if (auto problem = too_deep(text)) return give_up(*problem);

  toml::table table, scratch;
  std::string rest(text);
  while (auto problem = read(rest, table)) {
    parsed.problems.push_back(*problem);
    parsed.whole = false;
    // Left out is only a line that is wrong by itself: what comes before it is whole, and it opens nothing.
    auto line = line_at(rest, problem->place.line);
    auto words = std::string_view(rest).substr(line.begin, line.end - line.begin);
    bool before_is_whole = !read(std::string_view(rest).substr(0, line.begin), scratch);
    if (parsed.problems.size() == kMostSyntaxErrors || !before_is_whole || !stands_alone(words)) {
      // What stands before the line can still be examined.
      if (before_is_whole) table = scratch;
      break;
    }
    std::fill(rest.begin() + static_cast<std::ptrdiff_t>(line.begin),
              rest.begin() + static_cast<std::ptrdiff_t>(line.end), ' ');
  }
  parsed.root = Converter(environment, parsed.problems).convert(table);
  return parsed;
}

}  // namespace penstock
