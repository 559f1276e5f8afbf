#include "agent/demo/account.h"
#include "tests/catch.h"

namespace penstock {
namespace {
namespace demo_account_test {

const Epoch kEpoch = draw<Epoch>();

/// Seven records of one lane handed over, and what is said to have arrived of them.
struct Books {
  explicit Books(int records = 7) {
    for (int n = 1; n <= records; ++n) account.enter(content(n));
  }

  static std::uint64_t content(std::uint64_t number) { return checksum_of("sim", "a", "", std::to_string(number)); }

  Account::Verdict arrives(std::uint64_t sequence, std::optional<std::uint64_t> number, std::int32_t partition = 0) {
    return arrives_as(sequence, number, content(number.value_or(0)), partition);
  }
  Account::Verdict arrives_as(std::uint64_t sequence, std::optional<std::uint64_t> number, std::uint64_t checksum,
                              std::int32_t partition = 0) {
    return account.arrive({"t", partition, "gw", kEpoch, "telemetry", Sequence(sequence), number, checksum});
  }
  void all_arrive(std::uint64_t from = 1, std::uint64_t to = 7) {
    for (auto n = from; n <= to; ++n) CHECK(arrives(n, n) == Account::Verdict::received);
  }
  Proof proof(std::uint64_t durable = 7) { return account.proof("gw", kEpoch, {{"telemetry", Sequence(durable)}}); }

  Account account;
};

TEST_CASE("the demo's proof holds when every record arrives once, and says so in one line") {
  Books books;
  books.all_arrive();
  auto proof = books.proof();
  CHECK(proof.holds());
  CHECK(proof.line() ==
        "proof: 7 sent, 7 received, 0 lost, 0 twice "
        "(0 repeats of aborted attempts skipped by the per-partition rule)");
}

TEST_CASE("a record that does not arrive breaks the demo's proof") {
  Books books;
  books.all_arrive(1, 3);
  books.all_arrive(5, 7);
  auto proof = books.proof();
  CHECK_FALSE(proof.holds());
  CHECK(proof.lost == 1);
  CHECK(proof.received == 6);
  CHECK_THAT(proof.line(), Catch::Contains("7 sent, 6 received, 1 lost"));
}

TEST_CASE("a record that the queue lost before it was numbered breaks the demo's proof") {
  Books books;
  for (std::uint64_t n = 1; n <= 6; ++n) books.arrives(n, n + 1);  // the first never got a sequence
  auto proof = books.proof(6);
  CHECK(proof.lost == 1);
  CHECK_FALSE(proof.holds());
}

TEST_CASE("one of the agent's own records that does not arrive is a hole in the sequences") {
  Books books;
  books.all_arrive();
  CHECK(books.arrives(9, {}) == Account::Verdict::own);
  auto proof = books.proof(9);
  CHECK(proof.own == 1);
  CHECK(proof.lost == 1);
  CHECK_FALSE(proof.holds());
}

TEST_CASE("the attempts of an aborted transaction are skipped by the per-partition rule and counted") {
  Books books;
  books.all_arrive(1, 4);
  for (std::uint64_t n : {2, 3, 4}) CHECK(books.arrives(n, n) == Account::Verdict::repeat);
  books.all_arrive(5, 7);
  auto proof = books.proof();
  CHECK(proof.holds());
  CHECK(proof.repeats == 3);
}

TEST_CASE("a record numbered twice by the queue breaks the demo's proof") {
  Books books;
  books.all_arrive();
  CHECK(books.arrives(8, 5) == Account::Verdict::twice);
  auto proof = books.proof(8);
  CHECK(proof.twice == 1);
  CHECK_FALSE(proof.holds());
}

TEST_CASE("a sequence in two partitions breaks the demo's proof") {
  Books books;
  books.all_arrive();
  CHECK(books.arrives(5, 5, 1) == Account::Verdict::twice);
  CHECK_FALSE(books.proof().holds());
}

TEST_CASE("one of the agent's own records in two partitions breaks the demo's proof") {
  Books books;
  books.all_arrive();
  CHECK(books.arrives(8, {}) == Account::Verdict::own);
  CHECK(books.arrives(8, {}, 1) == Account::Verdict::twice);
  CHECK_FALSE(books.proof(8).holds());
}

TEST_CASE("a lost record is not hidden by another one that arrives twice") {
  Books books;
  books.all_arrive(1, 6);
  CHECK(books.arrives(7, 6) == Account::Verdict::twice);
  auto proof = books.proof();
  CHECK(proof.lost == 1);
  CHECK(proof.twice == 1);
}

TEST_CASE("a record whose content changed on the way breaks the demo's proof") {
  Books books;
  books.all_arrive(1, 6);
  CHECK(books.arrives_as(7, 7, Books::content(8)) == Account::Verdict::changed);
  auto proof = books.proof();
  CHECK(proof.changed == 1);
  CHECK_FALSE(proof.holds());
  CHECK_THAT(proof.line(), Catch::Contains("1 arrived changed"));
}

TEST_CASE("a record that nobody handed over breaks the demo's proof") {
  Books books;
  books.all_arrive();
  CHECK(books.arrives(8, 99) == Account::Verdict::unknown);
  CHECK_FALSE(books.proof(8).holds());
}

TEST_CASE("a record above what the store made durable breaks the demo's proof") {
  Books books;
  books.all_arrive();
  CHECK_FALSE(books.proof(6).holds());
  CHECK(books.proof(6).unknown == 1);
}

TEST_CASE("a record of another epoch breaks the demo's proof") {
  Books books;
  books.all_arrive();
  books.account.arrive({"t", 0, "gw", draw<Epoch>(), "telemetry", Sequence(1), {}, 0});
  CHECK_FALSE(books.proof().holds());
}

TEST_CASE("what a full Intake did not take was not sent") {
  Books books(2);
  auto number = books.account.enter(1);
  books.account.take_back(number);
  books.account.enter(Books::content(4));
  CHECK(books.account.so_far().sent == 3);
  books.arrives(1, 1);
  books.arrives(2, 2);
  CHECK(books.arrives(3, 4) == Account::Verdict::received);
  CHECK(books.proof(3).holds());
}

TEST_CASE("streams reach different partitions in any order") {
  Books books;
  for (std::uint64_t n : {2, 4, 6}) books.arrives(n, n, 1);
  for (std::uint64_t n : {1, 3, 5, 7}) books.arrives(n, n, 0);
  CHECK(books.proof().holds());
}

TEST_CASE("the demo's checksum notices where one text ends and the next begins") {
  CHECK(checksum_of("a", "b", "", "c") == checksum_of("a", "b", "", "c"));
  CHECK(checksum_of("ab", "", "", "c") != checksum_of("a", "b", "", "c"));
  CHECK(checksum_of("a", "b", "", "c") != checksum_of("b", "a", "", "c"));
}

}  // namespace demo_account_test
}  // namespace
}  // namespace penstock
