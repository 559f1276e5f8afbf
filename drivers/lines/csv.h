// CSV as RFC 4180 has it, for whoever reads lines: rows of a text that comes in pieces, and rows as JSON objects.
//
// Lines end in LF or CRLF. A quoted field may hold separators, line ends and doubled quotes; a quote elsewhere is a
// mistake of the file and is said so, not guessed at. Plain values and functions; any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/result.h"

namespace penstock {

struct CsvField {
  std::string text;  // without quotes, doubled ones made one
  bool quoted = false;
};

struct CsvRow {
  std::vector<CsvField> fields;  // at least one
  std::size_t bytes = 0;         // it takes of the text, with its line end
  std::size_t lines = 1;         // it takes of the file

  bool blank() const { return fields.size() == 1 && fields[0].text.empty() && !fields[0].quoted; }
};

/// The row that `text` begins with. Nothing: it may go on behind the text's end; `whole` says that nothing comes there.
/// `rejected`: no row can be read here; what to skip is the reader's choice.
Result<std::optional<CsvRow>> read_csv_row(std::string_view text, bool whole, char separator = ',');

/// The columns, as the first row names them.
class CsvHeader {
 public:
  /// `rejected`: a name is empty, comes twice, or is not UTF-8.
  static Result<CsvHeader> of(const CsvRow& row);

  const std::vector<std::string>& names() const { return names_; }
  std::optional<std::size_t> find(std::string_view name) const;

  /// {"temp":21.5,"place":"roof","note":null}: what is a number as JSON writes it stays one, digit by digit; an empty
  /// field without quotes is null; all else is text. `rejected`: other fields than columns, or not UTF-8.
  Result<std::string> object(const CsvRow& row) const;

 private:
  std::vector<std::string> names_;
  std::vector<std::string> quoted_;  // as JSON: "temp":
};

}  // namespace penstock
