#include "agent/daemon/control.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "tests/agent/wait_until.h"
#include "tests/catch.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace control_test {

struct Caller {
  explicit Caller(const std::filesystem::path& path) {
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    std::strcpy(to.sun_path, path.c_str());
    timeval limit{20, 0};
    setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    REQUIRE(connect(number, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
  }
  ~Caller() { close(number); }
  bool say(const std::string& text) const {
    return send(number, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
  }
  std::string hear(std::size_t bytes) const {
    std::string heard;
    char byte;
    while (heard.size() < bytes && recv(number, &byte, 1, 0) == 1) heard += byte;
    return heard;
  }
  int number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
};

struct Room {
  Room() {
    auto opened = ControlServer::open(path, [](const std::string& line) { return "<" + line + ">"; });
    REQUIRE(opened.ok());
    server = std::move(*opened);
  }
  TempDir dir;
  std::filesystem::path path = dir.path() / "control.sock";
  std::unique_ptr<ControlServer> server;
};

TEST_CASE("a line is answered by a line, as often as one asks") {
  Room room;
  CHECK(*ask_control(room.path, "hello") == "<hello>");
  Caller caller(room.path);
  caller.say("one\ntwo\nthr");
  CHECK(caller.hear(12) == "<one>\n<two>\n");
  caller.say("ee\n");
  CHECK(caller.hear(8) == "<three>\n");
}

TEST_CASE("an answer larger than a socket's buffer arrives whole") {
  TempDir dir;
  std::string large(3 << 20, 'x');
  auto server = ControlServer::open(dir.path() / "s", [&](const std::string&) { return large; });
  REQUIRE(server.ok());
  auto answer = ask_control(dir.path() / "s", "?");
  REQUIRE(answer.ok());
  CHECK(*answer == large);
}

TEST_CASE("a line without end is cut off, and others are still answered") {
  Room room;
  Caller endless(room.path);
  std::string piece(32 << 10, 'a');
  int pieces = 0;
  while (pieces < 64 && endless.say(piece)) ++pieces;
  CHECK(pieces < 64);  // what a socket's buffers hold besides is far less
  CHECK(*ask_control(room.path, "hello") == "<hello>");
}

TEST_CASE("a large line is taken where that is allowed, from one peer at a time") {
  TempDir dir;
  auto count = [](const std::string& line) { return std::to_string(line.size()); };
  auto server = ControlServer::open(dir.path() / "s", count, 2 << 20);
  REQUIRE(server.ok());
  Caller first(dir.path() / "s"), second(dir.path() / "s");
  std::string half(100 << 10, 'a'), much(3 << 19, 'b');  // much more than a socket's buffers hold
  CHECK(first.say(half));
  CHECK(*ask_control(dir.path() / "s", "x") == "1");  // so the first one's is being read
  std::atomic<bool> said{false};
  std::thread other([&] { said = second.say(much + "\n"); });
  for (int i = 0; i < 300; ++i) CHECK(*ask_control(dir.path() / "s", std::string(1000, 'c')) == "1000");
  CHECK_FALSE(said);
  CHECK(first.say(half + "\n"));
  CHECK(first.hear(7) == "204800\n");
  CHECK(second.hear(8) == "1572864\n");
  other.join();
  CHECK(said);
  auto large = ask_control(dir.path() / "s", std::string(2 << 20, 'c'));
  REQUIRE(large.ok());
  CHECK(*large == "2097152");
  CHECK_FALSE(ask_control(dir.path() / "s", std::string(3 << 20, 'd')).ok());
}

TEST_CASE("an answer that comes later keeps nobody else waiting, and is not lost with its peer") {
  TempDir dir;
  std::atomic<bool> ready{false};
  std::atomic<int> calls{0};
  auto server = ControlServer::open(dir.path() / "s", [&](const std::string& line) -> ControlAnswer {
    if (line != "wait") return "<" + line + ">";
    return ControlAnswer::Later([&]() -> std::optional<std::string> {
      ++calls;
      return ready ? std::optional<std::string>("<at last>") : std::nullopt;
    });
  });
  REQUIRE(server.ok());
  Caller patient(dir.path() / "s");
  patient.say("wait\nmore\n");
  {
    Caller gone(dir.path() / "s");
    gone.say("wait\n");
    CHECK(wait_until([&] { return calls > 3; }));
  }
  CHECK(*ask_control(dir.path() / "s", "hello") == "<hello>");
  ready = true;
  CHECK(patient.hear(17) == "<at last>\n<more>\n");
  CHECK(*ask_control(dir.path() / "s", "hello") == "<hello>");
}

TEST_CASE("more callers than are served at once wait for a place") {
  Room room;
  std::vector<std::unique_ptr<Caller>> callers;
  for (int i = 0; i < 16; ++i) {
    callers.push_back(std::make_unique<Caller>(room.path));
    callers.back()->say("x\n");
    CHECK(callers.back()->hear(4) == "<x>\n");
  }
  Caller late(room.path);
  late.say("y\n");
  callers.clear();
  CHECK(late.hear(4) == "<y>\n");
}

TEST_CASE("the socket's file is for owner and group, replaces a stale one, and goes with the server") {
  Room room;
  struct stat is {};
  REQUIRE(stat(room.path.c_str(), &is) == 0);
  CHECK((is.st_mode & 0777) == 0660);
  room.server.reset();
  CHECK_FALSE(std::filesystem::exists(room.path));
  std::ofstream(room.path) << "left by a crash";
  auto again = ControlServer::open(room.path, [](const std::string& line) { return line; });
  REQUIRE(again.ok());
  CHECK(*ask_control(room.path, "x") == "x");
}

TEST_CASE("nobody there, no folder and a path too long are errors that say so") {
  TempDir dir;
  CHECK_THAT(ask_control(dir.path() / "none", "x").error().what, Catch::Contains("no agent answers at"));
  auto handler = [](const std::string& line) { return line; };
  CHECK_FALSE(ControlServer::open(dir.path() / "missing/sock", handler).ok());
  auto too_long = ControlServer::open(dir.path() / std::string(200, 'x'), handler);
  REQUIRE_FALSE(too_long.ok());
  CHECK_THAT(too_long.error().what, Catch::Contains("at most 107"));
}

}  // namespace control_test
}  // namespace
}  // namespace penstock
