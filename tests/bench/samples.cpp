#include "tests/bench/samples.h"

#include <fmt/format.h>

namespace penstock::bench {

Record Samples::next() {
  static constexpr const char* kinds[] = {"temperature", "pressure", "flow", "vibration"};
  static constexpr const char* units[] = {"Cel", "kPa", "L/s", "mm/s"};
  std::uint32_t which = static_cast<std::uint32_t>(random_() >> 8) % 200;
  std::uint32_t kind = which % 4;
  double value = 20 + which + 1e-4 * static_cast<double>((random_() >> 8) % 40'000);
  auto step = std::chrono::microseconds(8'000 + random_() % 4'000);
  time_ += step;
  boottime_ += step;

  Record record;
  record.driver = "plant";
  record.stream = fmt::format("plant/pump-{:02}/{}", which / 4, kinds[kind]);
  record.kind = Kind::message;
  record.synchronised = true;
  record.time = time_;
  record.boottime = boottime_;
  record.payload = fmt::format(
      R"({{"time":{},"device":"pump-{:02}","sensor":"{}","value":{:.4f},"unit":"{}","raw":{},"state":"ok","number":{}}})",
      time_.time_since_epoch().count() / 1000, which / 4, kinds[kind], value, units[kind], (random_() >> 8) % 4096,
      ++number_);
  return record;
}

std::vector<Record> Samples::next(std::size_t count) {
  std::vector<Record> records;
  records.reserve(count);
  while (records.size() < count) records.push_back(next());
  return records;
}

std::uint64_t payload_bytes(const std::vector<Record>& records) {
  std::uint64_t sum = 0;
  for (const auto& record : records) sum += record.payload.size();
  return sum;
}

}  // namespace penstock::bench
