#include "agent/demo/view.h"
#include "tests/catch.h"

namespace penstock {
namespace {
namespace demo_view_test {

using namespace std::chrono_literals;

DemoSnapshot in_an_outage() {
  DemoSnapshot snapshot;
  snapshot.at = 9s;
  snapshot.link_up = false;
  snapshot.lanes = {{"telemetry", 2700, 1500, 1200}};
  snapshot.drivers = {{"simulator", "20 sensors", 2600}, {"host", "3 files", 100}};
  snapshot.sent = 2700;
  snapshot.received = 1500;
  snapshot.own = 2;
  snapshot.repeats = 7;
  snapshot.sent_rate = 300;
  snapshot.stored_bytes = 300 << 10;
  snapshot.capacity_bytes = 64 << 20;
  snapshot.memory_bytes = 20 << 20;
  snapshot.backlog = {0, 0, 0, 0, 0, 0, 300, 600, 1200};
  snapshot.messages = {"warning: forwarder: connection refused"};
  return snapshot;
}

std::string frame(const DemoSnapshot& snapshot, const DemoLook& look, const Timetable& timetable = Timetable(30s)) {
  std::string text;
  for (const auto& line : draw(snapshot, timetable, look)) text += line + "\n";
  return text;
}

/// Characters on the screen: no colours, and a character of several bytes once.
std::size_t width_of(const std::string& line) {
  std::size_t width = 0;
  for (std::size_t n = 0; n < line.size(); ++n) {
    if (line[n] == '\033') {
      n = line.find('m', n);
      continue;
    }
    width += (static_cast<unsigned char>(line[n]) & 0xc0) != 0x80;
  }
  return width;
}

TEST_CASE("the demo's view shows lanes, link, rates, sent and received") {
  CHECK(frame(in_an_outage(), {60, false, false}) ==
        " penstock demo  00:09 of 00:30\n"
        "\n"
        " simulator     2,600 records  20 sensors\n"
        " host            100 records  3 files\n"
        "\n"
        " lane        waiting      on disk     in Kafka\n"
        "               1,200        2,700        1,500  telemetry\n"
        "\n"
        " link      CUT, back in 3 s\n"
        "           ==========xxxxxxxxx----------xxxxx--------------\n"
        " backlog             .::#\n"
        "\n"
        " sent          2,700      300 a second\n"
        " received      1,500        0 a second, and 2 of the agent's\n"
        "                   7 repeats skipped\n"
        " disk      300 KiB of 64 MiB, memory 20 MiB\n"
        " warning: forwarder: connection refused\n");
}

TEST_CASE("no line of the demo's view is wider than the terminal, coloured or not") {
  for (bool colour : {false, true}) {
    for (bool unicode : {false, true}) {
      for (std::size_t columns : {1u, 5u, 11u, 12u, 13u, 40u, 79u, 80u, 200u}) {
        for (const auto& line : draw(in_an_outage(), Timetable(30s), {columns, colour, unicode})) {
          CHECK(width_of(line) <= columns);
        }
      }
    }
  }
}

TEST_CASE("without colour the demo's view has no escape, and every colour is ended where there is") {
  CHECK(frame(in_an_outage(), {80, false, true}).find('\033') == std::string::npos);
  for (const auto& line : draw(in_an_outage(), Timetable(30s), {20, true, true})) {
    auto last = line.rfind('\033');
    if (last != std::string::npos) CHECK(line.substr(last, 4) == "\033[0m");
  }
}

TEST_CASE("nothing that is shown can move the cursor of the demo's view") {
  auto snapshot = in_an_outage();
  snapshot.messages = {"a\nb\033[2Jc\r\x7f"};
  CHECK_THAT(frame(snapshot, {80, false, false}), Catch::Contains(" a b [2Jc  \n"));
}

TEST_CASE("the height of the demo's view is the same in every state of the link") {
  auto down = in_an_outage();
  auto up = in_an_outage();
  up.link_up = true;
  up.at = 29s;
  CHECK(draw(down, Timetable(30s), {}).size() == draw(up, Timetable(30s), {}).size());
  CHECK_THAT(frame(up, {80, false, false}), Catch::Contains(" link      up\n"));
  up.at = 1s;
  CHECK_THAT(frame(up, {80, false, false}), Catch::Contains(" link      up, cut in 5 s\n"));
}

TEST_CASE("the demo's view says that the queue is being emptied, before and after the time is over") {
  auto snapshot = in_an_outage();
  snapshot.stage = DemoSnapshot::Stage::emptying;
  snapshot.link_up = true;
  for (auto at : {0ms, 9000ms, 30000ms, 45000ms}) {
    snapshot.at = at;
    CHECK_THAT(frame(snapshot, {80, false, true}), Catch::Contains("the queue is emptied"));
  }
}

TEST_CASE("where there is no terminal the demo writes one plain line") {
  auto snapshot = in_an_outage();
  CHECK(plain_line(snapshot, Timetable(30s)) ==
        "00:09 of 00:30  link CUT  waiting   1,200  sent    2,700 (300/s)  received    1,500 (0/s)");
  snapshot.stage = DemoSnapshot::Stage::emptying;
  snapshot.link_up = true;
  CHECK(plain_line(snapshot, Timetable(30s)) ==
        "emptying        link up   waiting   1,200  sent    2,700 (300/s)  received    1,500 (0/s)");
}

TEST_CASE("numbers of the demo are written for people") {
  CHECK(grouped(0) == "0");
  CHECK(grouped(999) == "999");
  CHECK(grouped(1000) == "1,000");
  CHECK(grouped(1234567) == "1,234,567");
  CHECK(in_bytes(1023) == "1023 B");
  CHECK(in_bytes(1536) == "1.5 KiB");
  CHECK(in_bytes(64 << 20) == "64 MiB");
  CHECK(in_bytes(std::uint64_t{3} << 30) == "3.0 GiB");
  CHECK(on_the_clock(83s) == "01:23");
  CHECK(on_the_clock(3600s) == "1:00:00");
}

}  // namespace demo_view_test
}  // namespace
}  // namespace penstock
