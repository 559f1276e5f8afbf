#include "agent/daemon/loss_log.h"

#include "tests/catch.h"

namespace penstock {
namespace {
namespace loss_log_test {

using namespace std::chrono_literals;
using Lines = std::vector<std::string>;

TEST_CASE("each loss is told once, the first one at once", "[losses]") {
  LossLog log;
  CHECK(log.due({}, 10s).empty());
  CHECK(log.due({{Cause::evicted, 5}}, 11s) ==
        Lines{"5 records given up: evicted; 5 for this cause since the start. Gap records tell Kafka"});
  CHECK(log.due({{Cause::evicted, 5}}, 200s).empty());
  CHECK(log.due({{Cause::evicted, 7}}, 300s) ==
        Lines{"2 records given up: evicted; 7 for this cause since the start. Gap records tell Kafka"});
}

TEST_CASE("a flood of losses is one line a minute for each cause, and none of them is left out", "[losses]") {
  LossLog log;
  CHECK(log.due({{Cause::evicted, 1}}, 0s).size() == 1);
  CHECK(log.due({{Cause::evicted, 100}, {Cause::damaged, 3}}, 30s) ==
        Lines{"3 records given up: damaged; 3 for this cause since the start. Gap records tell Kafka"});
  CHECK(log.due({{Cause::evicted, 200}, {Cause::damaged, 3}}, 61s) ==
        Lines{"199 records given up: evicted; 200 for this cause since the start. Gap records tell Kafka"});
  CHECK(log.rest({{Cause::evicted, 210}, {Cause::damaged, 3}}) ==
        Lines{"10 records given up: evicted; 210 for this cause since the start. Gap records tell Kafka"});
  CHECK(log.rest({{Cause::evicted, 210}, {Cause::damaged, 3}}).empty());
}

}  // namespace loss_log_test
}  // namespace
}  // namespace penstock
