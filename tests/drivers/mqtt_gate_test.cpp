// The gate between a scripted broker and a scripted Paho, byte by byte.
#include "drivers/mqtt/gate.h"

#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>

#include "tests/catch.h"
#include "tests/fakes/fake_outlet.h"
#include "tests/fakes/mqtt_wire.h"

namespace penstock {
namespace {
namespace mqtt_gate_test {

using namespace std::chrono_literals;
using mqtt::Gate;
using wire::Connection;

class Listener {
 public:
  Listener() : descriptor_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof name;
    REQUIRE(bind(descriptor_, reinterpret_cast<sockaddr*>(&name), length) == 0);
    REQUIRE(listen(descriptor_, 4) == 0);
    REQUIRE(getsockname(descriptor_, reinterpret_cast<sockaddr*>(&name), &length) == 0);
    port_ = ntohs(name.sin_port);
  }
  ~Listener() { close(descriptor_); }
  std::uint16_t port() const { return port_; }
  Connection accept() {
    pollfd polled{descriptor_, POLLIN, 0};
    REQUIRE(poll(&polled, 1, Connection::kPatience) == 1);
    return Connection(accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC));
  }

 private:
  int descriptor_;
  std::uint16_t port_ = 0;
};

mqtt::LinkSettings usual_link() {
  mqtt::LinkSettings link;
  link.name = "plant";
  link.broker = "broker:1883";
  return link;
}

// A gate with both its ends in the hands of the test; connected through to CONNACK.
struct Bench {
  explicit Bench(mqtt::LinkSettings link = usual_link(), mqtt::InflowSettings inflow = {}, std::size_t most = 1 << 20)
      : outlet(most) {
    auto opened = Gate::open(
        std::move(link), std::move(inflow), [port = listener.port()] { return mqtt::tcp_stream("127.0.0.1", port); },
        outlet);
    REQUIRE(opened.ok());
    gate = std::move(*opened);
  }
  void connect(const std::string& connack = wire::connack()) {
    paho.emplace(Connection::to(gate->port()));
    paho->write(wire::packet(0x10, "whatever Paho says"));
    broker.emplace(listener.accept());
    CHECK(broker->read().body == "whatever Paho says");
    broker->write(connack);
    CHECK(paho->read().type() == 2);
  }
  std::string acknowledged(std::size_t count) {
    std::string ids;
    for (std::size_t i = 0; i < count; ++i) {
      auto packet = broker->read();
      ids += fmt::format("{}:{} ", packet.type(), packet.id());
    }
    return ids;
  }
  bool ended(std::string_view why) {
    return outlet.eventually([&] { return gate->why_ended().find(why) != std::string::npos; });
  }

  FakeOutlet outlet;
  Listener listener;
  std::unique_ptr<Gate> gate;
  std::optional<Connection> paho, broker;
};

TEST_CASE("acknowledgements leave in the order of arrival, and only when their records are durable", "[mqtt]") {
  Bench bench;
  bench.connect();
  bench.outlet.hold_durable();
  // One by one, so that each is a put of its own.
  std::size_t count = 0;
  for (std::size_t id : {3u, 1u, 65'535u}) {
    bench.broker->write(wire::publish("a", fmt::format("{}", id), 1, id));
    REQUIRE(bench.outlet.wait_for_records(++count));
  }
  bench.broker->write(wire::publish("a", "zero", 0, 0));
  REQUIRE(bench.outlet.wait_for_records(4));
  REQUIRE(bench.outlet.accepted() == 4);
  CHECK_FALSE(bench.broker->try_read(50));
  bench.outlet.make_durable(1);
  CHECK(bench.acknowledged(1) == "4:3 ");
  CHECK_FALSE(bench.broker->try_read(50));
  bench.outlet.hold_durable(false);
  CHECK(bench.acknowledged(2) == "4:1 4:65535 ");
  CHECK_FALSE(bench.paho->try_read(20));
}

TEST_CASE("what arrives cut at any byte is put together again", "[mqtt]") {
  std::string stream;
  for (std::size_t i = 1; i <= 3; ++i) stream += wire::publish("topic/a", fmt::format("payload {}", i), 1, i);
  stream += wire::packet(0x90, wire::u16(5) + std::string("\0\1", 2));  // a SUBACK, for Paho
  Bench bench;
  bench.connect();
  std::size_t seen = 0;
  for (std::size_t cut = 1; cut < stream.size(); cut += 3) {
    bench.broker->write(stream.substr(0, cut));
    CHECK_FALSE(bench.paho->try_read(1));
    bench.broker->write(stream.substr(cut));
    CHECK(bench.acknowledged(3) == "4:1 4:2 4:3 ");
    auto passed = bench.paho->read();
    CHECK(passed.type() == 9);
    seen += 3;
    CHECK(bench.outlet.size() == seen);
  }
}

TEST_CASE("Paho's packets pass, its pings are answered here, and never a message reaches it", "[mqtt]") {
  Bench bench;
  bench.connect();
  bench.paho->write(wire::packet(0x82, "subscribe") + wire::packet(0xC0, "") + wire::packet(0x30, "published"));
  CHECK(bench.broker->read().body == "subscribe");
  CHECK(bench.broker->read().body == "published");
  CHECK(bench.paho->read().type() == 13);
  bench.broker->write(wire::publish("a", "x", 1, 1) + wire::packet(0xD0, "") + wire::packet(0xB0, wire::u16(9)));
  CHECK(bench.paho->read().type() == 11);
}

TEST_CASE("a connection that ends forgets its acknowledgements; the next one starts anew", "[mqtt]") {
  Bench bench;
  bench.connect();
  bench.outlet.hold_durable();
  bench.broker->write(wire::publish("a", "first", 1, 1));
  REQUIRE(bench.outlet.wait_for_records(1));
  bench.broker->reset();
  CHECK(bench.paho->ends());
  bench.connect(wire::connack(0, true));
  bench.broker->write(wire::publish("a", "first", 1, 7, std::string(), false, true));
  REQUIRE(bench.outlet.wait_for_records(2));
  bench.outlet.hold_durable(false);
  auto only = bench.broker->read();
  CHECK(only.id() == 7);
  CHECK_FALSE(bench.broker->try_read(50));
}

TEST_CASE("a full Outlet stops the reading after receive_maximum messages, and loses none", "[mqtt]") {
  mqtt::InflowSettings inflow;
  inflow.waiting_messages = 100;
  Bench bench(usual_link(), inflow);
  bench.connect();
  bench.outlet.set_room(0);
  std::string message = wire::publish("a", std::string(10'000, 'x'), 1, 1), stream;
  constexpr std::size_t kCount = 3'000;
  for (std::size_t i = 0; i < kCount; ++i) stream += message;
  std::string_view rest = stream;
  // 30 MB do not fit into the buffers of two sockets: at some point no more is taken.
  bool stuck = bench.outlet.eventually([&] {
    auto before = rest.size();
    rest = bench.broker->write_some(rest);
    if (rest.size() != before) return false;
    pollfd polled{bench.broker->descriptor(), POLLOUT, 0};
    return poll(&polled, 1, 200) == 0;
  });
  REQUIRE(stuck);
  CHECK(bench.outlet.counted("messages") >= 100);
  CHECK(bench.outlet.counted("messages") < 300);
  bench.outlet.unlimited_room();
  std::size_t acknowledged = 0;
  REQUIRE(bench.outlet.eventually([&] {
    rest = bench.broker->write_some(rest);
    while (bench.broker->try_read(0)) ++acknowledged;
    return acknowledged == kCount;
  }));
  CHECK(bench.outlet.size() == kCount);
}

TEST_CASE("while nothing is read the broker is pinged, and its silence is no death", "[mqtt]") {
  auto link = usual_link();
  link.keep_alive = 100ms;
  mqtt::InflowSettings inflow;
  inflow.waiting_messages = 1;
  Bench bench(link, inflow);
  bench.connect();
  bench.outlet.set_room(0);
  bench.broker->write(wire::publish("a", "x", 1, 1));
  // Many keep alives without an answer to any ping.
  for (int i = 0; i < 10; ++i) CHECK(bench.broker->read().type() == 12);
  bench.outlet.unlimited_room();
  auto packet = bench.broker->read();
  while (packet.type() == 12) packet = bench.broker->read();
  CHECK(packet.type() == 4);
  // Now it reads: silence is death.
  CHECK(bench.ended("has not answered for 100 ms"));
  CHECK(bench.paho->ends());
}

TEST_CASE("a message too large for memory is passed by as a stream and acknowledged in its turn", "[mqtt]") {
  Bench bench(usual_link(), {}, 10'000);
  bench.connect();
  bench.outlet.hold_durable();
  bench.broker->write(wire::publish("a", "before", 1, 1));
  REQUIRE(bench.outlet.wait_for_records(1));
  bench.broker->write(wire::publish("large", std::string(20 << 20, 'x'), 1, 2) + wire::publish("a", "after", 1, 3));
  REQUIRE(bench.outlet.wait_for_records(2));
  CHECK(bench.outlet.eventually([&] { return bench.outlet.given_up(Cause::too_large) == 1; }));
  CHECK_FALSE(bench.broker->try_read(20));
  bench.outlet.hold_durable(false);
  CHECK(bench.acknowledged(3) == "4:1 4:2 4:3 ");
}

TEST_CASE("QoS 0 that waits outlives its connection, QoS 1 is left to the broker", "[mqtt]") {
  Bench bench;
  bench.connect();
  bench.outlet.set_room(0);
  bench.broker->write(wire::publish("a", "zero", 0, 0) + wire::publish("a", "one", 1, 1));
  REQUIRE(bench.outlet.eventually([&] { return bench.outlet.counted("messages") == 2; }));
  bench.broker->reset();
  CHECK(bench.paho->ends());
  bench.outlet.unlimited_room();
  REQUIRE(bench.outlet.wait_for_records(1));
  CHECK(bench.outlet.records()[0].payload == "zero");
}

TEST_CASE("what the broker sends again is handed over as such, and how much of it is not", "[mqtt]") {
  Bench bench;
  bench.connect();
  auto hand_over = [&](const std::string& packets, std::size_t records) {
    bench.broker->write(packets);
    REQUIRE(bench.outlet.wait_for_records(records));
  };
  hand_over(wire::publish("a", "zero", 0, 0), 1);
  hand_over(wire::publish("a", "one", 1, 1), 2);
  hand_over(wire::publish("a", "one", 1, 2) + wire::publish("a", "zero", 0, 0) + wire::publish("a", "two", 2, 3), 5);
  using Told = std::vector<std::optional<std::uint64_t>>;
  CHECK(bench.outlet.sent_once() == Told{std::nullopt, 0, 1});
}

TEST_CASE("QoS 0 that found no room before the end is counted, QoS 1 is not: the broker has it", "[mqtt]") {
  Bench bench;
  bench.connect();
  bench.outlet.set_room(0);
  bench.broker->write(wire::publish("a", "zero", 0, 0) + wire::publish("a", "one", 1, 1) +
                      wire::publish("a", "zero again", 0, 0));
  REQUIRE(bench.outlet.eventually([&] { return bench.outlet.counted("messages") == 3; }));
  CHECK_FALSE(bench.gate->settle(100ms));
  bench.gate.reset();
  CHECK(bench.outlet.counted("left_behind") == 2);

  Bench roomy;
  roomy.connect();
  roomy.broker->write(wire::publish("a", "zero", 0, 0));
  REQUIRE(roomy.outlet.wait_for_records(1));
  roomy.gate.reset();
  CHECK(roomy.outlet.counted("left_behind") == 0);
}

TEST_CASE("QoS 2 of an old session is taken at least once: PUBREC when durable, PUBCOMP for PUBREL", "[mqtt]") {
  Bench bench;
  bench.connect();
  bench.outlet.hold_durable();
  bench.broker->write(wire::publish("a", "two", 2, 5) + wire::publish("a", "one", 1, 6));
  REQUIRE(bench.outlet.wait_for_records(2));
  CHECK_FALSE(bench.broker->try_read(20));
  bench.outlet.hold_durable(false);
  CHECK(bench.acknowledged(2) == "5:5 4:6 ");
  bench.broker->write(wire::acknowledgement(0x62, 5));
  CHECK(bench.acknowledged(1) == "7:5 ");
  CHECK_FALSE(bench.paho->try_read(20));
}

TEST_CASE("a broker that breaks the protocol is left, with the reason", "[mqtt]") {
  struct Case {
    std::string bytes;
    const char* why;
  };
  for (const auto& each : std::vector<Case>{
           {std::string("\x30\xff\xff\xff\xff\x01", 6), "a length of more than four bytes"},
           {std::string("\x00\x00", 2), "type 0"},
           {wire::publish("a", "x", 1, 0), "packet id 0"},
           {wire::publish("a", "x", 3, 1), "QoS 3"},
           {wire::packet(0x90, std::string(2 << 20, 'x')), "out of step"},
           {wire::packet(0xE0, std::string("\x8E\x00", 2)), "taken over"},
           {wire::packet(0x62, ""), "no packet id"},
       }) {
    CAPTURE(each.why);
    Bench bench;
    bench.connect();
    bench.broker->write_some(each.bytes);
    if (std::string_view(each.why) == "taken over") bench.broker.reset();
    CHECK(bench.ended(each.why));
    CHECK(bench.paho->ends());
  }
  Bench early;
  early.paho.emplace(Connection::to(early.gate->port()));
  early.paho->write(wire::packet(0x10, "connect"));
  early.broker.emplace(early.listener.accept());
  early.broker->write(wire::publish("a", "x", 1, 1));
  CHECK(early.ended("before its CONNACK"));
  CHECK(early.outlet.size() == 0);
}

TEST_CASE("a broker that never answers CONNECT is given up in the time allowed", "[mqtt]") {
  auto link = usual_link();
  link.connect_timeout = 100ms;
  Bench bench(link);
  bench.paho.emplace(Connection::to(bench.gate->port()));
  bench.paho->write(wire::packet(0x10, "connect"));
  CHECK(bench.paho->ends());
  CHECK(bench.gate->why_ended() == "no answer from broker:1883 in 100 ms");
}

TEST_CASE("a name that cannot be resolved is told, not waited for", "[mqtt]") {
  FakeOutlet outlet;
  auto gate = Gate::open(
      usual_link(), {}, [] { return mqtt::tcp_stream("no such host.invalid", 1883); }, outlet);
  REQUIRE(gate.ok());
  auto paho = Connection::to((*gate)->port());
  CHECK(paho.ends());
  CHECK((*gate)->why_ended().find("cannot resolve no such host.invalid") == 0);
}

TEST_CASE("a connection from another process is turned away, and ours goes on", "[mqtt]") {
  Bench bench;
  bench.connect();
  // bash speaks TCP: it connects, and is done when the gate has closed.
  std::string command = fmt::format("exec 3<>/dev/tcp/127.0.0.1/{} && cat <&3 >/dev/null", bench.gate->port());
  char shell[] = "bash", option[] = "-c";
  char* arguments[] = {shell, option, command.data(), nullptr};
  pid_t process = -1;
  REQUIRE(posix_spawnp(&process, "bash", nullptr, nullptr, arguments, environ) == 0);
  CHECK(bench.outlet.eventually([&] { return bench.outlet.counted("foreign_connections") == 1; }));
  int status = -1;
  CHECK(bench.outlet.eventually([&] { return waitpid(process, &status, WNOHANG) == process; }));
  bench.broker->write(wire::publish("a", "x", 1, 1));
  CHECK(bench.acknowledged(1) == "4:1 ");
}

TEST_CASE("settle waits for the disk and lets the last acknowledgements leave before the goodbye", "[mqtt]") {
  Bench bench;
  bench.connect();
  bench.outlet.hold_durable();
  bench.broker->write(wire::publish("a", "x", 1, 1));
  REQUIRE(bench.outlet.wait_for_records(1));
  CHECK_FALSE(bench.gate->settle(20ms));
  bench.outlet.hold_durable(false);
  CHECK(bench.gate->settle(20s));
  bench.paho->write(wire::packet(0xE0, ""));
  CHECK(bench.acknowledged(1) == "4:1 ");
  CHECK(bench.broker->read().type() == 14);
}

TEST_CASE("an Outlet that takes nothing any more ends the connection and is told", "[mqtt]") {
  Bench bench;
  bench.connect();
  bench.outlet.refuse(broken("the disk is gone"));
  bench.broker->write(wire::publish("a", "x", 1, 1));
  CHECK(bench.paho->ends());
  REQUIRE(bench.gate->outlet_failure());
  CHECK(bench.gate->outlet_failure()->fault == Fault::broken);
}

TEST_CASE("a topic that is no UTF-8 is taken with its bad bytes replaced, rather than sent for ever", "[mqtt]") {
  Bench bench;
  bench.connect();
  std::string properties = "\x26" + wire::text("n\xFF") + wire::text("\xC3\xA4\xED\xA0\x80");
  bench.broker->write(wire::publish("a/\xC3\xA4/\xC3\x28/\xF0\x9F\x98\x80\xFF", "x", 1, 1, properties));
  REQUIRE(bench.outlet.wait_for_records(1));
  auto record = bench.outlet.records()[0];
  CHECK(record.stream == "a/\xC3\xA4/\xEF\xBF\xBD\x28/\xF0\x9F\x98\x80\xEF\xBF\xBD");
  CHECK(record.headers == std::vector<Header>{{"n\xEF\xBF\xBD", "\xC3\xA4\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}});
}

}  // namespace mqtt_gate_test
}  // namespace
}  // namespace penstock
