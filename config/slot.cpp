// Slot: one value of the file read as the type that its key takes.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>

#include "config/keys.h"

namespace penstock {
namespace {

constexpr std::size_t kMostSecretBytes = 64 << 10;

/// The same text in the spelling this format has: "1gb" -> "1GiB".
std::optional<std::string> respelled(KeyType type, std::string_view text) {
  static const std::map<std::string, std::string> kSizes = {
      {"b", "B"},     {"byte", "B"},  {"bytes", "B"}, {"k", "KiB"},   {"kb", "KiB"},
      {"kib", "KiB"}, {"m", "MiB"},   {"mb", "MiB"},  {"mib", "MiB"}, {"g", "GiB"},
      {"gb", "GiB"},  {"gib", "GiB"}, {"t", "TiB"},   {"tb", "TiB"},  {"tib", "TiB"}};
  static const std::map<std::string, std::string> kDurations = {
      {"msec", "ms"}, {"millis", "ms"}, {"milliseconds", "ms"}, {"ms", "ms"},
      {"us", "us"},   {"sec", "s"},     {"second", "s"},        {"seconds", "s"},
      {"s", "s"},     {"min", "m"},     {"minute", "m"},        {"minutes", "m"},
      {"m", "m"},     {"hour", "h"},    {"hours", "h"},         {"hr", "h"},
      {"h", "h"},     {"day", "d"},     {"days", "d"},          {"d", "d"}};
  std::string digits, word;
  bool per_second = false;
  if (type == KeyType::rate && text.ends_with("/s")) text.remove_suffix(2), per_second = true;
  for (char letter : text) {
    if (std::isspace(static_cast<unsigned char>(letter)) != 0) continue;
    if (std::isdigit(static_cast<unsigned char>(letter)) != 0 && word.empty())
      digits += letter;
    else
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  }
  if (digits.empty() || digits.size() > 18) return std::nullopt;
  if (type == KeyType::percentage) return word.empty() ? std::optional(digits + "%") : std::nullopt;
  if (type == KeyType::rate && !per_second && word.ends_with("ps")) word.resize(word.size() - 2);
  if (type != KeyType::duration && type != KeyType::size && type != KeyType::rate) return std::nullopt;
  const auto& units = type == KeyType::duration ? kDurations : kSizes;
  auto found = units.find(word);
  if (found == units.end()) return std::nullopt;
  return digits + found->second + (type == KeyType::rate ? "/s" : "");
}

/// ", did you mean "1GiB"?" for a string or number that is nearly one.
std::string spelling_hint(KeyType type, const Value& value) {
  std::string text;
  if (value.type == Value::Type::string) text = value.written;
  // A number without a unit: seconds and bytes are what most people mean, but only a percentage is certain.
  if (value.type == Value::Type::integer && type == KeyType::percentage) text = std::to_string(value.integer);
  auto near = text.empty() ? std::nullopt : respelled(type, text);
  return near && *near != text ? fmt::format(", did you mean \"{}\"?", *near) : "";
}

bool readable_by_all(const std::filesystem::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && (info.st_mode & S_IROTH) != 0;
}

bool names_a_secret(std::string_view property) {
  return property.find("password") != std::string_view::npos || property.find("secret") != std::string_view::npos ||
         property.ends_with("key.pem");
}

}  // namespace

void Slot::wrong(const std::string& hint) {
  // A secret's text is never repeated, whatever is wrong with it.
  bool hide = key_.type == KeyType::secret && value_.type != Value::Type::list && value_.type != Value::Type::table;
  reading_.problems.push_back(
      {value_.place, fmt::format("{} is {}, expected {}{}", path_, hide ? "not a string" : value_.described(),
                                 key_.expected(), hint)});
}

bool Slot::in_range(double number) {
  if ((!key_.least || number >= *key_.least) && (!key_.most || number <= *key_.most)) return true;
  wrong();
  return false;
}

std::optional<std::string> Slot::string() {
  if (value_.type != Value::Type::string) return wrong(), std::nullopt;
  if (auto expected = key_.check ? key_.check(value_.text) : ""; !expected.empty()) {
    reading_.problems.push_back(
        {value_.place, fmt::format("{} is {}, expected {}", path_, value_.described(), expected)});
    return std::nullopt;
  }
  return value_.text;
}

std::optional<bool> Slot::boolean() {
  if (value_.type == Value::Type::boolean) return value_.boolean;
  bool word = value_.type == Value::Type::string && (value_.text == "true" || value_.text == "false");
  wrong(word ? fmt::format(", did you mean {} without quotes?", value_.text) : "");
  return std::nullopt;
}

std::optional<std::int64_t> Slot::integer(std::int64_t least, std::uint64_t most) {
  if (value_.type != Value::Type::integer) return wrong(), std::nullopt;
  if (!in_range(static_cast<double>(value_.integer))) return std::nullopt;
  bool fits = value_.integer >= least && (value_.integer < 0 || static_cast<std::uint64_t>(value_.integer) <= most);
  if (fits) return value_.integer;
  reading_.problems.push_back({value_.place, fmt::format("{} is {}, expected a whole number from {} to {}", path_,
                                                         value_.integer, least, most)});
  return std::nullopt;
}

std::optional<double> Slot::floating() {
  bool whole = value_.type == Value::Type::integer;
  if (!whole && (value_.type != Value::Type::floating || !std::isfinite(value_.floating))) return wrong(), std::nullopt;
  double number = whole ? static_cast<double>(value_.integer) : value_.floating;
  return in_range(number) ? std::optional(number) : std::nullopt;
}

std::optional<std::chrono::microseconds> Slot::duration(std::chrono::microseconds resolution) {
  auto read = value_.type == Value::Type::string ? parse_duration(value_.text) : std::nullopt;
  if (!read) return wrong(spelling_hint(KeyType::duration, value_)), std::nullopt;
  if (!in_range(static_cast<double>(read->count()))) return std::nullopt;
  if (read->count() % resolution.count() == 0) return read;
  wrong(fmt::format(", a multiple of \"{}\"", print_duration(resolution)));
  return std::nullopt;
}

std::optional<std::uint64_t> Slot::size() {
  auto read = value_.type == Value::Type::string ? parse_size(value_.text) : std::nullopt;
  if (!read) return wrong(spelling_hint(KeyType::size, value_)), std::nullopt;
  return in_range(static_cast<double>(*read)) ? read : std::nullopt;
}

std::optional<std::uint64_t> Slot::rate() {
  auto read = value_.type == Value::Type::string ? parse_rate(value_.text) : std::nullopt;
  if (!read) return wrong(spelling_hint(KeyType::rate, value_)), std::nullopt;
  return in_range(static_cast<double>(*read)) ? read : std::nullopt;
}

std::optional<double> Slot::percentage() {
  auto read = value_.type == Value::Type::string ? parse_percentage(value_.text) : std::nullopt;
  if (!read) return wrong(spelling_hint(KeyType::percentage, value_)), std::nullopt;
  return in_range(*read) ? read : std::nullopt;
}

std::optional<std::size_t> Slot::choice() {
  if (value_.type == Value::Type::string) {
    auto found = std::find(key_.choices.begin(), key_.choices.end(), value_.text);
    if (found != key_.choices.end()) return static_cast<std::size_t>(found - key_.choices.begin());
    wrong(did_you_mean(value_.text, key_.choices));
  } else {
    wrong();
  }
  return std::nullopt;
}

std::optional<std::vector<std::string>> Slot::strings() {
  if (value_.type != Value::Type::list) return wrong(), std::nullopt;
  std::vector<std::string> list;
  bool right = true;
  for (std::size_t i = 0; i < value_.items.size(); ++i) {
    const auto& item = value_.items[i];
    if (item.unresolved) {
      right = false;
      continue;
    }
    std::string expected = item.type == Value::Type::string ? (key_.check ? key_.check(item.text) : "") : "a string";
    if (!expected.empty()) {
      right = false;
      reading_.problems.push_back(
          {item.place, fmt::format("{}[{}] is {}, expected {}", path_, i, item.described(), expected)});
    }
    list.push_back(item.text);
  }
  return right ? std::optional(list) : std::nullopt;
}

std::optional<std::map<std::string, std::string>> Slot::string_table() {
  if (value_.type != Value::Type::table) return wrong(), std::nullopt;
  std::map<std::string, std::string> table;
  bool right = true;
  // a.b = 1 without quotes around a.b is a table in TOML, and means the same here.
  std::function<void(const Value&, const std::string&)> walk = [&](const Value& level, const std::string& prefix) {
    for (const auto& member : level.members) {
      auto name = prefix.empty() ? member.name : prefix + "." + member.name;
      auto path = fmt::format("{}.\"{}\"", path_, name);
      const auto& value = member.value;
      if (value.type == Value::Type::table && value.find("file") == nullptr) {
        walk(value, name);
        continue;
      }
      if (value.unresolved) {
        right = false;
        continue;
      }
      std::optional<std::string> text;
      if (value.type == Value::Type::integer) text = std::to_string(value.integer);
      if (value.type == Value::Type::floating) text = fmt::format("{}", value.floating);
      if (value.type == Value::Type::boolean) text = value.boolean ? "true" : "false";
      if (value.type == Value::Type::string) text = value.text;
      if (value.type == Value::Type::table) {
        text = secret_text(value, path);
        right = right && text.has_value();
      } else if (!text) {
        right = false;
        reading_.problems.push_back({value.place, fmt::format("{} is {}, expected a string", path, value.described())});
      }
      if (value.type == Value::Type::string && names_a_secret(name) && reading_.readable_by_all &&
          value.text == value.written) {
        reading_.warnings.push_back({value.place, path + " is a secret in a file that everybody can read"});
      }
      if (text) table[name] = *text;
    }
  };
  walk(value_, "");
  return right ? std::optional(table) : std::nullopt;
}

std::optional<std::string> Slot::secret_text(const Value& value, const std::string& path) {
  auto problem = [&](Place place, const std::string& text) {
    reading_.problems.push_back({place, path + " " + text});
    return std::nullopt;
  };
  const Member* file = value.find("file");
  for (const auto& member : value.members) {
    if (member.name != "file")
      return problem(member.place,
                     fmt::format("has an unknown key \"{}\", expected {{ file = \"...\" }}", member.name));
  }
  if (file == nullptr) return problem(value.place, "is a table, expected { file = \"...\" }");
  if (file->value.unresolved) return std::nullopt;
  if (file->value.type != Value::Type::string || file->value.text.empty()) {
    return problem(file->value.place, fmt::format("has the file {}, expected a path", file->value.described()));
  }
  std::filesystem::path where = reading_.directory / file->value.text;
  std::ifstream in(where, std::ios::binary);
  std::string text;
  if (in) {
    text.resize(kMostSecretBytes + 1);
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
  }
  if (!in && !in.eof())
    return problem(file->value.place, fmt::format("cannot be read from {}", file->value.described()));
  if (text.size() > kMostSecretBytes)
    return problem(file->value.place, fmt::format("is longer than 64 KiB in {}", file->value.described()));
  // Editors and echo end a file with a line feed that is no part of the secret.
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  if (text.empty()) return problem(file->value.place, fmt::format("is empty in {}", file->value.described()));
  if (readable_by_all(where)) {
    reading_.warnings.push_back({file->value.place, fmt::format("{} is in the file {}, which everybody can read", path,
                                                                file->value.described())});
  }
  return text;
}

std::optional<Secret> Slot::secret() {
  if (value_.type == Value::Type::string) {
    if (reading_.readable_by_all && value_.text == value_.written && !value_.text.empty()) {
      reading_.warnings.push_back({value_.place, path_ + " is a secret in a file that everybody can read"});
    }
    return Secret(value_.text);
  }
  if (value_.type != Value::Type::table) return wrong(), std::nullopt;
  auto text = secret_text(value_, path_);
  return text ? std::optional(Secret(*text)) : std::nullopt;
}

void Slot::tables(const std::function<void(const Value&, const std::string&, Reading&)>& read) {
  if (value_.type != Value::Type::list) return wrong();
  for (std::size_t i = 0; i < value_.items.size(); ++i) {
    const auto& item = value_.items[i];
    auto path = fmt::format("{}[{}]", path_, i);
    if (item.type == Value::Type::table) {
      read(item, path, reading_);
    } else {
      reading_.problems.push_back({item.place, fmt::format("{} is {}, expected a table", path, item.described())});
    }
  }
}

}  // namespace penstock
