// The mqtt driver against the real Mosquitto.
#include "drivers/mqtt/mqtt.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <thread>

#include "tests/catch.h"
#include "tests/fakes/fake_outlet.h"
#include "tests/fakes/mosquitto.h"
#include "tests/fakes/mqtt_wire.h"
#include "tests/skip.h"

namespace penstock {
namespace {
namespace mqtt_driver_test {

using namespace std::chrono_literals;

bool no_mosquitto() {
  if (!Mosquitto::program().empty()) return false;
  skip("mosquitto is not installed (apt-get install mosquitto, or ./dev)");
  return true;
}

MqttSettings settings_for(const Mosquitto& broker, const std::string& version = "5") {
  MqttSettings settings;
  settings.url = broker.url();
  settings.version = version == "5" ? MqttVersion::v5 : MqttVersion::v3_1_1;
  settings.client_id = "gw-17-plant";
  settings.subscribe = {{"plant/#", 1}};
  settings.reconnect_least = 20ms;
  settings.reconnect_most = 200ms;
  return settings;
}

// Usually 0.1 to 0.2 s, most of it Paho ending its threads; this leaves room for a busy machine.
constexpr auto kPromptly = 3s;

// The driver in a thread, as the supervisor runs it.
class Running {
 public:
  Running(MqttSettings settings, FakeOutlet& outlet, OnBusy on_busy = OnBusy::wait)
      : driver_(make_mqtt_driver("plant", std::move(settings), on_busy)),
        thread_([this, &outlet](std::stop_token stop) { result_ = driver_->run(outlet, clock_, stop); }) {}

  Result<void> stop() {
    auto begun = std::chrono::steady_clock::now();
    thread_.request_stop();
    thread_.join();
    stopping_took_ = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begun);
    return result_;
  }
  /// Waits for the end of run() by itself.
  Result<void> join() {
    thread_.join();
    return result_;
  }
  std::chrono::milliseconds stopping_took() const { return stopping_took_; }

 private:
  SystemClock clock_;
  Result<void> result_;
  std::chrono::milliseconds stopping_took_{};
  std::unique_ptr<Driver> driver_;
  std::jthread thread_;
};

std::vector<std::string> payloads(const FakeOutlet& outlet) {
  std::vector<std::string> list;
  for (const auto& record : outlet.records()) list.push_back(record.payload);
  return list;
}

TEST_CASE("messages of both versions and both QoS become records with topic, payload and headers", "[mqtt]") {
  if (no_mosquitto()) return;
  Mosquitto broker;
  for (std::string version : {"5", "3.1.1"}) {
    for (int qos : {0, 1}) {
      CAPTURE(version, qos);
      FakeOutlet outlet;
      auto settings = settings_for(broker, version);
      settings.client_id = fmt::format("client-{}-{}", version, qos);
      settings.subscribe = {{"plant/#", qos}};
      settings.stream = "mqtt/{topic}";
      Running driver(settings, outlet);
      REQUIRE(outlet.wait_for_saying("connected to 127.0.0.1"));

      wire::Client publisher(broker.port(), "publisher");
      std::string properties = std::string("\x03") + wire::text("application/json") + "\x26" + wire::text("unit") +
                               wire::text("Cel") + "\x26" + wire::text("unit") + wire::text("again");
      publisher.publish("plant/boiler/temp", "{\"value\":21.5}", qos, false, properties);
      publisher.publish("plant/empty", "", qos);
      publisher.publish("plant/with space/\xC3\xA4\xE2\x82\xAC", std::string("\x00\xFF\x01", 3), qos);
      REQUIRE(outlet.wait_for_records(3));
      auto records = outlet.records();
      CHECK(records[0].stream == "mqtt/plant/boiler/temp");
      CHECK(records[0].payload == "{\"value\":21.5}");
      CHECK(records[0].kind == Kind::message);
      CHECK(records[0].time_source == TimeSource::ours);
      if (version == "5") {
        CHECK(records[0].content_type == "application/json");
        CHECK(records[0].headers == std::vector<Header>{{"unit", "Cel"}, {"unit", "again"}});
      }
      CHECK(records[1].payload.empty());
      CHECK(records[2].stream == "mqtt/plant/with space/\xC3\xA4\xE2\x82\xAC");
      CHECK(records[2].payload == std::string("\x00\xFF\x01", 3));
      CHECK(driver.stop().ok());
      CHECK(driver.stopping_took() < kPromptly);
    }
  }
}

TEST_CASE("what is not durable is not acknowledged: the broker sends it again to the next driver", "[mqtt]") {
  if (no_mosquitto()) return;
  for (std::string version : {"5", "3.1.1"}) {
    CAPTURE(version);
    Mosquitto broker;
    wire::Client publisher(broker.port(), "publisher");
    {
      FakeOutlet outlet;
      Running driver(settings_for(broker, version), outlet);
      REQUIRE(outlet.wait_for_saying("connected to"));
      publisher.publish("plant/a", "durable");
      REQUIRE(outlet.wait_for_records(1));
      REQUIRE(outlet.eventually([&] { return outlet.durable() == outlet.accepted(); }));
      outlet.hold_durable();
      for (int i = 0; i < 10; ++i) publisher.publish("plant/a", fmt::format("held {}", i));
      REQUIRE(outlet.wait_for_records(11));
      CHECK(driver.stop().ok());
      CHECK(driver.stopping_took() < kPromptly);
    }
    FakeOutlet outlet;
    Running driver(settings_for(broker, version), outlet);
    REQUIRE(outlet.wait_for_records(10));
    publisher.publish("plant/a", "last");
    REQUIRE(outlet.wait_for_records(11));
    std::vector<std::string> expected;
    for (int i = 0; i < 10; ++i) expected.push_back(fmt::format("held {}", i));
    expected.emplace_back("last");
    CHECK(payloads(outlet) == expected);
    CHECK(driver.stop().ok());
  }
}

TEST_CASE("what became durable is acknowledged, also while the driver stops: nothing comes twice", "[mqtt]") {
  if (no_mosquitto()) return;
  Mosquitto broker;
  wire::Client publisher(broker.port(), "publisher");
  FakeOutlet outlet;
  for (int round = 0; round < 3; ++round) {
    Running driver(settings_for(broker), outlet);
    // Between two drivers the broker keeps the messages for us.
    REQUIRE(outlet.eventually([&] { return outlet.counted("connections") == static_cast<unsigned>(round) + 1; }));
    publisher.publish_many(500, [&](int i) { return std::pair("plant/a", fmt::format("{} {}", round, i)); });
    CHECK(driver.stop().ok());
  }
  Running driver(settings_for(broker), outlet);
  REQUIRE(outlet.wait_for_records(1'500));
  publisher.publish("plant/a", "last");
  REQUIRE(outlet.eventually([&] { return payloads(outlet).back() == "last"; }));
  auto all = payloads(outlet);
  CHECK(all.size() == 1'501);
  CHECK(std::set<std::string>(all.begin(), all.end()).size() == 1'501);
  CHECK(driver.stop().ok());
}

TEST_CASE("a burst of 20,000 messages arrives complete and in order, in groups", "[mqtt]") {
  if (no_mosquitto()) return;
  Mosquitto broker;
  FakeOutlet outlet;
  Running driver(settings_for(broker), outlet);
  REQUIRE(outlet.wait_for_saying("connected to"));
  wire::Client publisher(broker.port(), "publisher");
  publisher.publish_many(20'000, [](int i) { return std::pair("plant/burst", fmt::format("{:06}", i)); });
  REQUIRE(outlet.wait_for_records(20'000));
  auto all = payloads(outlet);
  REQUIRE(all.size() == 20'000);
  bool in_order = true;
  for (int i = 0; i < 20'000; ++i) in_order = in_order && all[static_cast<std::size_t>(i)] == fmt::format("{:06}", i);
  CHECK(in_order);
  CHECK(outlet.groups().size() < 10'000);
  CHECK(driver.stop().ok());
}

TEST_CASE("back-pressure longer than the keep alive ends no connection and loses nothing", "[mqtt]") {
  if (no_mosquitto()) return;
  for (std::string version : {"5", "3.1.1"}) {
    CAPTURE(version);
    Mosquitto broker;
    FakeOutlet outlet;
    auto settings = settings_for(broker, version);
    settings.keep_alive = 1s;
    settings.receive_maximum = 50;
    Running driver(settings, outlet);
    REQUIRE(outlet.wait_for_saying("connected to"));
    outlet.set_room(0);
    wire::Client publisher(broker.port(), "publisher");
    publisher.publish_many(
        5'000, [](int i) { return std::pair("plant/a", fmt::format("{:06}{}", i, std::string(500, 'x'))); });
    // The broker would give us up after 1.5 s without a packet; what ends a connection would be counted.
    CHECK_FALSE(outlet.eventually([&] { return outlet.counted("connections_ended") > 0; }, 4s));
    CHECK(outlet.size() == 0);
    outlet.unlimited_room();
    REQUIRE(outlet.wait_for_records(5'000));
    CHECK(outlet.counted("connections") == 1);
    auto all = payloads(outlet);
    CHECK(all.size() == 5'000);
    CHECK(std::is_sorted(all.begin(), all.end()));
    CHECK(driver.stop().ok());
  }
}

TEST_CASE("an idle connection outlives many keep alives", "[mqtt]") {
  if (no_mosquitto()) return;
  Mosquitto broker;
  FakeOutlet outlet;
  auto settings = settings_for(broker);
  settings.keep_alive = 1s;
  Running driver(settings, outlet);
  REQUIRE(outlet.wait_for_saying("connected to"));
  CHECK_FALSE(outlet.eventually([&] { return outlet.counted("connections_ended") > 0; }, 4s));
  CHECK(driver.stop().ok());
}

TEST_CASE("a broker that restarts is found again, with the session and what it kept", "[mqtt]") {
  if (no_mosquitto()) return;
  Mosquitto broker;
  FakeOutlet outlet;
  Running driver(settings_for(broker), outlet);
  REQUIRE(outlet.wait_for_saying("connected to"));
  wire::Client(broker.port(), "publisher").publish("plant/a", "before");
  REQUIRE(outlet.wait_for_records(1));
  for (unsigned round = 1; round <= 2; ++round) {
    broker.stop();
    REQUIRE(outlet.wait_for_saying("not connected: "));
    broker.start();
    const auto payload = fmt::format("after {}", round);
    wire::Client(broker.port(), "publisher").publish("plant/a", payload);
    // Not so many records: what the broker had not yet seen acknowledged comes a second time.
    REQUIRE(outlet.eventually([&] { return payloads(outlet).back() == payload; }));
  }
  auto connections = outlet.counted("connections");
  broker.kill();
  broker.start();
  REQUIRE(outlet.eventually([&] { return outlet.counted("connections") > connections; }));
  wire::Client(broker.port(), "publisher").publish("plant/a", "after the kill");
  REQUIRE(outlet.eventually([&] { return payloads(outlet).back() == "after the kill"; }));
  // A broker that is killed forgets that a message was acknowledged, and sends it once more.
  auto all = payloads(outlet);
  CHECK(std::set<std::string>(all.begin(), all.end()) ==
        std::set<std::string>{"before", "after 1", "after 2", "after the kill"});
  CHECK(driver.stop().ok());
}

TEST_CASE("a broker that is not there, or refuses the password, is told in words and tried again", "[mqtt]") {
  if (no_mosquitto()) return;
  for (std::string version : {"5", "3.1.1"}) {
    CAPTURE(version);
    Mosquitto broker("allow_anonymous false\npassword_file {folder}/passwords\n");
    FakeOutlet outlet;
    auto settings = settings_for(broker, version);
    settings.user = "gateway";
    settings.password = Secret("wrong");
    Running driver(settings, outlet);
    REQUIRE(outlet.wait_for_saying("refused the connection: not authorised"));
    REQUIRE(outlet.eventually([&] { return outlet.counted("connections_ended") >= 3; }));
    broker.stop();
    REQUIRE(outlet.wait_for_saying("Connection refused"));
    CHECK(driver.stop().ok());
    CHECK(driver.stopping_took() < kPromptly);
    for (const auto& line : outlet.said()) CHECK(line.find("wrong") == std::string::npos);
  }
}

TEST_CASE("overlapping subscriptions lose nothing and stay connected", "[mqtt]") {
  if (no_mosquitto()) return;
  Mosquitto broker;
  FakeOutlet outlet;
  auto settings = settings_for(broker);
  settings.subscribe = {{"plant/#", 1}, {"plant/+/temp", 0}, {"plant/boiler/temp", 1}};
  Running driver(settings, outlet);
  REQUIRE(outlet.wait_for_saying("connected to"));
  wire::Client publisher(broker.port(), "publisher");
  for (int i = 0; i < 100; ++i) publisher.publish("plant/boiler/temp", fmt::format("{}", i));
  publisher.publish("plant/end", "end");
  REQUIRE(outlet.eventually([&] {
    auto all = payloads(outlet);
    return !all.empty() && all.back() == "end";
  }));
  auto all = payloads(outlet);
  CHECK(std::set<std::string>(all.begin(), all.end()).size() == 101);
  CHECK(outlet.counted("connections_ended") == 0);
  CHECK(driver.stop().ok());
}

TEST_CASE("a message over the limit is given up, acknowledged and counted, and the next ones come through", "[mqtt]") {
  if (no_mosquitto()) return;
  Mosquitto broker;
  FakeOutlet outlet(100'000);
  outlet.hold_durable();
  wire::Client publisher(broker.port(), "publisher");
  {
    Running driver(settings_for(broker), outlet);
    outlet.make_durable(1);  // the subscription
    REQUIRE(outlet.wait_for_saying("connected to"));
    publisher.publish("plant/a", "first");
    publisher.publish("plant/large", std::string(5 << 20, 'x'));   // skipped as a stream
    publisher.publish("plant/larger", std::string(150'000, 'x'));  // read, and then too large
    publisher.publish("plant/a",
                      std::string(100'000 - 64 - 7 - 4 + 1, 'y'));  // only just too large, by the Outlet's count
    publisher.publish("plant/a", "last");
    REQUIRE(outlet.wait_for_records(2));
    REQUIRE(outlet.eventually([&] { return outlet.given_up(Cause::too_large) == 3; }));
    CHECK(payloads(outlet) == std::vector<std::string>{"first", "last"});
    CHECK(outlet.counted("too_large") == 3);
    outlet.hold_durable(false);
    CHECK(driver.stop().ok());
  }
  // All were acknowledged: none comes again.
  FakeOutlet again(100'000);
  Running driver(settings_for(broker), again);
  REQUIRE(again.wait_for_saying("connected to"));
  publisher.publish("plant/a", "new");
  REQUIRE(again.wait_for_records(1));
  CHECK(payloads(again) == std::vector<std::string>{"new"});
  CHECK(again.given_up(Cause::too_large) == 0);
  CHECK(driver.stop().ok());
}

TEST_CASE("retained messages come once per new subscription, or never, as configured", "[mqtt]") {
  if (no_mosquitto()) return;
  for (std::string version : {"5", "3.1.1"}) {
    CAPTURE(version);
    Mosquitto broker;
    wire::Client publisher(broker.port(), "publisher");
    publisher.publish("plant/retained", "old", 1, true);
    FakeOutlet outlet;
    for (unsigned round = 1; round <= 3; ++round) {
      Running driver(settings_for(broker, version), outlet);
      REQUIRE(outlet.eventually([&] { return outlet.counted("connections") == round; }));
      publisher.publish("plant/a", fmt::format("live {}", round));
      REQUIRE(outlet.wait_for_records(round + 1));
      CHECK(driver.stop().ok());
    }
    CHECK(payloads(outlet) == std::vector<std::string>{"old", "live 1", "live 2", "live 3"});

    FakeOutlet skipping;
    auto settings = settings_for(broker, version);
    settings.client_id = "another";
    settings.retained = MqttRetained::skip;
    Running driver(settings, skipping);
    REQUIRE(skipping.eventually([&] { return skipping.counted("retained_skipped") == 1; }));
    publisher.publish("plant/a", "live 4");
    REQUIRE(skipping.wait_for_records(1));
    CHECK(payloads(skipping) == std::vector<std::string>{"live 4"});
    CHECK(driver.stop().ok());
  }
}

TEST_CASE("a filter that left the configuration is taken back at the broker", "[mqtt]") {
  if (no_mosquitto()) return;
  for (std::string version : {"5", "3.1.1"}) {
    CAPTURE(version);
    Mosquitto broker;
    wire::Client publisher(broker.port(), "publisher");
    FakeOutlet outlet;
    auto settings = settings_for(broker, version);
    settings.subscribe = {{"plant/#", 1}, {"office/#", 1}};
    {
      Running driver(settings, outlet);
      REQUIRE(outlet.wait_for_saying("connected to"));
      publisher.publish("office/a", "wanted");
      REQUIRE(outlet.wait_for_records(1));
      CHECK(driver.stop().ok());
    }
    settings.subscribe = {{"plant/#", 1}};
    Running driver(settings, outlet);
    REQUIRE(outlet.eventually([&] { return outlet.said().back().find("connected to") == 0; }));
    publisher.publish("office/a", "not wanted");
    publisher.publish("plant/a", "wanted");
    REQUIRE(outlet.wait_for_records(2));
    CHECK(payloads(outlet) == std::vector<std::string>{"wanted", "wanted"});
    CHECK(driver.stop().ok());
  }
}

TEST_CASE("on_busy = drop gives up QoS 0 while the Outlet is full, counted, and never QoS 1", "[mqtt]") {
  if (no_mosquitto()) return;
  Mosquitto broker;
  FakeOutlet outlet;
  auto settings = settings_for(broker);
  settings.subscribe = {{"plant/#", 1}};
  Running driver(settings, outlet, OnBusy::drop);
  REQUIRE(outlet.wait_for_saying("connected to"));
  outlet.set_room(0);
  wire::Client publisher(broker.port(), "publisher");
  for (int i = 0; i < 20; ++i) {
    publisher.publish("plant/zero", fmt::format("zero {}", i), 0);
    publisher.publish("plant/one", fmt::format("one {}", i), 1);
  }
  REQUIRE(outlet.eventually([&] { return outlet.counted("messages") == 40; }));
  outlet.unlimited_room();
  REQUIRE(outlet.wait_for_records(20));
  outlet.eventually([&] { return outlet.given_up(Cause::refused) == 20; });
  CHECK(outlet.given_up(Cause::refused) == 20);
  std::vector<std::string> expected;
  for (int i = 0; i < 20; ++i) expected.push_back(fmt::format("one {}", i));
  CHECK(payloads(outlet) == expected);
  CHECK(driver.stop().ok());
}

TEST_CASE("an Outlet that is closed ends the driver with its reason", "[mqtt]") {
  if (no_mosquitto()) return;
  Mosquitto broker;
  FakeOutlet outlet;
  Running driver(settings_for(broker), outlet);
  REQUIRE(outlet.wait_for_saying("connected to"));
  outlet.close();
  wire::Client(broker.port(), "publisher").publish("plant/a", "x");
  auto result = driver.join();
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().what == "mqtt \"plant\": the outlet is closed");
}

TEST_CASE("two drivers of one process keep to their own brokers", "[mqtt]") {
  if (no_mosquitto()) return;
  Mosquitto one, two;
  FakeOutlet first, second;
  Running a(settings_for(one), first), b(settings_for(two, "3.1.1"), second);
  REQUIRE(first.wait_for_saying("connected to"));
  REQUIRE(second.wait_for_saying("connected to"));
  wire::Client(one.port(), "p").publish("plant/a", "one");
  wire::Client(two.port(), "p").publish("plant/a", "two");
  REQUIRE(first.wait_for_records(1));
  REQUIRE(second.wait_for_records(1));
  CHECK(payloads(first) == std::vector<std::string>{"one"});
  CHECK(payloads(second) == std::vector<std::string>{"two"});
  CHECK(a.stop().ok());
  CHECK(b.stop().ok());
}

std::string problems_with(const std::string& lines) {
  std::string text =
      "[agent]\nid = \"gw\"\n[kafka]\nbrokers = [\"k:9092\"]\n[drivers.plant]\ntype = \"mqtt\"\n" + lines;
  Loaded loaded = load_text(text, {}, driver_kinds(), [](const std::string&) { return std::optional<std::string>(); });
  std::string all;
  for (const auto& problem : loaded.problems) all += fmt::format("{}: {}\n", problem.place.line, problem.what);
  return all;
}

TEST_CASE("settings that cannot work are told with key, value and what was expected", "[mqtt]") {
  const std::string url = "url = \"mqtt://broker:1883\"\n", filter = "subscribe = [{ filter = \"a/+/b\" }]\n";
  CHECK(problems_with(url + filter).empty());
  for (const char* good : {"mqtt://[::1]:1883", "mqtt://broker", "mqtt://10.0.0.1:1/"}) {
    CHECK(problems_with(fmt::format("url = \"{}\"\n{}", good, filter)).empty());
  }
  CHECK(problems_with("url = \"mqtts://broker:8883\"\n" + filter) ==
        "7: drivers.plant.url is \"mqtts://broker:8883\", expected mqtt://host:port (TLS is not there yet)\n");
  for (const char* bad : {"mqtt://", "mqtt://a:0", "mqtt://a:65536", "mqtt://a:x", "mqtt://[::1", "tcp://a", ""}) {
    CHECK(problems_with(fmt::format("url = \"{}\"\n{}", bad, filter)) ==
          fmt::format("7: drivers.plant.url is \"{}\", expected the address of a broker, mqtt://host:port\n", bad));
  }
  CHECK(problems_with("url = \"mqtt://user:hunter2@host\"\n" + filter).find("hunter2") == std::string::npos);
  for (const char* good : {"#", "+", "+/+/#", "/", "$share/g/a/+", "a b/\xC3\xA4"}) {
    CHECK(problems_with(fmt::format("{}subscribe = [{{ filter = \"{}\", qos = 0 }}]\n", url, good)).empty());
  }
  for (const char* bad : {"", "a/#/b", "a#", "+a", "a/b+"}) {
    CHECK_FALSE(problems_with(fmt::format("{}subscribe = [{{ filter = \"{}\" }}]\n", url, bad)).empty());
  }
  CHECK_FALSE(problems_with(url + "subscribe = [{ filter = \"a\", qos = 2 }]\n").empty());
  CHECK_FALSE(problems_with(url + "subscribe = []\n").empty());
  CHECK_FALSE(problems_with(url + "subscribe = [{ filter = \"a\" }, { filter = \"a\", qos = 0 }]\n").empty());
  CHECK_FALSE(problems_with(url + filter + "password = \"x\"\nversion = \"3.1.1\"\n").empty());
  CHECK_FALSE(problems_with(url + filter + "version = \"4\"\n").empty());
  CHECK_FALSE(problems_with(url + filter + "keep_alive = \"0s\"\n").empty());
  CHECK_FALSE(problems_with(url + filter + "receive_maximum = 70000\n").empty());
}

}  // namespace mqtt_driver_test
}  // namespace
}  // namespace penstock
