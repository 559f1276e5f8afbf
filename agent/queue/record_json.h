// Records as lines of JSON: what `queue export` writes, `import` reads, and both say over the control socket.
// docs/formats.md, "An exported record", has the members.
//
// Pure functions; any thread. Strings in, strings out: nobody else needs to know a JSON library.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/store.h"
#include "drivers/lines/times.h"

namespace penstock {

/// 2026-05-04T12:00:00.123456Z
std::string time_text(WallTime time);

/// One line without its end, with all that the store knows of the record.
std::string export_line(const StoredRecord& stored, const std::string& lane);

/// Names of members of a foreign line; a name that begins with / is a JSON pointer (RFC 6901). Empty: none.
struct FieldNames {
  std::string time, stream, key;
  Zone zone = Zone::demanded;
};

struct ReadLine {
  Record record;     // time at zero: the line says none
  std::string lane;  // as an exported line names it; empty: it does not
};
/// An exported line, or any JSON object: then the line itself is the payload, and the fields named are read from it.
/// `rejected`: neither, or a field that is named is not there or not of its kind.
Result<ReadLine> read_line(std::string_view line, const FieldNames& fields);

/// {"command":"import",...}
struct ImportRequest {
  std::string file;                 // by what name the position is kept
  std::string lane;                 // by name
  std::optional<std::string> from;  // the position before this request; nothing: none was kept
  std::string to;                   // and after it
  std::vector<Record> records;      // may be empty
};
std::string write_request(const ImportRequest& request);
Result<ImportRequest> read_request(const std::string& line);

}  // namespace penstock
