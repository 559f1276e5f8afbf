#include "drivers/lines/csv.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "drivers/lines/utf8.h"

namespace penstock {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// RFC 8259, section 6.
bool is_json_number(std::string_view text) {
  std::size_t at = 0;
  auto digits = [&] {
    std::size_t begin = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    return at > begin;
  };
  if (at < text.size() && text[at] == '-') ++at;
  bool zero = at < text.size() && text[at] == '0';
  std::size_t begin = at;
  if (!digits() || (zero && at - begin > 1)) return false;
  if (at < text.size() && text[at] == '.') {
    ++at;
    if (!digits()) return false;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (!digits()) return false;
  }
  return at == text.size();
}

/// False: not UTF-8.
bool append_json_text(std::string& to, std::string_view text) {
  to += '"';
  while (!text.empty()) {
    auto c = static_cast<unsigned char>(text[0]);
    std::size_t length = utf8_character(text);
    if (c == '"' || c == '\\') {
      to += '\\';
      to += text[0];
    } else if (c < 0x20) {  // NUL too: JSON can say it
      length = 1;
      to += fmt::format("\\u{:04x}", c);
    } else if (length == 0) {
      return false;
    } else {
      to += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  to += '"';
  return true;
}

/// The length of the line end that `text` begins with, 0: none.
std::size_t line_end(std::string_view text) {
  if (text.starts_with('\n')) return 1;
  return text.starts_with("\r\n") ? 2 : 0;
}

}  // namespace

Result<std::optional<CsvRow>> read_csv_row(std::string_view text, bool whole, char separator) {
  if (text.empty()) return std::optional<CsvRow>();
  const auto more = [] { return std::optional<CsvRow>(); };
  CsvRow row;
  std::size_t at = 0;
  while (true) {
    CsvField field;
    if (at < text.size() && text[at] == '"') {
      field.quoted = true;
      ++at;
      while (true) {
        auto quote = text.find('"', at);
        auto part = text.substr(at, quote == std::string_view::npos ? quote : quote - at);
        row.lines += static_cast<std::size_t>(std::count(part.begin(), part.end(), '\n'));
        field.text += part;
        if (quote == std::string_view::npos) {
          if (!whole) return more();
          return rejected(fmt::format("field {}: the quote is not closed", row.fields.size() + 1));
        }
        at = quote + 1;
        if (at == text.size() || text[at] != '"') break;
        field.text += '"';
        ++at;
      }
    } else {
      auto begin = at;
      while (at < text.size() && text[at] != separator && text[at] != '"' && line_end(text.substr(at)) == 0 &&
             text.substr(at) != "\r") {
        ++at;
      }
      if (at < text.size() && text[at] == '"') {
        return rejected(
            fmt::format("field {}: a quote inside a field that does not begin with one; such a field must "
                        "be quoted and its quotes doubled",
                        row.fields.size() + 1));
      }
      field.text = text.substr(begin, at - begin);
    }
    // What follows a field: the separator, a line end (of which the text may end after a half), or the end of all.
    auto rest = text.substr(at);
    bool last = rest.empty() || rest == "\r";
    if (last && !whole) return more();
    row.fields.push_back(std::move(field));
    if (last) {
      row.bytes = text.size();
      return std::optional(std::move(row));
    }
    if (rest[0] == separator) {
      ++at;
      continue;
    }
    auto end = line_end(rest);
    if (end == 0) return rejected(fmt::format("field {}: text behind the closing quote", row.fields.size()));
    row.bytes = at + end;
    return std::optional(std::move(row));
  }
}

Result<CsvHeader> CsvHeader::of(const CsvRow& row) {
  CsvHeader header;
  for (const auto& field : row.fields) {
    if (field.text.empty()) return rejected(fmt::format("column {} has no name", header.names_.size() + 1));
    if (header.find(field.text)) return rejected(fmt::format("there are two columns \"{}\"", field.text));
    std::string quoted;
    if (!append_json_text(quoted, field.text)) {
      return rejected(fmt::format("the name of column {} is not UTF-8", header.names_.size() + 1));
    }
    header.names_.push_back(field.text);
    header.quoted_.push_back(quoted + ":");
  }
  return header;
}

std::optional<std::size_t> CsvHeader::find(std::string_view name) const {
  auto found = std::find(names_.begin(), names_.end(), name);
  if (found == names_.end()) return std::nullopt;
  return static_cast<std::size_t>(found - names_.begin());
}

Result<std::string> CsvHeader::object(const CsvRow& row) const {
  if (row.fields.size() != names_.size()) {
    return rejected(fmt::format("{} fields, the header names {} columns", row.fields.size(), names_.size()));
  }
  std::string object = "{";
  for (std::size_t i = 0; i < names_.size(); ++i) {
    const auto& field = row.fields[i];
    if (i > 0) object += ',';
    object += quoted_[i];
    if (!field.quoted && field.text.empty()) {
      object += "null";
    } else if (!field.quoted && is_json_number(field.text)) {
      object += field.text;
    } else if (!append_json_text(object, field.text)) {
      return rejected(fmt::format("column \"{}\" is not UTF-8", names_[i]));
    }
  }
  return object + "}";
}

}  // namespace penstock
