// ImportFile: a file of historical data, record by record, and where one is in it.
//
// CSV with a header row (each row becomes a JSON object), JSON lines, or what `queue export` wrote. A position names the
// byte behind the last row taken and is bound to the file by its path and a hash of its beginning (at most 4 KiB): a
// file that has grown since is gone on with, another one under the same name begins at its first line.
//
// One thread. RAM is bounded by the longest line taken.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "agent/queue/record_json.h"
#include "buffer/descriptor.h"
#include "drivers/lines/csv.h"

namespace penstock {

struct ImportFormat {
  enum class Kind { csv, jsonl };
  std::optional<Kind> kind;  // nothing: by the file's extension
  char separator = ',';
  FieldNames fields;   // of a row or a line; an exported line says these itself
  std::string stream;  // when no field does; empty: the file's name without its extension
  std::string driver;  // empty: what an exported line says, else "import"
  std::size_t max_record_bytes = std::size_t{1} << 20;
};

class ImportFile {
 public:
  /// Opens, and reads a CSV's header. `rejected`: it cannot be read, or not so.
  static Result<std::unique_ptr<ImportFile>> open(const std::filesystem::path& path, const ImportFormat& format);

  /// What the file is called where positions are kept: a hash of its absolute path.
  const std::string& name() const { return name_; }

  struct Place {
    std::uint64_t offset = 0;   // of the next row
    std::uint64_t line = 1;     // its number
    std::uint64_t records = 0;  // taken before it
  };
  const Place& place() const { return place_; }
  std::uint64_t size() const { return size_; }
  /// To be kept in the same commit as the records before that place.
  std::string position(const Place& place) const;
  /// Goes on behind a position that was kept. False: it is that of another file; this one begins at its first row.
  /// `rejected`: it is this file, but what was taken cannot be told from what was not.
  Result<bool> go_on(const std::string& position);
  /// Begins at the first row, and no position from here on is one that was kept before.
  void begin_again(const std::string& position);

  struct Next {
    enum class What { record, bad, end };
    What what = What::end;
    ReadLine row;         // of a record
    std::string problem;  // of a bad one: FILE:LINE: what is wrong
  };
  /// The next row; place() is behind it afterwards, also behind a bad one. An error: the file cannot be read.
  Result<Next> next();

 private:
  ImportFile(std::filesystem::path path, ImportFormat format, Descriptor file);
  Result<void> begin();
  Result<bool> fill();
  Result<void> skip_line();
  Result<std::optional<CsvRow>> next_row(Next& bad);
  Result<std::optional<std::string_view>> next_line(Next& bad);
  Result<ReadLine> of_row(const CsvRow& row) const;
  Result<ReadLine> finish(ReadLine read) const;
  Result<std::string> head(std::size_t bytes) const;
  std::string_view rest() const { return std::string_view(buffer_).substr(at_); }
  void take(std::size_t bytes, std::size_t lines);
  std::string here() const;

  const std::filesystem::path path_;
  ImportFormat format_;
  Descriptor file_;
  std::string name_;
  std::uint64_t size_ = 0;
  std::string head_hash_;
  std::size_t head_bytes_ = 0;
  std::uint64_t round_ = 0;  // how often it was begun again
  std::optional<CsvHeader> header_;
  std::optional<std::size_t> time_, stream_, key_;  // columns

  std::string buffer_;  // of the file, from place_.offset - at_ on
  std::size_t at_ = 0;
  bool whole_ = false;  // nothing comes behind the buffer
  Place place_;
};

}  // namespace penstock
