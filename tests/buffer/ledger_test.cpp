#include "buffer/ledger.h"

#include "tests/catch.h"

namespace penstock {
namespace {
namespace ledger_test {

constexpr Lane kLane{0}, kOther{1};

LedgerEntry range(std::uint64_t first, std::uint64_t last, Cause cause = Cause::evicted, Lane lane = kLane) {
  return {cause, lane, Sequence(first), Sequence(last), 0, {}};
}
LedgerEntry count(std::uint64_t n, Cause cause = Cause::refused) { return {cause, kLane, {}, {}, n, {}}; }

TEST_CASE("adjacent ranges of one lane and cause are one entry, others are not", "[ledger]") {
  Ledger ledger;
  ledger.add_range(range(1, 10), Sequence(1));
  ledger.add_range(range(11, 20), Sequence(1));
  ledger.add_range(range(31, 40), Sequence(1));
  ledger.add_range(range(21, 30, Cause::damaged), Sequence(1));
  ledger.add_range(range(21, 30, Cause::evicted, kOther), Sequence(1));
  REQUIRE(ledger.entries().size() == 4);
  CHECK(ledger.entries().at(1).last == Sequence(20));
  CHECK(ledger.entries().at(1).count == 20);
  CHECK(ledger.entries().at(2).first == Sequence(31));
  ledger.add_range(range(29, 30), Sequence(1));  // before an entry, too
  CHECK(ledger.entries().at(2).first == Sequence(29));
}

TEST_CASE("ranges of two epochs are two entries", "[ledger]") {
  Ledger ledger;
  ledger.add_range(range(1, 10), Sequence(1));
  ledger.add_range(range(11, 20), Sequence(11));
  CHECK(ledger.entries().size() == 2);
}

TEST_CASE("clipping takes away what is delivered and nothing else", "[ledger]") {
  Ledger ledger;
  ledger.add_range(range(1, 10), Sequence(1));
  ledger.add_range(range(21, 30), Sequence(1));
  ledger.add_range(range(1, 30, Cause::evicted, kOther), Sequence(1));
  ledger.add_count(count(7), 0);
  ledger.forget_changes();
  ledger.clip(kLane, Sequence(24));
  CHECK(ledger.changed() == std::set<std::uint64_t>{1, 2});
  REQUIRE(ledger.entries().size() == 3);
  CHECK(ledger.entries().at(2).first == Sequence(25));
  CHECK(ledger.entries().at(2).count == 6);
  CHECK(ledger.covering(kLane, Sequence(24)) == nullptr);
  CHECK(ledger.covering(kLane, Sequence(25)) != nullptr);
  CHECK(ledger.covering(kOther, Sequence(1)) != nullptr);
  CHECK(ledger.following(kLane, Sequence(26)) == nullptr);
  CHECK(ledger.following(kLane, Sequence(11))->first == Sequence(25));
}

TEST_CASE("a count grows until it is closed; striking ends counts only; numbers are never given twice", "[ledger]") {
  Ledger ledger;
  ledger.add_count(count(1), 0);
  ledger.add_count(count(2), 0);
  ledger.add_count(count(5, Cause::too_large), 0);
  CHECK(ledger.entries().at(1).count == 3);
  ledger.add_count(count(4), 2);
  CHECK(ledger.entries().at(1).count == 3);
  CHECK(ledger.entries().at(3).count == 4);
  ledger.add_range(range(1, 2), Sequence(1));
  for (std::uint64_t n = 1; n <= 4; ++n) ledger.strike(n);
  CHECK(ledger.entries().size() == 1);
  ledger.clip(kLane, Sequence(2));
  ledger.add_count(count(1), 0);
  CHECK(ledger.entries().begin()->first == 5);
  CHECK(ledger.last_number() == 5);
}

}  // namespace ledger_test
}  // namespace
}  // namespace penstock
