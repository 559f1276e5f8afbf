#include "agent/queue/import_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "agent/queue/import_desk.h"

namespace penstock {
namespace {

constexpr std::size_t kHeadBytes = 4096;
constexpr std::size_t kReadBytes = 256 << 10;
constexpr std::size_t kPathBytes = 300;  // of a path, in a position: for people only
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::string errno_text() { return std::generic_category().message(errno); }

/// FNV-1a, 64 bits: the same in every build, for ever.
std::string hash_of(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("{:016x}", hash);
}

/// A member of a position; nothing: it is not of our making.
template <class Value>
std::optional<Value> position_member(const nlohmann::json& json, const char* name) {
  auto found = json.find(name);
  if (found == json.end()) return std::nullopt;
  if constexpr (std::is_same_v<Value, std::string>) {
    return found->is_string() ? std::optional(found->get<std::string>()) : std::nullopt;
  } else {
    return found->is_number_unsigned() ? std::optional(found->get<Value>()) : std::nullopt;
  }
}

Result<ImportFormat::Kind> kind_by_extension(const std::filesystem::path& path, ImportFormat& format) {
  auto extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (extension == ".tsv" && format.separator == ',') format.separator = '\t';
  if (extension == ".csv" || extension == ".tsv") return ImportFormat::Kind::csv;
  if (extension == ".jsonl" || extension == ".ndjson" || extension == ".json") return ImportFormat::Kind::jsonl;
  return rejected(
      fmt::format("{}: the extension \"{}\" does not tell the format, --format would", path.string(), extension));
}

}  // namespace

ImportFile::ImportFile(std::filesystem::path path, ImportFormat format, Descriptor file)
    : path_(std::move(path)), format_(std::move(format)), file_(std::move(file)) {}

Result<std::unique_ptr<ImportFile>> ImportFile::open(const std::filesystem::path& path, const ImportFormat& format) {
  ImportFormat chosen = format;
  if (!chosen.kind) {
    auto kind = kind_by_extension(path, chosen);
    if (!kind) return kind.error();
    chosen.kind = *kind;
  }
  if (chosen.stream.empty()) chosen.stream = path.stem().string();
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat is {};
  if (!file || fstat(file.get(), &is) != 0) return rejected(fmt::format("{}: {}", path.string(), errno_text()));
  if (!S_ISREG(is.st_mode)) {
    return rejected(
        fmt::format("{}: not a regular file: where it was left off could not be found again", path.string()));
  }
  std::error_code error;
  auto absolute = std::filesystem::canonical(path, error);
  if (error) return rejected(fmt::format("{}: {}", path.string(), error.message()));

  std::unique_ptr<ImportFile> made(new ImportFile(path, std::move(chosen), std::move(file)));
  made->name_ = hash_of(absolute.string());
  made->size_ = static_cast<std::uint64_t>(is.st_size);
  if (auto begun = made->begin(); !begun) return begun.error();
  return made;
}

Result<void> ImportFile::begin() {
  head_bytes_ = static_cast<std::size_t>(std::min<std::uint64_t>(size_, kHeadBytes));
  auto hash = head(head_bytes_);
  if (!hash) return hash.error();
  head_hash_ = *hash;
  if (auto filled = fill(); !filled) return filled.error();
  if (rest().starts_with(kByteOrderMark)) take(kByteOrderMark.size(), 0);
  if (format_.kind != ImportFormat::Kind::csv) return {};

  Next bad;
  auto row = next_row(bad);
  if (!row) return row.error();
  if (!bad.problem.empty()) return rejected(bad.problem);
  if (!*row) return rejected(fmt::format("{}: there is no header row", path_.string()));
  auto refuse = [&](const std::string& why) { return rejected(fmt::format("{}:1: {}", path_.string(), why)); };
  auto header = CsvHeader::of(**row);
  if (!header) return refuse(header.error().what);
  header_ = std::move(*header);
  for (auto [name, column] : {std::pair(&format_.fields.time, &time_), std::pair(&format_.fields.stream, &stream_),
                              std::pair(&format_.fields.key, &key_)}) {
    if (name->empty()) continue;
    *column = header_->find(*name);
    if (*column) continue;
    std::string names;
    for (const auto& there : header_->names()) names += (names.empty() ? "" : ", ") + there;
    return refuse(fmt::format("there is no column \"{}\"; there are {}", *name, names));
  }
  return {};
}

Result<std::string> ImportFile::head(std::size_t bytes) const {
  std::string begin(bytes, '\0');
  std::size_t got = 0;
  while (got < bytes) {
    auto more = pread(file_.get(), begin.data() + got, bytes - got, static_cast<off_t>(got));
    if (more < 0 && errno == EINTR) continue;
    if (more < 0) return transient(fmt::format("{}: {}", path_.string(), errno_text()));
    if (more == 0) break;
    got += static_cast<std::size_t>(more);
  }
  begin.resize(got);
  return hash_of(begin);
}

/// More of the file into the buffer; false: there is no more.
Result<bool> ImportFile::fill() {
  buffer_.erase(0, at_);
  at_ = 0;
  std::size_t had = buffer_.size();
  buffer_.resize(had + kReadBytes);
  ssize_t got;
  do {
    got = pread(file_.get(), buffer_.data() + had, kReadBytes, static_cast<off_t>(place_.offset + had));
  } while (got < 0 && errno == EINTR);
  buffer_.resize(had + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  if (got < 0) return transient(fmt::format("{}: {}", path_.string(), errno_text()));
  whole_ = got == 0;
  return got > 0;
}

void ImportFile::take(std::size_t bytes, std::size_t lines) {
  at_ += bytes;
  place_.offset += bytes;
  place_.line += lines;
}

std::string ImportFile::here() const { return fmt::format("{}:{}: ", path_.string(), place_.line); }

/// What cannot be read is left behind up to the end of its first line.
Result<void> ImportFile::skip_line() {
  while (true) {
    auto end = rest().find('\n');
    if (end != std::string_view::npos) {
      take(end + 1, 1);
      return {};
    }
    take(rest().size(), 0);
    auto more = fill();
    if (!more) return more.error();
    if (!*more) return {};
  }
}

/// The next row that is not blank, taken; nothing at the end, and when `bad` says what is wrong.
Result<std::optional<CsvRow>> ImportFile::next_row(Next& bad) {
  const std::size_t longest = (1 << 20) + 6 * format_.max_record_bytes;
  while (true) {
    if (whole_ && rest().empty()) return std::optional<CsvRow>();
    auto row = read_csv_row(rest(), whole_, format_.separator);
    if (row && *row) {
      take((*row)->bytes, (*row)->lines);
      if ((*row)->blank()) continue;
      return row;
    }
    if (row && rest().size() <= longest) {
      if (auto filled = fill(); !filled) return filled.error();
      continue;
    }
    bad.what = Next::What::bad;
    bad.problem =
        here() + (row ? fmt::format("a row of more than {} bytes: is a quote not closed?", longest) : row.error().what);
    if (auto skipped = skip_line(); !skipped) return skipped.error();
    return std::optional<CsvRow>();
  }
}

/// The next line that is not blank, without its end, taken; else as next_row().
Result<std::optional<std::string_view>> ImportFile::next_line(Next& bad) {
  const std::size_t longest = (1 << 20) + 6 * format_.max_record_bytes;
  std::size_t searched = 0;
  while (true) {
    auto end = rest().find('\n', searched);
    if (end == std::string_view::npos && !whole_ && rest().size() <= longest) {
      searched = rest().size();
      if (auto filled = fill(); !filled) return filled.error();
      continue;
    }
    if (end == std::string_view::npos && !whole_) {
      bad.what = Next::What::bad;
      bad.problem = here() + fmt::format("a line of more than {} bytes", longest);
      if (auto skipped = skip_line(); !skipped) return skipped.error();
      return std::optional<std::string_view>();
    }
    if (rest().empty()) return std::optional<std::string_view>();
    auto line = rest().substr(0, end);
    take(end == std::string_view::npos ? line.size() : end + 1, 1);
    searched = 0;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") != std::string_view::npos) return std::optional(line);
  }
}

Result<ReadLine> ImportFile::of_row(const CsvRow& row) const {
  auto object = header_->object(row);
  if (!object) return object.error();
  ReadLine read;
  read.record.payload = std::move(*object);
  read.record.content_type = "application/json";
  if (time_) {
    auto time = parse_time(row.fields[*time_].text, format_.fields.zone);
    if (!time) return time.error();
    read.record.time = *time;
    read.record.time_source = TimeSource::device;
  }
  if (stream_) read.record.stream = row.fields[*stream_].text;
  if (key_) read.record.key = row.fields[*key_].text;
  return read;
}

Result<ReadLine> ImportFile::finish(ReadLine read) const {
  auto& record = read.record;
  if (record.stream.empty()) record.stream = format_.stream;
  if (!format_.driver.empty()) record.driver = format_.driver;
  if (record.driver.empty()) record.driver = kImportDriver;
  if (record.bytes() > format_.max_record_bytes) {
    return rejected(fmt::format("a record of {} bytes, at most {} (max_record_bytes) are taken", record.bytes(),
                                format_.max_record_bytes));
  }
  return read;
}

Result<ImportFile::Next> ImportFile::next() {
  Next next;
  Place before = place_;
  std::optional<Result<ReadLine>> read;
  if (format_.kind == ImportFormat::Kind::csv) {
    auto row = next_row(next);
    if (!row) return row.error();
    if (!*row) return next;
    before.line = place_.line - (*row)->lines;
    read = of_row(**row);
  } else {
    auto line = next_line(next);
    if (!line) return line.error();
    if (!*line) return next;
    before.line = place_.line - 1;
    read = read_line(**line, format_.fields);
  }
  if (*read) read = finish(std::move(**read));
  if (*read) {
    next.what = Next::What::record;
    next.row = std::move(**read);
    ++place_.records;
  } else {
    next.what = Next::What::bad;
    next.problem = fmt::format("{}:{}: {}", path_.string(), before.line, read->error().what);
  }
  return next;
}

std::string ImportFile::position(const Place& place) const {
  nlohmann::ordered_json json{{"next", place.offset},      {"line", place.line}, {"records", place.records},
                              {"head_bytes", head_bytes_}, {"head", head_hash_}, {"round", round_}};
  auto path = path_.string();
  json["path"] = path.size() <= kPathBytes ? path : path.substr(path.size() - kPathBytes);
  auto text = json.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace);
  if (text.size() <= kMostStateValueBytes) return text;
  json.erase("path");  // of many characters that JSON must escape
  return json.dump();
}

void ImportFile::begin_again(const std::string& position) {
  auto json = nlohmann::json::parse(position, nullptr, false);
  round_ = position_member<std::uint64_t>(json, "round").value_or(0) + 1;
}

Result<bool> ImportFile::go_on(const std::string& position) {
  auto json = nlohmann::json::parse(position, nullptr, false);
  auto offset = position_member<std::uint64_t>(json, "next"), line = position_member<std::uint64_t>(json, "line");
  auto records = position_member<std::uint64_t>(json, "records"),
       head_bytes = position_member<std::uint64_t>(json, "head_bytes");
  auto hash = position_member<std::string>(json, "head");
  if (!json.is_object() || !offset || !line || !records || !head_bytes || !hash) {
    return rejected(fmt::format("{}: the position kept for it cannot be understood: {}", path_.string(), position));
  }
  auto present = head(std::min<std::size_t>(static_cast<std::size_t>(*head_bytes), kHeadBytes));
  if (!present) return present.error();
  round_ = position_member<std::uint64_t>(json, "round").value_or(0);
  if (*present != *hash) {
    ++round_;
    return false;
  }
  if (*offset > size_) {
    return rejected(
        fmt::format("{}: has {} bytes, of which {} were imported: it was cut since", path_.string(), size_, *offset));
  }
  if (*offset < place_.offset) return true;  // it ends within the header: nothing was taken
  place_ = {*offset, *line, *records};
  buffer_.clear();
  at_ = 0;
  if (auto filled = fill(); !filled) return filled.error();
  char last = '\n';
  if (*offset > 0 && pread(file_.get(), &last, 1, static_cast<off_t>(*offset - 1)) != 1) {
    return transient(fmt::format("{}: {}", path_.string(), errno_text()));
  }
  if (last == '\n' || rest().empty()) return true;
  // The last line had no end when it was taken. Has it got one since, or more text?
  auto end = rest().starts_with("\r\n") ? 2 : rest().starts_with('\n') ? 1 : 0;
  if (end == 0) {
    return rejected(fmt::format("{}:{}: this line was imported before it was complete", path_.string(), *line - 1));
  }
  take(static_cast<std::size_t>(end), 0);
  return true;
}

}  // namespace penstock
