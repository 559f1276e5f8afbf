// CSV: the first byte picks the separator, the rest is a file.
//
// Claims beside "does not crash": every row takes something; a row that was given while more might come is the same when
// all of it is there; an object has as many members as there are columns.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "drivers/lines/csv.h"
#include "drivers/lines/times.h"
#include "drivers/lines/utf8.h"

namespace {

using namespace penstock;

void demand(bool holds) {
  if (!holds) std::abort();
}

bool same(const CsvRow& a, const CsvRow& b) {
  return a.bytes == b.bytes && a.lines == b.lines && a.fields.size() == b.fields.size() &&
         std::equal(a.fields.begin(), a.fields.end(), b.fields.begin(),
                    [](const auto& x, const auto& y) { return x.text == y.text && x.quoted == y.quoted; });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  char separator = (data[0] & 1) != 0 ? ';' : ',';
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::optional<CsvHeader> header;
  while (!text.empty()) {
    auto early = read_csv_row(text, false, separator);
    auto row = read_csv_row(text, true, separator);
    demand(!early.ok() || row.ok() || !*early);
    demand(early.ok() || !row.ok());
    if (!row.ok()) {  // as a reader that goes on: behind this line
      auto end = text.find('\n');
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      continue;
    }
    demand(row->has_value() && (*row)->bytes > 0 && (*row)->bytes <= text.size() && !(*row)->fields.empty());
    if (early.ok() && *early) demand(same(**early, **row));
    for (const auto& field : (*row)->fields) (void)parse_time(field.text, Zone::utc_when_missing).ok();
    if (!header) {
      auto made = CsvHeader::of(**row);
      if (made.ok()) header = *made;
    } else if (auto object = header->object(**row); object.ok()) {
      demand((*row)->fields.size() == header->names().size());
      demand(object->front() == '{' && object->back() == '}' && is_utf8(*object));
    }
    text.remove_prefix((*row)->bytes);
  }
  return 0;
}
