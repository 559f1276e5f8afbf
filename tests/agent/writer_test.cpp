#include "agent/daemon/writer.h"

#include <future>
#include <memory>
#include <thread>

#include "tests/agent/fake_disk.h"
#include "tests/agent/wait_until.h"
#include "tests/catch.h"
#include "tests/fakes/fake_clock.h"

namespace penstock {
namespace {
namespace writer_test {

using namespace std::chrono_literals;

struct Bench {
  explicit Bench(Writer::Settings with = {}) : settings(with) {}
  ~Bench() { static_cast<void>(stop()); }

  void start() {
    thread = std::jthread([this](std::stop_token stop) { ended.set_value(writer.run(stop)); });
  }
  /// As the agent does it: close the Intake, then stop the writer.
  Result<void> stop() {
    disk.release();
    intake.close();
    if (!thread.joinable()) return {};
    thread.request_stop();
    thread.join();
    return ended.get_future().get();
  }
  Ticket put(std::string payload) {
    Group group;
    group.driver = "test";
    group.records.emplace_back().payload = std::move(payload);
    auto ticket = intake.put(group, {});
    REQUIRE(ticket.ok());
    return *ticket;
  }
  Ticket put_what_comes_again(std::string payload, std::uint64_t sent_once = 0) {
    Group group;
    group.driver = "again";
    group.records.emplace_back().payload = std::move(payload);
    group.comes_again = true;
    group.sent_once = sent_once;
    auto ticket = intake.put(group, {});
    REQUIRE(ticket.ok());
    return *ticket;
  }
  bool durable(Ticket ticket) { return writer.durable().wait_for(ticket, 20s, {}); }

  Writer::Settings settings;
  FakeDisk disk;
  FakeClock clock;
  Intake intake{1 << 20};
  Writer writer{disk, intake, clock, settings};
  std::promise<Result<void>> ended;
  std::jthread thread;
};

Writer::Settings slow() {
  Writer::Settings settings;
  settings.commit_interval = 1h;
  settings.turn = 5ms;
  return settings;
}

TEST_CASE("a record that comes while the disk is idle is durable at once") {
  Bench bench(slow());
  bench.start();
  CHECK(bench.durable(bench.put("one")));
  CHECK(bench.disk.payloads() == std::vector<std::string>{"one"});
}

TEST_CASE("within a commit interval records wait for company, until commit_bytes of them wait") {
  auto settings = slow();
  settings.commit_bytes = 2000;
  Bench bench(settings);
  bench.start();
  REQUIRE(bench.durable(bench.put("first")));
  Ticket waiting = bench.put(std::string(500, 'a'));
  CHECK_FALSE(bench.writer.durable().wait_for(waiting, 50ms, {}));
  CHECK(bench.durable(bench.put(std::string(1500, 'b'))));
  CHECK(bench.disk.commits().size() == 2);  // both in one
}

TEST_CASE("the commit interval ends the waiting") {
  Writer::Settings settings;
  settings.commit_interval = 20ms;
  Bench bench(settings);
  bench.start();
  REQUIRE(bench.durable(bench.put("first")));
  CHECK(bench.durable(bench.put("second")));
}

TEST_CASE("what came during one commit is in the next one, and nothing is durable before its commit") {
  Writer::Settings settings;
  settings.commit_interval = 1ms;
  Bench bench(settings);
  bench.disk.hold();
  bench.start();
  bench.put("one");
  REQUIRE(wait_until([&] { return bench.disk.tries() == 1; }));
  bench.put("two");
  Ticket last = bench.put("three");
  CHECK(bench.writer.durable().value() == 0);
  bench.disk.release();
  CHECK(bench.durable(last));
  auto commits = bench.disk.commits();
  REQUIRE(commits.size() == 2);
  CHECK(commits[1].size() == 2);
  CHECK(bench.disk.payloads() == std::vector<std::string>{"one", "two", "three"});
}

TEST_CASE("a full store takes the same groups when it has room again, in order and once") {
  auto settings = slow();
  settings.full_retry = 1ms;
  Bench bench(settings);
  bench.disk.fail(full("the store is full"));
  bench.start();
  bench.put("one");
  Ticket last = bench.put("two");
  REQUIRE(wait_until([&] { return bench.disk.tries() > 3; }));
  CHECK(bench.writer.status().waiting_for_room);
  CHECK(bench.writer.durable().value() == 0);
  bench.disk.fail({});
  // "two" may have missed the first group; a stop commits it at once.
  CHECK(bench.stop().ok());
  CHECK(bench.writer.durable().value() == last);
  CHECK(bench.disk.payloads() == std::vector<std::string>{"one", "two"});
  CHECK_FALSE(bench.writer.status().waiting_for_room);
}

TEST_CASE("what comes again waits for room in order, the rest goes on beside it, and no ticket passes it") {
  auto settings = slow();
  settings.commit_interval = 1ms;
  settings.full_retry = 1ms;
  Bench bench(settings);
  bench.disk.refuse_newest(true);
  bench.start();
  Ticket before = bench.put("before");
  REQUIRE(bench.durable(before));
  Ticket one = bench.put_what_comes_again("one");
  Ticket beside = bench.put("beside");
  Ticket two = bench.put_what_comes_again("two");
  REQUIRE(wait_until([&] { return bench.disk.payloads() == std::vector<std::string>{"before", "beside"}; }));
  auto tries = bench.disk.tries();
  REQUIRE(wait_until([&] { return bench.disk.tries() > tries + 3; }));
  CHECK(bench.writer.durable().value() == one - 1);
  CHECK(bench.writer.status().waiting_for_room);
  bench.disk.refuse_newest(false);
  CHECK(bench.durable(two));
  CHECK(beside == one + 1);
  CHECK(bench.disk.payloads() == std::vector<std::string>{"before", "beside", "one", "two"});
  REQUIRE(wait_until([&] { return !bench.writer.status().waiting_for_room; }));
  CHECK(bench.writer.status().records == 4);
}

TEST_CASE("what comes again and is kept fills at most half the intake, then nothing more is taken") {
  auto settings = slow();
  settings.commit_interval = 1ms;
  settings.full_retry = 1ms;
  Bench bench(settings);  // with an intake of 1 MiB
  bench.disk.refuse_newest(true);
  bench.start();
  for (int i = 0; i < 6; ++i) bench.put_what_comes_again(std::string(100'000, 'x'));
  auto tries = bench.disk.tries();
  REQUIRE(wait_until([&] { return bench.intake.bytes() == 0 && bench.disk.tries() > tries + 3; }));
  bench.put("waits");
  tries = bench.disk.tries();
  REQUIRE(wait_until([&] { return bench.disk.tries() > tries + 10; }));
  CHECK(bench.intake.bytes() > 0);
  CHECK(bench.disk.payloads().empty());
}

TEST_CASE("what comes again is forgotten at a stop, and of it only what nobody sends again is in the ledger") {
  auto settings = slow();
  settings.full_retry = 1ms;
  Bench bench(settings);
  bench.disk.refuse_newest(true);
  bench.start();
  bench.put_what_comes_again("sent again");
  bench.put_what_comes_again("sent again, but for five", 5);
  REQUIRE(wait_until([&] { return bench.disk.tries() > 3; }));
  CHECK(bench.stop().ok());
  CHECK(bench.disk.payloads().empty());
  std::uint64_t refused = 0;
  for (const auto& commit : bench.disk.commits())
    for (const auto& group : commit) refused += group.refusal ? group.refusal->count : 0;
  CHECK(refused == 5);
  CHECK(bench.writer.durable().value() == 0);
}

TEST_CASE("while the store is full the loop turns, settles and lets delivered records be deleted") {
  auto settings = slow();
  settings.full_retry = 1ms;
  Bench bench(settings);
  bench.disk.fail(full("the store is full"));
  bench.start();
  bench.put("one");
  REQUIRE(wait_until([&] { return bench.disk.tries() > 1; }));
  bench.clock.tick(5s);
  auto now = bench.clock.boottime().count();
  CHECK(wait_until([&] { return bench.writer.status().last_turn == now; }));
  CHECK(bench.writer.settle({}, {}).ok());
  bench.disk.want_commit();
  CHECK(wait_until([&] { return !bench.disk.wants_commit(); }));
}

TEST_CASE("what a full store does not take before a stop is in the ledger") {
  auto settings = slow();
  settings.full_retry = 1ms;
  Bench bench(settings);
  bench.disk.fail(full("the store is full"));
  bench.start();
  Ticket ticket = bench.put("one");
  REQUIRE(wait_until([&] { return bench.disk.tries() > 1; }));
  CHECK(bench.stop().ok());
  CHECK(bench.writer.durable().value() < ticket);
  CHECK(bench.disk.payloads().empty());
  auto commits = bench.disk.commits();
  REQUIRE(commits.size() == 1);
  REQUIRE(commits[0].size() == 1);
  REQUIRE(commits[0][0].refusal);
  CHECK(commits[0][0].refusal->cause == Cause::refused);
  CHECK(commits[0][0].refusal->count == 1);
}

TEST_CASE("a broken disk ends the writer with a reason, and nobody waits for it any more") {
  Bench bench(slow());
  bench.disk.fail(broken("input/output error on data.mdb"));
  bench.start();
  bench.put("one");
  auto ended = bench.ended.get_future().get();
  bench.thread.join();
  REQUIRE_FALSE(ended.ok());
  CHECK(ended.error().fault == Fault::broken);
  CHECK_THAT(ended.error().what, Catch::Contains("input/output error on data.mdb"));
  auto settled = bench.writer.settle({}, {});
  REQUIRE_FALSE(settled.ok());
  CHECK(settled.error().fault == Fault::transient);
}

TEST_CASE("a settlement runs in the writer's thread while it idles, and its answer comes back") {
  auto settings = slow();
  settings.turn = 1h;  // only the request wakes it
  Bench bench(settings);
  bench.start();
  Settlement settlement;
  settlement.fork = true;
  CHECK(bench.writer.settle(settlement, {}).ok());
  auto seen = bench.disk.settlements();
  REQUIRE(seen.size() == 1);
  CHECK(seen[0].fork);
  bench.disk.answer_settle(rejected("no such lane"));
  auto refused = bench.writer.settle(settlement, {});
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().what == "no such lane");
}

TEST_CASE("who waits for a settlement can be stopped") {
  Bench bench(slow());  // its thread never starts
  std::stop_source stop;
  stop.request_stop();
  auto settled = bench.writer.settle({}, stop.get_token());
  REQUIRE_FALSE(settled.ok());
  CHECK(settled.error().fault == Fault::transient);
}

TEST_CASE("a note rides on the next commit and never causes one, except at the end") {
  Bench bench(slow());
  bench.start();
  bench.writer.note("penstock/kafka", {"hint", "17"});
  bench.writer.note("penstock/kafka", {"hint", "18"});
  REQUIRE(bench.durable(bench.put("one")));
  auto commits = bench.disk.commits();
  REQUIRE(commits.size() == 1);
  REQUIRE(commits[0].size() == 2);
  CHECK(commits[0][1].driver == "penstock/kafka");
  REQUIRE(commits[0][1].changes.size() == 1);
  CHECK(commits[0][1].changes[0].value == "18");

  bench.writer.note("penstock/kafka", {"hint", "19"});
  REQUIRE(bench.writer.settle({}, {}).ok());  // the loop has turned
  CHECK(bench.disk.commits().size() == 2);    // the settlement only
  CHECK(bench.stop().ok());
  commits = bench.disk.commits();
  REQUIRE(commits.size() == 3);
  REQUIRE(commits[2].size() == 1);
  CHECK(commits[2][0].changes[0].value == "19");
}

TEST_CASE("delivered marks are kept by a commit of their own after a while of idleness") {
  auto settings = slow();
  settings.idle_commit = 10ms;
  Bench bench(settings);
  bench.disk.want_commit();
  bench.start();
  CHECK(wait_until([&] { return bench.disk.commits().size() == 1; }));
}

TEST_CASE("the store's file is pre-written in steps, idle or busy, until it has its size") {
  auto settings = slow();
  settings.prewrite_pause = 0ms;
  Bench bench(settings);
  bench.disk.set_prewriting(5);
  bench.start();
  CHECK(wait_until([&] { return bench.disk.prewritten() == 5; }));
  CHECK(bench.durable(bench.put("one")));
  CHECK(bench.stop().ok());
  CHECK(bench.disk.prewritten() == 5);
}

TEST_CASE("pre-writing keeps its pause, however busy the writer is") {
  auto settings = slow();
  settings.commit_interval = 0ms;
  settings.prewrite_pause = 1h;
  Bench bench(settings);
  bench.disk.set_prewriting(5);
  bench.start();
  for (int i = 0; i < 10; ++i) CHECK(bench.durable(bench.put("busy")));
  CHECK(bench.stop().ok());
  CHECK(bench.disk.prewritten() == 1);
}

TEST_CASE("pre-writing that fails is given up, and commits go on") {
  auto settings = slow();
  settings.prewrite_pause = 0ms;
  Bench bench(settings);
  bench.disk.set_prewriting(5, transient("no space"));
  bench.start();
  CHECK(bench.durable(bench.put("one")));
  CHECK(bench.stop().ok());
  CHECK(bench.disk.prewritten() == 0);
}

TEST_CASE("an orderly end stores all that was let in, and its marks") {
  Bench bench(slow());
  bench.start();
  REQUIRE(bench.durable(bench.put("one")));
  bench.put("two");
  Ticket last = bench.put("three");
  bench.disk.want_commit();
  CHECK(bench.stop().ok());
  CHECK(bench.writer.durable().value() == last);
  CHECK(bench.disk.payloads() == std::vector<std::string>{"one", "two", "three"});
  CHECK_FALSE(bench.disk.wants_commit());
}

TEST_CASE("a closed Intake does not make the writer spin") {
  auto settings = slow();
  settings.turn = 1h;
  Bench bench(settings);
  bench.start();
  bench.intake.close();
  CHECK(bench.writer.settle({}, {}).ok());  // it still answers
  CHECK(bench.stop().ok());
}

TEST_CASE("listeners hear of room and of durable tickets until they leave") {
  struct Ear final : Writer::Listener {
    void progressed() override { ++calls; }
    std::atomic<int> calls{0};
  } ear;
  Bench bench(slow());
  bench.writer.attach(ear);
  bench.start();
  REQUIRE(bench.durable(bench.put("one")));
  CHECK(wait_until([&] { return ear.calls >= 2; }));
  bench.writer.detach(ear);
  int before = ear.calls;
  bench.put("two");
  CHECK(bench.stop().ok());
  CHECK(ear.calls == before);
}

}  // namespace writer_test
}  // namespace
}  // namespace penstock
