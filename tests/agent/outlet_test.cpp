#include "agent/daemon/outlet.h"

#include <optional>
#include <thread>

#include "tests/agent/fake_disk.h"
#include "tests/agent/wait_until.h"
#include "tests/catch.h"
#include "tests/fakes/fake_clock.h"

namespace penstock {
namespace {
namespace outlet_test {

using namespace std::chrono_literals;

struct Hall {
  Hall() { settings.turn = 5ms; }
  ~Hall() { stop(); }
  void start() {
    thread = std::jthread([this](std::stop_token stop) { CHECK(writer.run(stop).ok()); });
  }
  void stop() {
    intake.close();
    if (!thread.joinable()) return;
    thread.request_stop();
    thread.join();
  }
  std::vector<Record> stored() {
    stop();
    std::vector<Record> all;
    for (const auto& commit : disk.commits()) {
      for (const auto& group : commit) all.insert(all.end(), group.records.begin(), group.records.end());
    }
    return all;
  }

  Writer::Settings settings;
  FakeDisk disk;
  FakeClock clock;
  Intake intake{2000};
  Writer writer{disk, intake, clock, settings};
  DriverOutlet outlet{intake, writer, disk, clock, {"plant", Lane{3}, 1000}};
  std::jthread thread;
};

Record reading(std::string payload) {
  Record record;
  record.stream = "boiler/temp";
  record.payload = std::move(payload);
  return record;
}

TEST_CASE("an outlet stamps driver, time, boottime and whether the clock was right") {
  Hall hall;
  hall.start();
  REQUIRE(hall.outlet.put({reading("1")}, {}, {}).ok());
  hall.clock.set_synchronised(false);
  hall.clock.tick(1s);
  REQUIRE(hall.outlet.put({reading("2")}, {}, {}).ok());
  auto stored = hall.stored();
  REQUIRE(stored.size() == 2);
  CHECK(stored[0].driver == "plant");
  CHECK(stored[0].synchronised);
  CHECK_FALSE(stored[1].synchronised);
  CHECK(stored[1].time == hall.clock.wall());
  CHECK(stored[1].boottime == hall.clock.boottime());
  CHECK(stored[1].time - stored[0].time == 1s);
  CHECK(hall.disk.commits().front().front().lane == Lane{3});
}

TEST_CASE("a time that came from the device is left alone") {
  Hall hall;
  hall.start();
  auto record = reading("1");
  record.time = WallTime(5s);
  record.time_source = TimeSource::device;
  record.boottime = 7s;
  REQUIRE(hall.outlet.put({record}, {}, {}).ok());
  auto stored = hall.stored();
  REQUIRE(stored.size() == 1);
  CHECK(stored[0].time == WallTime(5s));
  CHECK(stored[0].time_source == TimeSource::device);
  CHECK(stored[0].boottime == 7s);
  CHECK_FALSE(stored[0].synchronised);
}

TEST_CASE("a record over the limit is rejected with its stream and size, and nothing of the put is taken") {
  Hall hall;
  std::vector<Record> records{reading("fine"), reading(std::string(2000, 'x'))};
  std::vector<StateChange> changes{{"position", "1"}};
  auto offered = hall.outlet.offer(records, changes);
  REQUIRE_FALSE(offered.ok());
  CHECK(offered.error().fault == Fault::rejected);
  CHECK_THAT(offered.error().what, Catch::Contains("boiler/temp") && Catch::Contains("at most 1000"));
  CHECK(records.size() == 2);
  CHECK(changes.size() == 1);
  CHECK(hall.intake.accepted() == 0);
  CHECK(hall.outlet.status().rejected == 1);
}

TEST_CASE("a state over its limits is rejected before it can hurt the store") {
  Hall hall;
  std::vector<Record> none;
  std::vector<StateChange> value{{"n", std::string(1025, 'x')}};
  std::vector<StateChange> name{{std::string(400, 'n'), "v"}};
  CHECK(hall.outlet.offer(none, value).error().fault == Fault::rejected);
  CHECK(hall.outlet.offer(none, name).error().fault == Fault::rejected);
  std::vector<StateChange> fine{{"n", std::string(1024, 'x')}};
  CHECK(hall.outlet.offer(none, fine).ok());
}

TEST_CASE("an offer to a full hall leaves the records where they were; a put waits for room") {
  Hall hall;
  REQUIRE(hall.outlet.put({reading(std::string(800, 'a'))}, {}, {}).ok());
  REQUIRE(hall.outlet.put({reading(std::string(600, 'b'))}, {}, {}).ok());
  std::vector<Record> records{reading(std::string(700, 'c'))};
  std::vector<StateChange> changes{{"position", "9"}};
  auto offered = hall.outlet.offer(records, changes);
  REQUIRE_FALSE(offered.ok());
  CHECK(offered.error().fault == Fault::full);
  REQUIRE(records.size() == 1);
  CHECK(records[0].payload == std::string(700, 'c'));
  CHECK(changes.size() == 1);

  bool put = false;
  std::jthread putter([&] { put = hall.outlet.put(records, changes, {}).ok(); });
  REQUIRE(wait_until([&] { return hall.outlet.status().full == 2; }));
  CHECK(hall.intake.accepted() == 2);
  hall.start();
  putter.join();
  CHECK(put);
  CHECK(hall.stored().size() == 3);
  CHECK(*hall.outlet.state("position") == "9");
}

TEST_CASE("a put that waits is given back by a stop and by closing the outlet") {
  for (bool by_close : {false, true}) {
    Hall hall;
    REQUIRE(hall.outlet.put({reading(std::string(800, 'a'))}, {}, {}).ok());
    REQUIRE(hall.outlet.put({reading(std::string(800, 'a'))}, {}, {}).ok());
    std::stop_source stop;
    std::optional<Result<std::uint64_t>> put;
    std::jthread putter([&] { put = hall.outlet.put({reading(std::string(800, 'b'))}, {}, stop.get_token()); });
    REQUIRE(wait_until([&] { return hall.outlet.status().full == 1; }));
    if (by_close) {
      hall.outlet.close();
    } else {
      stop.request_stop();
    }
    putter.join();
    REQUIRE((put && !put->ok()));
    CHECK(put->error().fault == Fault::transient);
    CHECK(hall.intake.accepted() == 2);
    std::vector<Record> more{reading("x")};
    std::vector<StateChange> none;
    if (by_close) CHECK(hall.outlet.offer(more, none).error().fault == Fault::transient);
  }
}

TEST_CASE("durable is told by value, by waiting and by a call, which can be taken away") {
  Hall hall;
  std::atomic<int> calls = 0;
  hall.outlet.on_durable([&] { ++calls; });
  hall.start();
  auto ticket = hall.outlet.put({reading("1")}, {}, {});
  REQUIRE(ticket.ok());
  CHECK(hall.outlet.wait_durable(*ticket, {}));
  CHECK(hall.outlet.durable() >= *ticket);
  CHECK(wait_until([&] { return calls >= 2; }));  // room, then durable
  hall.outlet.on_durable({});
  int before = calls;
  REQUIRE(hall.outlet.put({reading("2")}, {}, {}).ok());
  hall.stop();
  CHECK(calls == before);
}

TEST_CASE("what a driver gave up goes to the ledger under its lane") {
  Hall hall;
  hall.start();
  REQUIRE(hall.outlet.give_up(Cause::too_large, 4).ok());
  hall.stop();
  auto commits = hall.disk.commits();
  REQUIRE(commits.size() == 1);
  REQUIRE(commits[0][0].refusal);
  CHECK(commits[0][0].refusal->count == 4);
  CHECK(commits[0][0].lane == Lane{3});
  CHECK(hall.outlet.status().given_up[Cause::too_large] == 4);
}

TEST_CASE("an announced event goes with the next records, in the same commit, and once") {
  Hall hall;
  Record event;
  event.kind = Kind::event;
  event.stream = "penstock/driver/plant";
  CHECK_FALSE(hall.outlet.announce(event));
  REQUIRE(hall.outlet.put({}, {{"position", "1"}}, {}).ok());  // no records: not a sign of life
  std::vector<Record> too_large{reading(std::string(2000, 'x'))};
  std::vector<StateChange> none;
  REQUIRE_FALSE(hall.outlet.offer(too_large, none).ok());
  CHECK(too_large.size() == 1);
  REQUIRE(hall.outlet.put({reading("1")}, {}, {}).ok());
  REQUIRE(hall.outlet.put({reading("2")}, {}, {}).ok());
  hall.start();
  auto stored = hall.stored();
  REQUIRE(stored.size() == 3);
  CHECK(stored[0].payload == "1");
  CHECK(stored[1].kind == Kind::event);
  CHECK(stored[1].driver == "plant");
  CHECK(stored[2].payload == "2");
}

TEST_CASE("an announced event survives an offer that found the hall full") {
  Hall hall;
  REQUIRE(hall.outlet.put({reading(std::string(800, 'a'))}, {}, {}).ok());
  REQUIRE(hall.outlet.put({reading(std::string(600, 'b'))}, {}, {}).ok());
  Record event;
  event.kind = Kind::event;
  hall.outlet.announce(event);
  std::vector<Record> records{reading(std::string(700, 'c'))};
  std::vector<StateChange> none;
  REQUIRE_FALSE(hall.outlet.offer(records, none).ok());
  CHECK(records.size() == 1);
  CHECK(hall.outlet.announcing());
  CHECK(hall.outlet.announce({}));  // still waiting
}

TEST_CASE("a driver's counts and words are kept for status") {
  Hall hall;
  hall.outlet.count("reconnects");
  hall.outlet.count("reconnects", 2);
  hall.outlet.say("connected to broker:1883");
  auto status = hall.outlet.status();
  CHECK(status.events.at("reconnects") == 3);
  CHECK(status.state == "connected to broker:1883");
}

}  // namespace outlet_test
}  // namespace
}  // namespace penstock
