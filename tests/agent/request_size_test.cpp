#include "agent/kafka/request_size.h"

#include "tests/catch.h"

namespace penstock {
namespace {
namespace request_size_test {

using namespace std::chrono_literals;

TEST_CASE("requests become smaller with each refusal, down to what every topic takes as a rule") {
  RequestSize size;
  CHECK(size.bytes(0s) == 4'000'000);
  CHECK(size.refused(1s));
  CHECK(size.bytes(1s) == 2'000'000);
  CHECK(size.refused(2s));
  CHECK(size.bytes(2s) == 1'000'000);
  CHECK_FALSE(size.refused(3s));
  CHECK(size.bytes(3s) == 1'000'000);
}

TEST_CASE("a day after the last refusal requests are large again") {
  RequestSize size;
  size.refused(1h);
  size.refused(2h);
  CHECK(size.bytes(26h) == 1'000'000);
  CHECK(size.bytes(26h + 1us) == 4'000'000);
  CHECK(size.refused(27h));
}

TEST_CASE("on a slow link a request is what it moves in three seconds, within bounds") {
  RequestSize size;
  size.moved(6'000'000, 6s);
  CHECK(size.bytes(0s) == 3'000'000);
  size.moved(6'000'000, 60s);
  CHECK(size.bytes(0s) == 1'000'000);
  size.moved(99'999, 60s);  // says nothing of the link
  size.moved(6'000'000, 0s);
  CHECK(size.bytes(0s) == 4'000'000);
  size.moved(6'000'000, 6s);
  CHECK(size.refused(0s));
  CHECK(size.bytes(0s) == 1'500'000);
  CHECK(size.bytes(25h) == 3'000'000);
  size.moved(6'000'000, 60s);
  CHECK_FALSE(size.refused(25h));
}

}  // namespace request_size_test
}  // namespace
}  // namespace penstock
