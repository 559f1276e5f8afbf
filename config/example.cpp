#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "config/generate.h"

namespace penstock {
namespace {

/// Words broken at 100 columns, each line begun by `# `.
std::string comment(const std::string& text) {
  std::string out, line = "#";
  for (std::size_t at = 0; at < text.size();) {
    auto end = std::min(text.find(' ', at), text.size());
    if (line.size() + 1 + end - at > 100) out += line + "\n", line = "#";
    line += " " + text.substr(at, end - at);
    at = end + 1;
  }
  return out + line + "\n";
}

std::string example_of(const Key& key) {
  if (!key.example.empty()) return key.example;
  if (!key.fallback.empty()) return key.fallback;
  switch (key.type) {
    case KeyType::secret: {
      std::string name = key.name;
      std::transform(name.begin(), name.end(), name.begin(),
                     [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
      return "\"${" + name + "}\"";
    }
    case KeyType::tables: {
      std::string table;
      for (const auto& inner : key.keys) {
        if (inner.required || !inner.example.empty()) {
          table += fmt::format("{} {} = {}", table.empty() ? "" : ",", inner.name, example_of(inner));
        }
      }
      return table.empty() ? "[]" : "[{" + table + " }]";
    }
    case KeyType::strings: return "[]";
    case KeyType::string_table: return "{}";
    case KeyType::duration: return "\"60s\"";
    case KeyType::size: return "\"1MiB\"";
    case KeyType::rate: return "\"256KiB/s\"";
    case KeyType::percentage: return "\"10%\"";
    case KeyType::boolean: return "false";
    case KeyType::integer: return "1";
    case KeyType::floating: return "1.0";
    case KeyType::choice: return fmt::format("\"{}\"", key.choices.front());
    case KeyType::string: break;
  }
  return "\"\"";
}

std::string keys_of(const std::vector<Key>& keys, bool commented_out) {
  std::string out;
  for (const auto& key : keys) {
    out += comment(key.doc + " (" + key.expected() + (key.required ? "; required)" : ")"));
    out += fmt::format("{}{} = {}\n", commented_out || !key.required ? "#" : "", key.name, example_of(key));
  }
  return out;
}

}  // namespace

std::string example_file(const std::vector<DriverKind>& kinds) {
  std::string out =
      "# The configuration of Penstock. Every key is here; one that is commented out shows its default, or an\n"
      "# example if it has none. `penstock check -c FILE` says all that is wrong with a file; docs/configuration.md\n"
      "# is the same as a page.\n";
  for (const auto& section : sections()) {
    out += "\n" + comment(section.doc);
    if (section.name == "lanes") {
      out += "#[lanes.alarms]\n" + keys_of(section.keys.keys, true);
      out += "#[lanes.telemetry]\n#priority = 1\n";
      continue;
    }
    if (section.name != "drivers") {
      out += fmt::format("[{}]\n", section.name) + keys_of(section.keys.keys, false);
      continue;
    }
    // The one that needs no device is what works at once; every other is there to be uncommented.
    auto active =
        std::find_if(kinds.begin(), kinds.end(), [](const DriverKind& kind) { return kind.name == "simulator"; });
    if (active == kinds.end()) active = kinds.begin();
    for (auto kind = kinds.begin(); kind != kinds.end(); ++kind) {
      std::string off = kind == active ? "" : "#";
      out += "\n" + comment(fmt::format("{}: {}", kind->name, kind->summary));
      out += fmt::format("{0}[drivers.{1}]\n{0}type = \"{1}\"\n", off, kind->name);
      for (const auto& key : section.keys.keys) {
        if (key.name == "type") continue;
        if (kind == kinds.begin()) out += comment(key.doc + " (" + key.expected() + ")");
        out += fmt::format("#{} = {}\n", key.name, example_of(key));
      }
      out += keys_of(kind->keys.keys, kind != active);
    }
  }
  return out;
}

}  // namespace penstock
