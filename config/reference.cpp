#include <fmt/format.h>

#include "config/generate.h"

namespace penstock {
namespace {

/// In a cell of a table a bar would end it.
std::string cell(const std::string& text) {
  std::string out;
  for (char letter : text) out += letter == '|' ? std::string("\\|") : std::string(1, letter);
  return out;
}

std::string type_of(const Key& key) {
  auto text = key.expected();
  if (!key.unit.empty()) text += " of " + key.unit;
  return text;
}

std::string default_of(const Key& key) {
  if (key.required) return "required";
  return key.fallback.empty() ? "none" : "`" + key.fallback + "`";
}

std::string table_of(const std::vector<Key>& keys) {
  std::string out = "| key | takes | default | meaning |\n|---|---|---|---|\n";
  for (const auto& key : keys) {
    auto meaning = key.doc;
    if (!key.example.empty()) meaning += " Example: `" + key.example + "`";
    out += fmt::format("| `{}` | {} | {} | {} |\n", key.name, cell(type_of(key)), cell(default_of(key)), cell(meaning));
  }
  for (const auto& key : keys) {
    if (key.type == KeyType::tables) out += fmt::format("\nEach table of `{}`:\n\n", key.name) + table_of(key.keys);
  }
  return out;
}

constexpr const char* kOpening = R"(# Configuration

<!-- Made by `penstock config reference`; a test compares it with the program. Do not edit. -->

One TOML file. `penstock check -c FILE` reads it as `penstock run -c FILE` would and says everything that is wrong with
it at once, as `file:line:column: what is wrong, what was expected`; its exit status is 0, or 78 when there is a
problem. `penstock config example` prints a commented file, `penstock config schema` a JSON Schema for editors.

- A duration is a whole number and a unit: `us`, `ms`, `s`, `m`, `h`, `d`. A size has the unit `B`, `KiB`, `MiB`, `GiB`
  or `TiB` (powers of 1,024), a rate is a size a second (`"256KiB/s"`), a percentage ends in `%`.
- In any string `${NAME}` takes the environment variable NAME, and `$$` is a `$`. A variable that is not set is a problem.
- A secret is a string, `"${NAME}"`, or `{ file = "path" }`: the content of a file, without the line feed at its end. A
  relative path starts at the configuration's folder. With systemd's `LoadCredential=broker:/etc/penstock/broker.password`
  write `{ file = "${CREDENTIALS_DIRECTORY}/broker" }`. A secret in a file that everybody can read earns a warning. No
  secret is ever part of an error text.
- A key that Penstock does not know is a problem, not ignored.
)";

}  // namespace

std::string reference_page(const std::vector<DriverKind>& kinds) {
  std::string out = kOpening;
  for (const auto& section : sections()) {
    out += fmt::format("\n## [{}{}]\n\n{}\n\n", section.name, section.named ? ".NAME" : "", section.doc);
    out += table_of(section.keys.keys);
    if (section.name != "drivers") continue;
    out += "\nThese are of every driver; each type adds its own.\n";
    for (const auto& kind : kinds) {
      out += fmt::format("\n### type = \"{}\"\n\n{}\n\n", kind.name, kind.summary) + table_of(kind.keys.keys);
    }
  }
  return out;
}

}  // namespace penstock
