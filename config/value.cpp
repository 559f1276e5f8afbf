#include "config/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

namespace penstock {
namespace {

constexpr std::size_t kMostShown = 60;

/// Printable, on one line, without the user and password of a URL.
std::string shown(std::string_view text) {
  std::string clean(text);
  auto scheme = clean.find("://");
  if (scheme != std::string::npos) {
    auto host_end = clean.find('/', scheme + 3);
    auto at = clean.rfind('@', host_end);
    if (at != std::string::npos && at > scheme) clean.replace(scheme + 3, at - scheme - 3, "***");
  }
  if (clean.size() > kMostShown) {
    auto cut = kMostShown;
    while (cut > 0 && (static_cast<unsigned char>(clean[cut]) & 0xC0) == 0x80) --cut;  // not within a character
    clean = clean.substr(0, cut) + "...";
  }
  for (auto& letter : clean) {
    if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f) letter = '?';
  }
  return clean;
}

/// Edits between two words: insert, delete, replace, or swap two neighbours (optimal string alignment).
std::size_t edits(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) above[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return above[b.size()];
}

}  // namespace

const Member* Value::find(std::string_view name) const {
  auto found = std::find_if(members.begin(), members.end(), [&](const Member& member) { return member.name == name; });
  return found == members.end() ? nullptr : &*found;
}

std::string Value::described() const {
  switch (type) {
    case Type::string: return fmt::format("\"{}\"", shown(written));
    case Type::integer: return fmt::format("{}", integer);
    case Type::floating: return fmt::format("{}", floating);
    case Type::boolean: return boolean ? "true" : "false";
    case Type::date: return "a date or time";
    case Type::list: return "a list";
    case Type::table: break;
  }
  return "a table";
}

Variables process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe): nobody calls setenv
    if (value == nullptr) return std::nullopt;
    return std::string(value);
  };
}

std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates) {
  if (word.size() > 100) return std::nullopt;
  std::optional<std::string> best;
  std::size_t fewest = 0;
  for (const auto& candidate : candidates) {
    auto distance = edits(word, candidate);
    auto allowed = std::max<std::size_t>(1, std::max(word.size(), candidate.size()) / 3);
    if (distance > allowed || distance >= std::max(word.size(), candidate.size())) continue;
    if (!best || distance < fewest) best = candidate, fewest = distance;
  }
  return best;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  auto near = nearest(word, candidates);
  return near ? fmt::format(", did you mean \"{}\"?", *near) : "";
}

}  // namespace penstock
