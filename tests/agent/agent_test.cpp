#include "agent/daemon/agent.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>

#include "drivers/simulator.h"
#include "tests/agent/wait_until.h"
#include "tests/catch.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace agent_test {

using namespace std::chrono_literals;

/// The real time, which a test can move on.
class MovedClock final : public Clock {
 public:
  WallTime wall() const override { return real_.wall(); }
  BootTime boottime() const override { return real_.boottime() + BootTime(moved_.load()); }
  Boot boot() const override { return real_.boot(); }
  bool synchronised() const override { return true; }
  bool sleep(std::chrono::nanoseconds duration, std::stop_token stop) const override {
    return real_.sleep(duration, stop);
  }
  void move(std::chrono::microseconds by) { moved_ += by.count(); }

 private:
  SystemClock real_;
  std::atomic<std::int64_t> moved_{0};
};

/// Kafka as it should be, or away. Outlives the agents that send to it.
struct Destination {
  std::mutex mutex;
  bool away = false;
  std::optional<Checkpoint> checkpoint;
  std::vector<StoredRecord> records;

  std::size_t count(const std::string& stream_prefix = "") {
    std::lock_guard lock(mutex);
    return static_cast<std::size_t>(std::count_if(records.begin(), records.end(), [&](const auto& stored) {
      return stored.record.stream.starts_with(stream_prefix);
    }));
  }
};

class DestinationSink final : public Sink {
 public:
  explicit DestinationSink(Destination& to) : to_(to) {}
  Result<Standing> resume(std::stop_token) override {
    std::lock_guard lock(to_.mutex);
    if (to_.away) return transient("nobody is there");
    return Standing{to_.checkpoint, {}};
  }
  Result<std::vector<Obstacle>> prepare(const Batch&, std::stop_token) override { return std::vector<Obstacle>(); }
  Result<void> commit(const Batch& batch, std::stop_token) override {
    std::lock_guard lock(to_.mutex);
    if (to_.away) return transient("nobody is there");
    to_.checkpoint = batch.after;
    to_.records.insert(to_.records.end(), batch.records.begin(), batch.records.end());
    return {};
  }
  std::optional<Checkpoint> proven(std::stop_token) override {
    std::lock_guard lock(to_.mutex);
    return to_.checkpoint;
  }

 private:
  Destination& to_;
};

DriverSection simulator(const std::string& name, const SimulatorSettings& settings) {
  return {"gw-1", name, "simulator", "telemetry", OnBusy::wait, AnySettings::of(settings)};
}

struct House {
  House() {
    settings.agent.id = "gw-17";
    settings.agent.state_directory = dir.path() / "state";
    settings.buffer.capacity_bytes = 16 << 20;
    settings.buffer.commit_interval = 1ms;
    settings.kafka.batch_interval = 1ms;
    settings.http.listen = "off";
  }
  void simulate(std::uint64_t readings) {
    SimulatorSettings sim;
    sim.rate = 0;
    sim.limit = readings;
    settings.drivers = {simulator("sim", sim)};
  }
  Result<void> start() {
    agent.emplace(
        settings,
        [this](const SinkParts&) -> Result<MadeSink> {
          return MadeSink{std::make_unique<DestinationSink>(destination), {}};
        },
        clock);
    return agent->start();
  }
  nlohmann::json json() { return nlohmann::json::parse(to_json(agent->status())); }

  TempDir dir;
  MovedClock clock;
  Destination destination;
  Settings settings;
  std::optional<Agent> agent;
};

TEST_CASE("an agent carries what its drivers read to the destination, once and in order") {
  House house;
  house.simulate(20'000);
  REQUIRE(house.start().ok());
  CHECK(wait_until([&] { return house.destination.count("sim/") == 20'000; }));
  CHECK(house.agent->stop());
  std::uint64_t next = 0;
  for (const auto& stored : house.destination.records) CHECK(stored.sequence.value() == ++next);
  CHECK(house.destination.count() == house.destination.records.size());
}

TEST_CASE("an orderly stop brings everything to disk and to a destination that is there") {
  House house;
  house.settings.kafka.batch_interval = 200ms;
  SimulatorSettings sim;
  sim.rate = 2000;
  house.settings.drivers = {simulator("sim", sim)};
  REQUIRE(house.start().ok());
  REQUIRE(wait_until([&] { return house.destination.count("sim/") > 100; }));
  auto began = std::chrono::steady_clock::now();
  CHECK(house.agent->stop());
  CHECK(std::chrono::steady_clock::now() - began < 8s);
  auto sent = house.destination.records.size();
  house.settings.drivers.clear();
  REQUIRE(house.start().ok());
  auto lane = house.json()["lanes"][0];
  CHECK(lane["delivered"].get<std::uint64_t>() >= sent);
  CHECK(lane["durable"].get<std::uint64_t>() <= sent + 1);  // the status record of this start
}

TEST_CASE("what had to be mended before the store could be opened is in the status until the next start") {
  House house;
  REQUIRE(house.start().ok());
  CHECK(house.json()["store"]["mended"].is_null());
  CHECK(house.agent->stop());
  std::ofstream(house.settings.agent.state_directory / "queue" / "suspect") << "a test\n";
  REQUIRE(house.start().ok());
  CHECK_THAT(house.json()["store"]["mended"].get<std::string>(), Catch::Contains("the store was suspect (a test)"));
  CHECK(house.agent->stop());
  REQUIRE(house.start().ok());
  CHECK(house.json()["store"]["mended"].is_null());
}

TEST_CASE("what could not be sent is sent by the next start, once") {
  House house;
  house.destination.away = true;
  house.simulate(5'000);
  REQUIRE(house.start().ok());
  REQUIRE(wait_until([&] { return house.agent->status().store.lanes[0].durable.value() >= 5'000; }));
  CHECK_FALSE(house.agent->status().connected);
  CHECK(house.agent->stuck().empty());
  CHECK(house.agent->stop());
  house.settings.drivers.clear();
  house.destination.away = false;
  REQUIRE(house.start().ok());
  CHECK(wait_until([&] { return house.destination.count("sim/") == 5'000; }));
  CHECK(house.agent->stop());
  std::uint64_t next = 0;
  for (const auto& stored : house.destination.records) CHECK(stored.sequence.value() == ++next);
}

TEST_CASE("the status record comes at the start and at every interval, on the lane that is served last") {
  House house;
  house.settings.lanes = {{"alarms", 0}, {"bulk", 7}, {"telemetry", 3}};
  REQUIRE(house.start().ok());
  REQUIRE(wait_until([&] { return house.destination.count("penstock/status") == 1; }));
  CHECK(house.agent->tick().ok());
  house.clock.move(61s);
  CHECK(house.agent->tick().ok());
  REQUIRE(wait_until([&] { return house.destination.count("penstock/status") == 2; }));
  std::lock_guard lock(house.destination.mutex);
  const auto& record = house.destination.records[0].record;
  CHECK(record.driver == "penstock");
  auto body = nlohmann::json::parse(record.payload);
  CHECK(body["agent"] == "gw-17");
  CHECK(house.destination.checkpoint->delivered.at("bulk") == Sequence(2));
}

TEST_CASE("a state directory that cannot be made is an error that names it, and nothing runs") {
  House house;
  std::ofstream(house.dir.path() / "file") << "x";
  house.settings.agent.state_directory = house.dir.path() / "file/state";
  auto started = house.start();
  REQUIRE_FALSE(started.ok());
  CHECK_THAT(started.error().what, Catch::Contains("file/state") && Catch::Contains("Not a directory"));
}

TEST_CASE("a second agent on the same state directory is refused, the first goes on") {
  House house;
  house.simulate(10);
  REQUIRE(house.start().ok());
  Agent second(
      house.settings,
      [&](const SinkParts&) -> Result<MadeSink> {
        return MadeSink{std::make_unique<DestinationSink>(house.destination), {}};
      },
      house.clock);
  CHECK_FALSE(second.start().ok());
  CHECK(wait_until([&] { return house.destination.count("sim/") == 10; }));
  CHECK(ask_control(house.settings.agent.state_directory / "control.sock", R"({"command":"status"})").ok());
}

TEST_CASE("a sink that cannot be made ends the start with its reason") {
  House house;
  Agent agent(
      house.settings, [](const SinkParts&) -> Result<MadeSink> { return rejected("no such property"); }, house.clock);
  auto started = agent.start();
  REQUIRE_FALSE(started.ok());
  CHECK(started.error().what == "no such property");
}

TEST_CASE("a port in use does not keep the agent from running, and is tried again") {
  int taken = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  REQUIRE(bind(taken, reinterpret_cast<sockaddr*>(&address), length) == 0);
  REQUIRE(listen(taken, 1) == 0);
  REQUIRE(getsockname(taken, reinterpret_cast<sockaddr*>(&address), &length) == 0);

  House house;
  house.settings.http.listen = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  house.simulate(10);
  REQUIRE(house.start().ok());
  CHECK(house.json()["http"] == "");
  CHECK(wait_until([&] { return house.destination.count("sim/") == 10; }));
  close(taken);
  CHECK(house.agent->tick().ok());
  CHECK(house.json()["http"] == "");  // not at once
  house.clock.move(11s);
  CHECK(house.agent->tick().ok());
  CHECK(house.json()["http"] == house.settings.http.listen);
}

TEST_CASE("reload starts, stops and restarts the drivers that changed and no other") {
  House house;
  SimulatorSettings fast, slow;
  fast.rate = 1000;
  slow.rate = 500;
  house.settings.drivers = {simulator("stays", fast), simulator("changes", fast), simulator("goes", fast)};
  REQUIRE(house.start().ok());
  auto of = [&](const std::string& name) -> std::optional<DriverStatus> {
    for (auto& driver : house.agent->status().drivers) {
      if (driver.name == name) return driver;
    }
    return std::nullopt;
  };
  REQUIRE(wait_until([&] { return of("stays")->outlet.records > 100 && of("changes")->outlet.records > 100; }));
  auto stays = of("stays")->outlet.records, changes = of("changes")->outlet.records;

  Settings fresh = house.settings;
  fresh.drivers = {simulator("stays", fast), simulator("changes", slow), simulator("comes", fast)};
  fresh.kafka.topic = "other";
  house.agent->reload(fresh);
  CHECK(of("stays")->outlet.records >= stays);
  CHECK_FALSE(of("goes"));
  REQUIRE(wait_until([&] { return of("changes")->outlet.state == "10 sensors, 500 readings/s"; }));
  CHECK(of("changes")->outlet.records < changes + 100);
  CHECK(wait_until([&] { return of("comes")->outlet.records > 10; }));
  house.agent->reload(fresh);
  CHECK(house.agent->status().drivers.size() == 3);
}

TEST_CASE("a writer that does not turn is stuck, whatever Kafka does") {
  House house;
  house.destination.away = true;
  REQUIRE(house.start().ok());
  CHECK(house.agent->stuck().empty());
  CHECK(house.agent->alive());
  // The writer turns once a second: now and then between the step of the clock and the look at it.
  CHECK(wait_until([&] {
    house.clock.move(10min);
    return house.agent->stuck().find("writer has not turned for") != std::string::npos;
  }));
  CHECK(wait_until([&] {
    house.clock.move(10min);
    return !house.agent->alive();
  }));
  CHECK(wait_until([&] { return house.agent->stuck().empty() && house.agent->alive(); }));  // it turns
}

/// The first line of the answer.
std::string healthz(const std::string& address) {
  int number = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  std::string answer;
  if (connect(number, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) {
    constexpr std::string_view kRequest = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    send(number, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
    char buffer[1024];
    auto got = recv(number, buffer, sizeof buffer, 0);  // MHD ends a silent connection after 10 s
    answer.assign(buffer, static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  }
  close(number);
  return answer.substr(0, answer.find('\r'));
}

TEST_CASE("/healthz is 503 while the writer is stuck, and 200 again when it turns") {
  House house;
  house.destination.away = true;
  house.settings.http.listen = "127.0.0.1:0";
  REQUIRE(house.start().ok());
  std::string address = house.json()["http"];
  CHECK(healthz(address) == "HTTP/1.1 200 OK");
  CHECK(wait_until([&] {
    house.clock.move(10min);
    return healthz(address) == "HTTP/1.1 503 Service Unavailable";
  }));
  CHECK(wait_until([&] { return healthz(address) == "HTTP/1.1 200 OK"; }));
}

TEST_CASE("the control socket answers status and refuses the rest with a reason") {
  House house;
  REQUIRE(house.start().ok());
  auto path = house.settings.agent.state_directory / "control.sock";
  auto status = ask_control(path, R"({"command":"status"})");
  REQUIRE(status.ok());
  CHECK(nlohmann::json::parse(*status)["agent"] == "gw-17");
  for (const char* wrong : {"", "x", "[]", "{}", R"({"command":7})", R"({"command":"stop"})"}) {
    auto refused = ask_control(path, wrong);
    REQUIRE(refused.ok());
    CHECK(nlohmann::json::parse(*refused).contains("error"));
  }
}

}  // namespace agent_test
}  // namespace
}  // namespace penstock
