#include "buffer/intake.h"

#include <atomic>
#include <thread>

#include "tests/catch.h"

namespace penstock {
namespace {
namespace intake_test {

using std::chrono::hours;
using std::chrono::seconds;
constexpr std::size_t kAll = std::size_t{1} << 30;

Group group(std::string payload) {
  Group result;
  result.driver = "d";
  Record record;
  record.payload = std::move(payload);
  result.records.push_back(std::move(record));
  return result;
}

/// Whatever is inside now, without waiting.
Intake::Taken take_now(Intake& intake, std::size_t most_bytes = kAll) {
  return intake.take(seconds(0), std::chrono::steady_clock::time_point::min(), 0, most_bytes);
}

std::vector<std::string> payloads(const Intake::Taken& taken) {
  std::vector<std::string> result;
  for (const auto& one : taken.groups) result.push_back(one.records.at(0).payload);
  return result;
}

TEST_CASE("groups come out in the order of their tickets", "[intake]") {
  Intake intake(kAll);
  for (Ticket i = 1; i <= 3; ++i) {
    auto one = group(std::to_string(i));
    auto ticket = intake.offer(one);
    REQUIRE(ticket.ok());
    CHECK(*ticket == i);
  }
  auto taken = take_now(intake);
  CHECK(payloads(taken) == std::vector<std::string>{"1", "2", "3"});
  CHECK(taken.last == 3);
  CHECK(intake.accepted() == 3);
  CHECK(intake.bytes() == 0);
  CHECK(take_now(intake).groups.empty());
}

TEST_CASE("a full intake takes nothing and leaves the group as it was", "[intake]") {
  Intake intake(1'000);
  auto first = group(std::string(500, 'a'));
  REQUIRE(intake.offer(first).ok());
  auto second = group(std::string(500, 'b'));
  auto refused = intake.offer(second);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().fault == Fault::full);
  CHECK(second.records.at(0).payload == std::string(500, 'b'));
  CHECK(intake.accepted() == 1);
  take_now(intake);
  CHECK(intake.offer(second).ok());
}

TEST_CASE("a group larger than the whole intake is let in when it is empty", "[intake]") {
  Intake intake(1'000);
  auto small = group("s");
  auto large = group(std::string(5'000, 'l'));
  REQUIRE(intake.offer(small).ok());
  CHECK_FALSE(intake.offer(large).ok());
  take_now(intake);
  CHECK(intake.offer(large).ok());
  CHECK(intake.bytes() > 5'000);
}

TEST_CASE("the writer takes about as much as it asks for, at least one group", "[intake]") {
  Intake intake(kAll);
  for (int i = 0; i < 10; ++i) {
    auto one = group(std::string(1'000, 'x'));
    REQUIRE(intake.offer(one).ok());
  }
  auto taken = take_now(intake, 3'700);
  CHECK(taken.groups.size() == 3);
  CHECK(taken.last == 3);
  taken = take_now(intake, 1);
  CHECK(taken.groups.size() == 1);
  CHECK(taken.last == 4);
}

TEST_CASE("who waits for room goes on when the writer took something", "[intake]") {
  Intake intake(1'000);
  auto first = group(std::string(600, 'a'));
  REQUIRE(intake.offer(first).ok());
  std::atomic<bool> let_in{false};
  std::jthread driver([&] {
    auto second = group(std::string(600, 'b'));
    auto ticket = intake.put(second, {});
    let_in = ticket.ok() && *ticket == 2;
  });
  std::vector<std::string> seen;
  for (int tries = 0; tries < 3 && seen.size() < 2; ++tries) {
    for (auto& text : payloads(intake.take(seconds(20), std::chrono::steady_clock::time_point::min(), 0, kAll))) {
      seen.push_back(text.substr(0, 1));
    }
  }
  intake.close();
  driver.join();
  CHECK(seen == std::vector<std::string>{"a", "b"});
  CHECK(let_in);
}

TEST_CASE("a stop ends the waiting for room, and so does closing", "[intake]") {
  for (bool close : {false, true}) {
    Intake intake(1'000);
    auto first = group(std::string(600, 'a'));
    REQUIRE(intake.offer(first).ok());
    std::stop_source stop;
    std::atomic<bool> ended{false};
    std::string what;
    std::jthread driver([&] {
      auto second = group(std::string(600, 'b'));
      auto ticket = intake.put(second, stop.get_token());
      if (!ticket && second.records.size() == 1) what = ticket.error().what;
      ended = true;
    });
    if (close)
      intake.close();
    else
      stop.request_stop();
    driver.join();
    CHECK(ended);
    CHECK(what ==
          (close ? "the intake is closed: the agent is stopping" : "stopped while waiting for room in the intake"));
  }
}

TEST_CASE("a closed intake lets nothing in and everything out, without waiting", "[intake]") {
  Intake intake(kAll);
  auto one = group("1");
  REQUIRE(intake.offer(one).ok());
  intake.close();
  CHECK(intake.closed());
  auto two = group("2");
  CHECK(intake.offer(two).error().fault == Fault::transient);
  auto taken = intake.take(hours(1), std::chrono::steady_clock::now() + hours(1), kAll, kAll);
  CHECK(payloads(taken) == std::vector<std::string>{"1"});
  CHECK(intake.take(hours(1), std::chrono::steady_clock::now() + hours(1), kAll, kAll).groups.empty());
}

TEST_CASE("enough bytes ripen a take at once, a wake ends its waiting for a first group", "[intake]") {
  Intake intake(kAll);
  auto one = group(std::string(2'000, 'x'));
  REQUIRE(intake.offer(one).ok());
  auto in_an_hour = std::chrono::steady_clock::now() + hours(1);
  CHECK(intake.take(hours(1), in_an_hour, 2'000, kAll).groups.size() == 1);

  std::atomic<bool> woken{false};
  std::jthread writer([&] { woken = intake.take(hours(1), in_an_hour, 2'000, kAll).groups.empty(); });
  intake.wake();
  writer.join();
  CHECK(woken);
}

TEST_CASE("many drivers: each group comes out once and each driver's in its order", "[intake]") {
  Intake intake(4'000);
  constexpr int kDrivers = 4, kEach = 500;
  std::vector<std::string> seen;
  std::vector<int> next(kDrivers, 0);
  Ticket last = 0;
  {
    std::vector<std::jthread> drivers;
    for (int d = 0; d < kDrivers; ++d) {
      drivers.emplace_back([&intake, d] {
        for (int i = 0; i < kEach; ++i) {
          auto one = group(std::to_string(d) + ' ' + std::to_string(i));
          if (!intake.put(one, {})) return;
        }
      });
    }
    struct Closing {  // a failed check must not wait for drivers that wait for room
      Intake& intake;
      ~Closing() { intake.close(); }
    } closing{intake};
    for (std::size_t count = 0; count < kDrivers * kEach;) {
      auto taken = intake.take(seconds(20), std::chrono::steady_clock::time_point::min(), 0, 1'500);
      if (taken.groups.empty()) FAIL("nothing came in 20 s");
      if (intake.bytes() > 4'000) FAIL("more than its capacity");
      for (const auto& text : payloads(taken)) {
        auto d = static_cast<std::size_t>(text[0] - '0');
        if (text.substr(2) != std::to_string(next[d]++)) FAIL("out of order: " << text);
      }
      count += taken.groups.size();
      last = taken.last;
      if (last != count) FAIL("ticket " << last << " after " << count << " groups");
    }
  }
  CHECK(last == kDrivers * kEach);
}

}  // namespace intake_test
}  // namespace
}  // namespace penstock
