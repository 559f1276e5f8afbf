#include "buffer/watermark.h"

#include <thread>

#include "tests/agent/wait_until.h"
#include "tests/catch.h"

namespace penstock {
namespace {
namespace watermark_test {

using std::chrono::seconds;

TEST_CASE("a watermark only rises, and its subscribers run once a rise", "[watermark]") {
  Watermark mark(5);
  std::vector<std::uint64_t> seen;
  mark.subscribe([&] { seen.push_back(mark.value()); });
  mark.raise(4);
  mark.raise(5);
  CHECK(seen.empty());
  mark.raise(9);
  mark.raise(7);
  mark.raise(10);
  CHECK(seen == std::vector<std::uint64_t>{9, 10});
}

TEST_CASE("waiting for what is reached already does not wait, not even when stopped", "[watermark]") {
  Watermark mark(5);
  std::stop_source stopped;
  stopped.request_stop();
  CHECK(mark.wait(5, stopped.get_token()));
  CHECK(mark.wait_for(5, seconds(0), stopped.get_token()));
  CHECK_FALSE(mark.wait(6, stopped.get_token()));
  CHECK_FALSE(mark.wait_for(6, std::chrono::hours(1), stopped.get_token()));
  CHECK_FALSE(mark.wait_for(6, seconds(0), {}));
}

TEST_CASE("a rise wakes every thread whose value is reached and a stop wakes the others", "[watermark]") {
  Watermark mark;
  std::atomic<int> waiting{0}, reached{0}, stopped{0};
  std::stop_source stop;
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t wanted : {1u, 2u, 3u, 100u}) {
      threads.emplace_back([&, wanted] {
        ++waiting;
        (mark.wait(wanted, stop.get_token()) ? reached : stopped)++;
      });
    }
    CHECK(wait_until([&] { return waiting == 4; }));
    for (std::uint64_t value = 1; value <= 3; ++value) mark.raise(value);
    CHECK(wait_until([&] { return reached == 3; }));
    CHECK(stopped == 0);
    stop.request_stop();
  }
  CHECK(reached == 3);
  CHECK(stopped == 1);
}

TEST_CASE("many threads raising leave the highest value", "[watermark]") {
  Watermark mark;
  std::atomic<std::uint64_t> rises{0};
  mark.subscribe([&] { ++rises; });
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (std::uint64_t i = 0; i < 2'000; ++i) mark.raise(4 * i + t);
      });
    }
  }
  CHECK(mark.value() == 7'999);
  CHECK(rises >= 1);
  CHECK(rises <= 7'999);
}

}  // namespace watermark_test
}  // namespace
}  // namespace penstock
