// bench_mqtt: the load and the limit of the MQTT part.
//
//   bench_mqtt publish HOST PORT TOPIC COUNT BYTES [RATE]   QoS 1 as fast as the broker takes it, or RATE a second; each
//                                                           payload begins with its send time in nanoseconds
//   bench_mqtt count   HOST PORT TOPIC COUNT                a bare Paho C++ callback that counts, QoS 1, MQTT 5, window 5,000
//
// Prints facts (measure.h); times are on the monotonic clock, so those of two processes can be compared.
#include <fmt/core.h>
#include <mqtt/async_client.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/bench/measure.h"

namespace penstock::bench {
namespace {

// --- publish: MQTT 3.1.1 on a plain socket, because no library publishes faster than it takes to count

class Publisher {
 public:
  Publisher(const std::string& host, const std::string& port) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) give_up("no such host: " + host);
    socket_ = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(socket_, found->ai_addr, found->ai_addrlen) != 0)
      give_up(fmt::format("{}:{}: {}", host, port, std::strerror(errno)));
    freeaddrinfo(found);
    int on = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const std::string name = fmt::format("bench-{}", getpid());
    std::string body = std::string("\0\4MQTT\4\2\0\0", 10);  // protocol level 4, clean session, no keep-alive
    body += static_cast<char>(name.size() >> 8);
    body += static_cast<char>(name.size());
    body += name;
    out_ = std::string("\x10") + static_cast<char>(body.size()) + body;
    drain();
    char answer[4];
    if (recv(socket_, answer, 4, MSG_WAITALL) != 4 || answer[0] != 0x20 || answer[3] != 0)
      give_up("the broker refuses the publisher");
  }
  ~Publisher() { close(socket_); }
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  void publish(const std::string& topic, const std::string& payload) {
    std::size_t length = 2 + topic.size() + 2 + payload.size();
    out_ += '\x32';  // QoS 1
    for (std::size_t rest = length; true; rest >>= 7) {
      out_ += static_cast<char>(rest >= 0x80 ? (rest & 0x7f) | 0x80 : rest);
      if (rest < 0x80) break;
    }
    out_ += static_cast<char>(topic.size() >> 8);
    out_ += static_cast<char>(topic.size());
    out_ += topic;
    id_ = id_ == 65535 ? 1 : id_ + 1;
    out_ += static_cast<char>(id_ >> 8);
    out_ += static_cast<char>(id_);
    out_ += payload;
    ++sent_;
    if (out_.size() >= 32 << 10 || sent_ - acknowledged() > 4'000) drain();
    while (sent_ - acknowledged() > 8'000) wait_for_acknowledgements();
  }

  void drain() {
    while (!out_.empty()) {
      pollfd watched{socket_, POLLOUT | POLLIN, 0};
      if (poll(&watched, 1, 30'000) <= 0) give_up("the broker takes nothing for 30 s");
      if (watched.revents & POLLIN && id_ != 0) take();
      if (!(watched.revents & POLLOUT)) continue;
      auto written = send(socket_, out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (written < 0 && errno == EAGAIN) continue;
      if (written < 0) give_up(fmt::format("publisher: {}", std::strerror(errno)));
      out_.erase(0, static_cast<std::size_t>(written));
    }
  }
  void finish() {
    drain();
    while (acknowledged() < sent_) wait_for_acknowledgements();
  }

 private:
  std::uint64_t acknowledged() const { return bytes_in_ / 4; }  // a PUBACK is four bytes, and nothing else comes
  void wait_for_acknowledgements() {
    drain();
    pollfd watched{socket_, POLLIN, 0};
    if (poll(&watched, 1, 30'000) <= 0) give_up("the broker acknowledges nothing for 30 s");
    take();
  }
  void take() {
    char bytes[65536];
    auto got = recv(socket_, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) give_up("the broker closed the publisher's connection");
    if (got > 0) bytes_in_ += static_cast<std::uint64_t>(got);
  }

  int socket_ = -1;
  std::string out_;
  unsigned id_ = 0;
  std::uint64_t sent_ = 0, bytes_in_ = 0;
};

void publish(const std::string& host, const std::string& port, const std::string& topic, std::uint64_t count,
             std::size_t size, double rate) {
  Publisher publisher(host, port);
  std::string payload(std::max<std::size_t>(size, 24), 'x');
  double began = now();
  for (std::uint64_t i = 0; i < count; ++i) {
    if (rate > 0) {
      double due = began + static_cast<double>(i) / rate;
      if (now() < due) {
        publisher.drain();
        while (now() < due) usleep(200);
      }
    }
    auto text = fmt::format("{:020} ", static_cast<std::uint64_t>(now() * 1e9));
    std::copy(text.begin(), text.end(), payload.begin());
    publisher.publish(topic, payload);
  }
  publisher.finish();
  fact("published", {{"count", count}, {"began", began}, {"ended", now()}, {"cpu", cpu()}});
}

// --- count

struct Counter : mqtt::callback {
  std::atomic<std::uint64_t> count{0};
  std::atomic<double> first{0}, last{0};
  std::uint64_t wanted = 0;
  void message_arrived(mqtt::const_message_ptr) override {
    auto value = ++count;
    if (value == 1) first = now();
    if (value == wanted) last = now();
  }
};

void count(const std::string& host, const std::string& port, const std::string& topic, std::uint64_t wanted) {
  mqtt::async_client client("tcp://" + host + ":" + port, "bench-count", mqtt::create_options(MQTTVERSION_5));
  Counter counter;
  counter.wanted = wanted;
  client.set_callback(counter);
  mqtt::properties properties;
  properties.add({mqtt::property::RECEIVE_MAXIMUM, 5'000});
  auto options =
      mqtt::connect_options_builder().mqtt_version(MQTTVERSION_5).clean_start(true).properties(properties).finalize();
  client.connect(options)->wait();
  client.subscribe(topic, 1)->wait();
  fact("ready", nlohmann::json::object());
  double cpu_before = cpu();
  for (double until = now() + 300; counter.last == 0 && now() < until;) usleep(2'000);
  if (counter.last == 0) give_up(fmt::format("only {} of {} messages arrived", counter.count.load(), wanted));
  fact("counted", {{"count", counter.count.load()},
                   {"first", counter.first.load()},
                   {"last", counter.last.load()},
                   {"cpu", cpu() - cpu_before}});
  client.disconnect()->wait();
}

void main_of(const std::vector<std::string>& words) {
  if (words.at(0) == "publish") {
    return publish(words.at(1), words.at(2), words.at(3), std::stoull(words.at(4)), std::stoull(words.at(5)),
                   words.size() > 6 ? std::stod(words.at(6)) : 0);
  }
  if (words.at(0) == "count") return count(words.at(1), words.at(2), words.at(3), std::stoull(words.at(4)));
  give_up("no such command: " + words.at(0));
}

}  // namespace
}  // namespace penstock::bench

int main(int count, char** words) {
  try {
    penstock::bench::main_of({words + 1, words + count});
  } catch (const std::exception& wrong) {
    fmt::print(stderr, "bench: {}\n", wrong.what());
    return 1;
  }
}
