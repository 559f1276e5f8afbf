// The block decoder: any bytes give whole records or an error. The checksum is put right first, as else nothing behind
// it would ever be reached; what decodes is packed again and must decode to the same.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "buffer/block.h"
#include "buffer/bytes.h"

namespace penstock {
namespace {
namespace fuzz_block {

std::vector<Record> read_all(BlockReader& reader, std::string_view value, bool* whole) {
  *whole = false;
  std::vector<Record> records;
  std::string_view piece[] = {value};
  auto header = reader.open(value);
  if (!header) header = reader.open(std::span<const std::string_view>(piece));
  if (!header) return records;
  for (Record record;;) {
    auto more = reader.next(record);
    if (!more) return records;
    if (!*more) break;
    records.push_back(record);
    if (records.size() > header->count) std::abort();
  }
  *whole = records.size() == header->count;
  if (!*whole) std::abort();
  return records;
}

void run(std::string value) {
  BlockReader reader;
  bool whole = false;
  read_all(reader, value, &whole);
  if (value.size() < kBlockHeaderBytes) return;
  store_little(value.data() + 8, block_checksum(value));
  auto records = read_all(reader, value, &whole);
  if (!whole) return;
  BlockBuilder builder;
  for (const auto& record : records) builder.append(record);
  if (builder.raw_bytes() > 4 * kMostRawBytes) return;
  BlockCoder coder(1, kBlockHeaderBytes + 8 * kMostRawBytes);
  auto again = coder.encode({}, Sequence(1), builder).value;
  if (again.empty() || read_all(reader, again, &whole) != records || !whole) std::abort();
}

}  // namespace fuzz_block
}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  penstock::fuzz_block::run(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
