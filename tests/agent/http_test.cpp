#include "agent/daemon/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <vector>

#include "tests/catch.h"

namespace penstock {
namespace {
namespace http_test {

int connected(const std::string& address) {
  int number = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  timeval limit{20, 0};
  setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  CHECK(connect(number, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
  return number;
}

std::string ask(const std::string& address, const std::string& request) {
  int number = connected(address);
  CHECK(send(number, request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  for (ssize_t got; (got = recv(number, buffer, sizeof buffer, 0)) > 0;) {
    answer.append(buffer, static_cast<std::size_t>(got));
  }
  close(number);
  return answer;
}

std::string get(const std::string& address, const std::string& path, const std::string& method = "GET") {
  return ask(address, method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
}

HttpAnswer echo(std::string_view path) {
  return {path == "/bad" ? 503 : 200, "text/x-test", "at " + std::string(path)};
}

TEST_CASE("the server answers GET with the handler's status, type and body, at the port it says") {
  auto server = HttpServer::open("127.0.0.1:0", echo);
  REQUIRE(server.ok());
  auto answer = get((*server)->address(), "/metrics");
  CHECK_THAT(answer, Catch::StartsWith("HTTP/1.1 200 OK"));
  CHECK_THAT(answer, Catch::Contains("Content-Type: text/x-test"));
  CHECK_THAT(answer, Catch::EndsWith("\r\n\r\nat /metrics"));
  CHECK_THAT(get((*server)->address(), "/bad"), Catch::StartsWith("HTTP/1.1 503"));
}

TEST_CASE("anything but GET and HEAD is refused, and rubbish does not hurt the next request") {
  auto server = HttpServer::open("127.0.0.1:0", echo);
  REQUIRE(server.ok());
  CHECK_THAT(get((*server)->address(), "/", "DELETE"), Catch::StartsWith("HTTP/1.1 405"));
  CHECK_THAT(get((*server)->address(), "/x", "HEAD"), Catch::StartsWith("HTTP/1.1 200") && !Catch::Contains("at /x"));
  ask((*server)->address(), "\x16\x03\x01 no http\r\n\r\n");
  ask((*server)->address(), "GET /" + std::string(100'000, 'a') + " HTTP/1.1\r\nConnection: close\r\n\r\n");
  CHECK_THAT(get((*server)->address(), "/x"), Catch::EndsWith("at /x"));
}

TEST_CASE("a port in use is a transient error that names it; a freed one can be had") {
  auto first = HttpServer::open("127.0.0.1:0", echo);
  REQUIRE(first.ok());
  auto address = (*first)->address();
  auto second = HttpServer::open(address, echo);
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().fault == Fault::transient);
  CHECK_THAT(second.error().what, Catch::Contains(address) && Catch::Contains("in use"));
  first->reset();
  CHECK(HttpServer::open(address, echo).ok());
}

TEST_CASE("what is no address is rejected with its text") {
  for (const char* wrong :
       {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "host:1", "[::1:9", ":9"}) {
    auto opened = HttpServer::open(wrong, echo);
    INFO(wrong);
    REQUIRE_FALSE(opened.ok());
    CHECK(opened.error().fault == Fault::rejected);
  }
}

TEST_CASE("a server with silent connections still ends at once") {
  auto server = HttpServer::open("127.0.0.1:0", echo);
  REQUIRE(server.ok());
  std::vector<int> silent;
  for (int i = 0; i < 5; ++i) silent.push_back(connected((*server)->address()));
  CHECK_THAT(get((*server)->address(), "/x"), Catch::EndsWith("at /x"));
  server->reset();
  for (int number : silent) close(number);
}

}  // namespace http_test
}  // namespace
}  // namespace penstock
