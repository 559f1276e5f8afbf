#include <thread>

#include "tests/buffer/store_fixture.h"

namespace penstock {
namespace {
namespace store_threads_test {

/// Reads and delivers until `last` is delivered or the time is up; says what was wrong, or nothing. With few pages the
/// writer evicts under its feet.
std::string consume(Store& store, std::uint64_t last, std::uint64_t* records, std::uint64_t* gone) {
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  std::uint64_t next = 1;
  while (next <= last) {
    if (std::chrono::steady_clock::now() > end) return "not done in 60 s, at " + std::to_string(next);
    auto seen = store.durable().value();
    BatchLimits limits;
    limits.records = 500;
    auto batch = store.read(limits);
    if (!batch) return batch.error().what;
    if (batch->empty()) {
      store.durable().wait_for(seen + 1, std::chrono::milliseconds(20), {});
      continue;
    }
    std::map<std::uint64_t, std::uint64_t> ranges;
    for (const auto& gap : batch->gaps) {
      if (gap.cause != Cause::evicted) return std::string("a gap by ") + name_of(gap.cause);
      ranges[gap.first.value()] = gap.last.value();
      *gone += gap.count;
    }
    for (const auto& stored : batch->records) {
      ranges[stored.sequence.value()] = stored.sequence.value();
      if (stored.record.payload != StoreFixture::payload(stored.sequence.value())) return "another record";
      ++*records;
    }
    for (auto [first, until] : ranges) {
      if (first != next) return "expected " + std::to_string(next) + ", found " + std::to_string(first);
      next = until + 1;
    }
    store.delivered(batch->after);
  }
  return {};
}

TEST_CASE("writer, reader and onlooker at the same time: every record comes once", "[store][threads]") {
  for (std::uint64_t capacity : {std::uint64_t{1} << 20, std::uint64_t{16} << 20}) {
    StoreFixture f;
    f.settings.capacity_bytes = capacity;
    f.settings.compression_level = 0;
    f.open();
    constexpr std::uint64_t kLast = 60'000;
    std::uint64_t records = 0, gone = 0;
    std::string wrong = "not run";
    {
      std::jthread reader([&] { wrong = consume(*f.store, kLast, &records, &gone); });
      std::jthread onlooker([&](std::stop_token stop) {
        while (!stop.stop_requested()) {
          (void)f.store->status();
          (void)f.store->history();
          (void)f.store->wants_commit();
          (void)f.store->states("plant", "");
          std::this_thread::yield();
        }
      });
      f.put_many(kLast, 300);
      reader.join();
    }
    CHECK(wrong == "");
    CHECK(records + gone == kLast);
    CHECK(f.store->status().given_up.size() <= 1);
  }
}

}  // namespace store_threads_test
}  // namespace
}  // namespace penstock
