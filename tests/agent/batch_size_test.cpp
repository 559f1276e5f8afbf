#include "agent/forward/batch_size.h"

#include "tests/catch.h"

namespace penstock {
namespace {
namespace batch_size_test {

using namespace std::chrono_literals;

/// A link of so many bytes a second, with a round trip, and a backlog behind it.
struct Link {
  BatchSize size{{50'000, std::size_t{8} << 20}, 10s};
  double bytes_per_second;
  BootTime round_trip{};
  BootTime took{};

  void send(int batches) {
    for (int i = 0; i < batches; ++i) {
      auto bytes = size.limits().bytes;
      took = round_trip + BootTime(static_cast<std::int64_t>(1e6 * static_cast<double>(bytes) / bytes_per_second));
      size.committed(bytes, took, true);
    }
  }
};

TEST_CASE("on a fast link a batch soon has its full size", "[forwarder]") {
  Link link{.bytes_per_second = 1e8};
  CHECK(link.size.limits().bytes < std::size_t{1} << 20);
  link.send(4);
  CHECK(link.size.limits().bytes == std::size_t{8} << 20);
  CHECK(link.size.limits().records == 50'000);
}

TEST_CASE("on a slow link a batch is what it moves in the time given, round trips included", "[forwarder]") {
  for (double rate : {5e3, 64e3, 256e3}) {
    Link link{.bytes_per_second = rate, .round_trip = 1s};
    link.send(10);
    INFO("rate " << rate << ": " << link.size.limits().bytes);
    CHECK(link.took <= 11s);
    CHECK((link.took >= 8s || link.size.limits().bytes == std::size_t{16} << 10));
  }
}

TEST_CASE("behind a rate limit the very first batch is no more than what the limit moves in the time given",
          "[forwarder]") {
  auto first = [](std::uint64_t limit) { return BatchSize({50'000, std::size_t{8} << 20}, 10s, limit).limits().bytes; };
  CHECK(first(8 << 10) == 80 << 10);
  CHECK(first(3 << 10) == 30 << 10);
  CHECK(first(1 << 10) == 16 << 10);
  CHECK(first(1 << 20) == first(0));
}

TEST_CASE("a link that becomes slow makes the batches small with the first one that is late, or failed",
          "[forwarder]") {
  Link link{.bytes_per_second = 1e8};
  link.send(4);
  link.bytes_per_second = 100e3;
  link.send(2);
  CHECK(link.took <= 10s + 1ms);
  Link failing{.bytes_per_second = 1e8};
  failing.send(4);
  failing.size.failed();
  CHECK(failing.size.limits().bytes == std::size_t{4} << 20);
  for (int i = 0; i < 20; ++i) failing.size.failed();
  CHECK(failing.size.limits().bytes == std::size_t{16} << 10);
}

TEST_CASE("small batches that leave nothing behind say nothing of the link", "[forwarder]") {
  BatchSize size({50'000, std::size_t{8} << 20}, 10s);
  auto before = size.limits().bytes;
  for (int i = 0; i < 100; ++i) size.committed(100, 20ms, false);
  CHECK(size.limits().bytes == before);
}

}  // namespace batch_size_test
}  // namespace
}  // namespace penstock
