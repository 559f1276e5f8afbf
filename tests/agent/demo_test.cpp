// The demo as it runs, only shorter: the real agent with a store on disk, the sink, a mock cluster, the receiver.
#include "agent/commands/demo.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <string>

#include "tests/agent/wait_until.h"
#include "tests/catch.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace demo_test {

using namespace std::chrono_literals;

struct File {
  File() : file(std::tmpfile()) { REQUIRE(file != nullptr); }
  ~File() { std::fclose(file); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  std::string text() const {
    std::fflush(file);
    std::rewind(file);
    std::string all;
    std::array<char, 4096> part;
    while (auto count = std::fread(part.data(), 1, part.size(), file)) all.append(part.data(), count);
    return all;
  }
  std::FILE* file;
};

/// A host with one thermal zone at 45.1 degrees.
struct Host {
  Host() {
    auto zone = folder.path() / "sys/class/thermal/thermal_zone0";
    std::filesystem::create_directories(zone);
    std::ofstream(zone / "type") << "cpu\n";
    std::ofstream(zone / "temp") << "45100\n";
    std::filesystem::create_directories(folder.path() / "tmp");
    settings.whole = 1s;
    settings.rate = 500;
    settings.below = folder.path() / "tmp";
    settings.sys_root = folder.path() / "sys";
  }
  ExitStatus run() { return show_demo(settings, out.file, errors.file); }

  TempDir folder;
  DemoSettings settings;
  File out, errors;
};

TEST_CASE("a demo ends by itself with a proof that holds, says what it is not, and leaves nothing behind", "[kafka]") {
  Host host;
  CHECK(host.run() == kDone);
  auto text = host.out.text();
  INFO(text);
  CHECK_THAT(text, Catch::Contains("1 sensors of this host in "));
  CHECK_THAT(text, Catch::Contains("no read_committed and no fencing"));
  CHECK_THAT(text, Catch::Contains("link up"));
  CHECK_THAT(text, Catch::Contains("\nproof: "));
  CHECK_THAT(text, Catch::Contains(" 0 lost, 0 twice ("));
  CHECK_THAT(text, !Catch::Contains("proof: 0 sent"));
  CHECK(text.find('\033') == std::string::npos);
  CHECK(host.errors.text().empty());
  CHECK(std::filesystem::is_empty(host.settings.below));
}

/// Of a source, and not the agent's own word on itself: those alone are in the account.
bool counts(const SeenRecord& record) {
  return std::none_of(record.headers.begin(), record.headers.end(), [](const HeaderView& header) {
    return header.name == "ce_subject" && header.value.starts_with("penstock/");
  });
}

TEST_CASE("a record that the demo's receiver never sees ends it with status 2", "[kafka]") {
  Host host;
  host.settings.on_the_way = [n = 0](const SeenRecord& record, const TopicReader::Take& hand_on) mutable {
    if (!counts(record) || ++n != 20) hand_on(record);
  };
  CHECK(host.run() == kProofFailed);
  CHECK_THAT(host.out.text(), Catch::Contains(" 1 lost, 0 twice ("));
}

TEST_CASE("a record that the demo's receiver gets twice ends it with status 2", "[kafka]") {
  Host host;
  host.settings.on_the_way = [n = 0](const SeenRecord& record, const TopicReader::Take& hand_on) mutable {
    hand_on(record);
    if (!counts(record) || ++n != 20) return;
    auto again = record;
    again.partition += 100;  // in its own partition the rule would skip it
    hand_on(again);
  };
  CHECK(host.run() == kProofFailed);
  CHECK_THAT(host.out.text(), Catch::Contains(" 0 lost, 1 twice ("));
}

TEST_CASE("a record that reaches the demo's receiver with another content ends it with status 2", "[kafka]") {
  Host host;
  host.settings.on_the_way = [n = 0](const SeenRecord& record, const TopicReader::Take& hand_on) mutable {
    auto changed = record;
    if (counts(record) && ++n == 20) changed.value = "{}";
    hand_on(changed);
  };
  CHECK(host.run() == kProofFailed);
  CHECK_THAT(host.out.text(), Catch::Contains("; 1 arrived changed"));
}

TEST_CASE("a demo without a place for its folder says so and ends with status 1") {
  Host host;
  host.settings.below = host.folder.path() / "not there";
  CHECK(host.run() == kFailed);
  CHECK_THAT(host.errors.text(), Catch::Contains("not there: No such file or directory"));
}

/// A demo that a test turns by hand.
struct ByHand {
  explicit ByHand(std::chrono::milliseconds whole = 1s) {
    host.settings.whole = whole;
    auto started = Demo::start(host.settings, clock);
    REQUIRE(started);
    demo = std::move(*started);
  }

  template <class Condition>
  bool turn_until(Condition holds) {
    return wait_until([&] {
      REQUIRE(demo->turn());
      return holds(demo->look());
    });
  }
  Proof prove() {
    demo->close();
    REQUIRE(wait_until([&] { return demo->drained(); }));
    auto proof = demo->finish(20s);
    INFO((proof ? "" : proof.error().what));
    REQUIRE(proof);
    return *proof;
  }

  Host host;
  SystemClock clock;
  std::unique_ptr<Demo> demo;
};

TEST_CASE("while the demo's link is cut records wait in its queue, and reach the receiver when it is back", "[kafka]") {
  ByHand test(4s);
  REQUIRE(test.turn_until([](const DemoSnapshot& now) { return !now.link_up; }));
  REQUIRE(test.turn_until([](const DemoSnapshot& now) { return now.link_up || now.waiting() > 200; }));
  auto during = test.demo->look();
  CHECK(during.waiting() > 200);
  CHECK_FALSE(during.link_up);
  CHECK(test.turn_until([&](const DemoSnapshot& now) { return now.received > during.received + 200; }));
  auto proof = test.prove();
  INFO(proof.line());
  CHECK(proof.holds());
  CHECK(proof.own > 0);
}

TEST_CASE("a demo that is closed while its link is cut puts the link back and proves what was sent", "[kafka]") {
  ByHand test;
  REQUIRE(test.turn_until([](const DemoSnapshot& now) { return !now.link_up && now.waiting() > 10; }));
  auto proof = test.prove();
  INFO(proof.line());
  CHECK(proof.sent > 0);
  CHECK(proof.holds());
  CHECK(test.demo->look().link_up);
}

TEST_CASE("a demo whose queue is not empty proves nothing", "[kafka]") {
  ByHand test;
  REQUIRE(test.turn_until([](const DemoSnapshot& now) { return !now.link_up && now.waiting() > 10; }));
  auto proof = test.demo->finish(1s);  // without closing it: the link is still cut
  REQUIRE_FALSE(proof);
  CHECK_THAT(proof.error().what, Catch::Contains("was not emptied"));
}

}  // namespace demo_test
}  // namespace
}  // namespace penstock
