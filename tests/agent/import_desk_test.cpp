#include "agent/queue/import_desk.h"

#include <nlohmann/json.hpp>
#include <thread>

#include "agent/queue/queue_answers.h"
#include "tests/agent/wait_until.h"
#include "tests/buffer/store_fixture.h"

namespace penstock {
namespace {
namespace import_desk_test {

ImportRequest request(std::optional<std::string> from, std::string to, std::vector<std::string> payloads) {
  ImportRequest made{"file", "telemetry", std::move(from), std::move(to), {}};
  for (auto& payload : payloads) {
    made.records.emplace_back();
    made.records.back().payload = std::move(payload);
  }
  return made;
}

/// The desk in front of a real store and writer.
struct Desk : StoreFixture {
  explicit Desk(WhenFull when_full = WhenFull::evict_oldest, std::uint64_t capacity = 8 << 20) {
    settings.when_full = when_full;
    settings.capacity_bytes = capacity;
    open();
    disk = std::make_unique<StoreDisk>(*store);
    Writer::Settings writing;
    writing.commit_interval = std::chrono::milliseconds(1);
    writer = std::make_unique<Writer>(*disk, intake, real, writing);
    desk = std::make_unique<ImportDesk>(*store, intake, *writer, *disk, real, 1 << 20);
  }
  ~Desk() {
    thread.request_stop();
    if (thread.joinable()) thread.join();
    desk.reset();
  }
  void start() {
    thread = std::jthread([this](std::stop_token stop) { (void)writer->run(stop); });
  }

  /// As the control server does: until there is an answer.
  std::string ask(const std::string& command, const std::string& line) {
    auto answer = desk->ask(command, line);
    while (answer.later) {
      if (auto given = answer.later()) return *given;
      std::this_thread::yield();
    }
    return answer.text;
  }
  std::string import(const ImportRequest& asked) { return ask("import", write_request(asked)); }
  nlohmann::json begin() {
    return nlohmann::json::parse(ask("import.begin", R"({"command":"import.begin","file":"file"})"));
  }

  SystemClock real;
  Intake intake{1 << 20};
  std::unique_ptr<StoreDisk> disk;
  std::unique_ptr<Writer> writer;
  std::unique_ptr<ImportDesk> desk;
  std::jthread thread;
};

constexpr const char* kStored = R"({"stored":true})";

TEST_CASE("a request is stored with its position, and the same asked again is not done again") {
  Desk desk;
  desk.start();
  CHECK(desk.begin()["position"].is_null());
  CHECK(desk.begin()["max_record_bytes"] == 1 << 20);
  CHECK(desk.import(request({}, "one", {"a", "b"})) == kStored);
  CHECK(desk.import(request({}, "one", {"a", "b"})) == kStored);
  CHECK(desk.begin()["position"] == "one");
  CHECK(desk.import(request("one", "two", {"c"})) == kStored);
  CHECK(desk.read_payloads() == std::vector<std::string>{"a", "b", "c"});
  CHECK(desk.import(request("two", "three", {})) == kStored);  // bad rows that were skipped
  CHECK(desk.begin()["position"] == "three");
}

TEST_CASE("a request from another position than the one kept is refused and stores nothing") {
  Desk desk;
  desk.start();
  CHECK(desk.import(request({}, "one", {"a"})) == kStored);
  CHECK_THAT(desk.import(request({}, "other", {"b"})), Catch::Contains("somebody else imports it"));
  CHECK_THAT(desk.import(request("zero", "two", {"b"})), Catch::Contains("somebody else imports it"));
  CHECK(desk.read_payloads() == std::vector<std::string>{"a"});
}

TEST_CASE("two who import the same file at once do not both store a row, though the first is not yet on disk") {
  Desk desk;
  auto first = desk.desk->ask("import", write_request(request({}, "one", {"a"})));
  auto second = desk.desk->ask("import", write_request(request({}, "uno", {"a"})));
  REQUIRE(first.later);
  REQUIRE(second.later);
  CHECK_FALSE(second.later());  // the writer has not begun: nobody can know
  desk.start();
  std::optional<std::string> one, two;
  CHECK(wait_until([&] {
    if (!one) one = first.later();
    if (!two) two = second.later();
    return one && two;
  }));
  CHECK(*one == kStored);
  CHECK_THAT(*two, Catch::Contains("somebody else"));
  CHECK(desk.read_payloads() == std::vector<std::string>{"a"});
}

TEST_CASE("an answer that takes longer than a second is `wait`, and asking again finds what became of it") {
  Desk desk;
  CHECK(desk.import(request({}, "one", {"a"})) == R"({"wait":"the writer is busy"})");
  CHECK(desk.import(request({}, "one", {"a"})) == R"({"wait":"the writer is busy"})");
  desk.start();
  CHECK(desk.import(request({}, "one", {"a"})) == kStored);
  CHECK(desk.read_payloads() == std::vector<std::string>{"a"});
}

TEST_CASE("a full queue makes an import wait whatever the policy, and nothing is given up for it") {
  for (auto policy : {WhenFull::evict_oldest, WhenFull::reject_newest, WhenFull::block}) {
    Desk desk(policy, 1 << 20);
    desk.settings.compression_level = 0;
    desk.start();
    std::optional<std::string> at;
    std::string answer;
    std::size_t stored = 0;
    for (int i = 0; i < 100; ++i) {
      std::vector<std::string> noise;
      for (int k = 0; k < 20; ++k) {
        std::string payload;
        for (int bytes = 0; bytes < 60; ++bytes) payload += draw<Run>().hex().substr(0, 16);
        noise.push_back(payload);
      }
      auto to = std::to_string(i);
      answer = desk.import(request(at, to, noise));
      if (answer != kStored) break;
      at = to;
      stored += 20;
    }
    INFO(static_cast<int>(policy));
    CHECK_THAT(answer, Catch::Contains("the queue is full but for"));
    CHECK(stored > 100);
    CHECK(desk.store->gaps().empty());
    CHECK(desk.lane().records == stored);
  }
}

TEST_CASE("what comes again and finds no room leaves neither its changes nor a loss behind") {
  StoreFixture store;
  store.settings.capacity_bytes = 1 << 20;
  store.settings.when_full = WhenFull::reject_newest;
  store.settings.compression_level = 0;
  store.open();
  for (bool again : {true, false}) {
    while (store.store->gaps().empty()) {
      auto group = store.group({std::string(2'000, 'x'), std::string(2'000, 'y')});
      auto name = std::to_string(store.lane().last.value());
      group.changes = {{name, again ? "again" : "once"}};
      group.comes_again = again;
      auto before = store.lane().last;
      store.commit({group});
      auto kept = store.store->state("plant", name);
      if (again && store.lane().last == before) {
        CHECK_FALSE(*kept);
        break;
      }
      CHECK(kept->has_value());
    }
    CHECK(store.store->gaps().empty() == again);
  }
  CHECK(store.store->gaps().front().cause == Cause::refused);
}

TEST_CASE("requests that make no sense are refused, each with its reason") {
  Desk desk;
  desk.start();
  CHECK_THAT(desk.ask("import", "{}"), Catch::Contains("expected file, lane"));
  CHECK_THAT(desk.ask("import.begin", "{}"), Catch::Contains("expected import.begin with a file"));
  CHECK_THAT(desk.ask("import.other", "{}"), Catch::Contains("expected import.begin with a file"));
  auto wrong = request({}, "one", {"a"});
  wrong.lane = "none";
  CHECK_THAT(desk.import(wrong), Catch::Contains("there is no lane"));
  CHECK_THAT(desk.import(request({}, std::string(2000, 'p'), {"a"})), Catch::Contains("at most 1024"));
  auto large = request({}, "one", {std::string((1 << 20) + 1, 'x')});
  CHECK_THAT(desk.import(large), Catch::Contains("at most 1048576"));
  CHECK(desk.read().records.empty());
}

TEST_CASE("a store that is open here takes an import as the agent does") {
  StoreFixture store;
  store.open();
  auto import = [&](const ImportRequest& asked) {
    return import_into(*store.store, store.clock, 1 << 20, "import", write_request(asked));
  };
  CHECK(import(request({}, "one", {"a"})) == kStored);
  CHECK(import(request({}, "one", {"a"})) == kStored);
  CHECK_THAT(import(request({}, "two", {"b"})), Catch::Contains("somebody else"));
  CHECK_THAT(import(request("one", "two", {std::string((1 << 20) + 1, 'x')})), Catch::Contains("at most 1048576"));
  auto begun = import_into(*store.store, store.clock, 1 << 20, "import.begin", R"({"file":"file"})");
  CHECK(nlohmann::json::parse(begun)["position"] == "one");
  auto records = store.read().records;
  REQUIRE(records.size() == 1);
  CHECK(records[0].record.driver == "import");
  CHECK(records[0].record.time == store.clock.wall());
}

TEST_CASE("questions about the queue are answered page by page, and nonsense with an error") {
  StoreFixture store;
  store.open();
  store.put_many(30);
  auto ask = [&](const std::string& line) { return nlohmann::json::parse(answer_queue(*store.store, line)); };
  auto listed = ask(R"({"command":"queue.list"})");
  CHECK(listed["lanes"][0]["waiting"] == 30);
  CHECK(listed["lanes"][0]["newest"]["sequence"] == 30);
  auto page = ask(R"({"command":"queue.peek","lane":"telemetry","from":26,"count":3})");
  REQUIRE(page["records"].size() == 3);
  CHECK(page["records"][0]["sequence"] == 26);
  CHECK(ask(R"({"command":"queue.peek","lane":"telemetry","from":29})")["records"].size() == 2);
  CHECK(ask(R"({"command":"queue.peek","lane":"telemetry","from":31})")["records"].empty());
  CHECK(ask(R"({"command":"queue.gaps"})")["gaps"].empty());
  Group refused{Lane{}, "plant", {}, {}, Refusal{Cause::refused, 7}};
  store.commit({refused});
  CHECK(ask(R"({"command":"queue.gaps"})")["gaps"][0]["count"] == 7);
  CHECK(ask(R"({"command":"queue.gaps","after":1})")["gaps"].empty());
  for (auto wrong :
       {"", "[]", "{}", R"({"command":"queue.drop"})", R"({"command":"queue.peek","lane":"none"})",
        R"({"command":"queue.peek","lane":7})", R"({"command":"queue.peek","lane":"telemetry","from":"x"})"}) {
    INFO(wrong);
    CHECK(ask(wrong).contains("error"));
  }
}

}  // namespace import_desk_test
}  // namespace
}  // namespace penstock
