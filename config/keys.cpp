#include "config/keys.h"

#include <fmt/format.h>

#include <algorithm>

namespace penstock {
namespace {

std::string printed_as(KeyType type, double number) {
  switch (type) {
    case KeyType::duration:
      return fmt::format("\"{}\"", print_duration(std::chrono::microseconds(static_cast<std::int64_t>(number))));
    case KeyType::size: return fmt::format("\"{}\"", print_size(static_cast<std::uint64_t>(number)));
    case KeyType::rate: return fmt::format("\"{}\"", print_rate(static_cast<std::uint64_t>(number)));
    case KeyType::percentage: return fmt::format("\"{}\"", print_percentage(number));
    default: return fmt::format("{}", number);
  }
}

std::string kind_of(KeyType type) {
  switch (type) {
    case KeyType::string: return "a string";
    case KeyType::boolean: return "true or false";
    case KeyType::integer: return "a whole number";
    case KeyType::floating: return "a number";
    case KeyType::duration: return "a duration such as \"50ms\", \"60s\" or \"90d\"";
    case KeyType::size: return "a size such as \"512KiB\" or \"1GiB\"";
    case KeyType::rate: return "a rate such as \"256KiB/s\"";
    case KeyType::percentage: return "a percentage such as \"10%\"";
    case KeyType::choice: return "one of ";
    case KeyType::strings: return "a list of strings";
    case KeyType::string_table: return "a table of strings";
    case KeyType::tables: return "a list of tables";
    case KeyType::secret: break;
  }
  return "a string, \"${NAME}\" or { file = \"...\" }";
}

}  // namespace

// --- Key

std::string Key::expected() const {
  if (type == KeyType::choice) {
    std::string text;
    for (std::size_t i = 0; i < choices.size(); ++i) {
      if (i != 0) text += i + 1 == choices.size() ? " or " : ", ";
      text += fmt::format("\"{}\"", choices[i]);
    }
    return text;
  }
  std::string text = kind_of(type);
  if (!least && !most) return text;
  if (type != KeyType::integer && type != KeyType::floating) {
    text = text.substr(0, text.find(" such"));  // the range shows how it is written
  }
  auto low = printed_as(type, *least), high = printed_as(type, *most);
  text += fmt::format(" from {} to {}", low, high);
  return text;
}

// --- Complaints

Problem Complaints::made(std::string_view key, std::string_view text) const {
  const Member* member = table_.find(key);
  return {member != nullptr ? member->value.place : table_.place, fmt::format("{}.{} {}", path_, key, text)};
}

void Complaints::problem(std::string_view key, std::string_view text) { reading_.problems.push_back(made(key, text)); }
void Complaints::warning(std::string_view key, std::string_view text) { reading_.warnings.push_back(made(key, text)); }

// --- a whole table

namespace keys_inside {

void read_table(const std::vector<Key>& keys, const Value& table, const std::string& path, Reading& reading,
                const std::vector<std::string>& also, void* settings) {
  std::vector<std::string> known = also;
  for (const auto& key : keys) known.push_back(key.name);
  for (const auto& member : table.members) {
    if (std::find(also.begin(), also.end(), member.name) != also.end()) continue;
    auto key = std::find_if(keys.begin(), keys.end(), [&](const Key& one) { return one.name == member.name; });
    auto full = path.empty() ? member.name : path + "." + member.name;
    if (key != keys.end()) {
      if (member.value.unresolved) continue;
      Slot slot(*key, member.value, full, reading);
      key->read(settings, slot);
      continue;
    }
    auto home = reading.homes.find(member.name);
    auto hint = home != reading.homes.end() ? fmt::format(", it belongs to [{}]", home->second)
                                            : did_you_mean(member.name, known);
    if (hint.empty()) {
      hint = ", expected one of ";
      for (std::size_t i = 0; i < known.size(); ++i) hint += (i == 0 ? "" : ", ") + known[i];
    }
    reading.problems.push_back({member.place, fmt::format("{} is not a key of Penstock{}", full, hint)});
  }
  for (const auto& key : keys) {
    if (!key.required || !reading.whole || table.find(key.name) != nullptr) continue;
    auto expected = key.type == KeyType::string && key.check ? key.check("") : "";
    if (expected.empty()) expected = key.expected();
    reading.problems.push_back(
        {table.place, fmt::format("{}.{} is missing, expected {}", path, key.name,
                                  key.example.empty() ? expected : expected + ", for example " + key.example)});
  }
}

std::string toml_text(std::string_view text) {
  std::string out = "\"";
  for (char letter : text) {
    if (letter == '"' || letter == '\\') out += '\\';
    out += letter;
  }
  return out + "\"";
}

std::string print(double value) {
  auto text = fmt::format("{}", value);
  return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
}

std::string print(const std::vector<std::string>& list) {
  std::string text = "[";
  for (const auto& item : list) text += (text.size() == 1 ? "" : ", ") + toml_text(item);
  return text + "]";
}

}  // namespace keys_inside

}  // namespace penstock
