// The real Mosquitto for tests: on a free loopback port, with a folder of its own, stopped by its own process id.
//
// It keeps sessions and queued messages over stop() and start(), as a broker on a server does, and loses them at
// kill().
#pragma once

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/catch.h"

namespace penstock {

class Mosquitto {
 public:
  /// Empty when there is none: the test says SKIPPED then.
  static std::string program() {
    for (const char* path : {"/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"}) {
      if (access(path, X_OK) == 0) return path;
    }
    return {};
  }

  /// `more`: further lines for its configuration file.
  explicit Mosquitto(std::string more = "") : more_(std::move(more)) {
    std::string name = (std::filesystem::temp_directory_path() / "penstock-mosquitto-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    folder_ = name;
    start();
  }
  ~Mosquitto() {
    kill();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  Mosquitto(const Mosquitto&) = delete;
  Mosquitto& operator=(const Mosquitto&) = delete;

  std::uint16_t port() const { return port_; }
  std::string url() const { return "mqtt://127.0.0.1:" + std::to_string(port_); }
  const std::filesystem::path& folder() const { return folder_; }

  /// On the port it had before, if any. Returns once it accepts connections.
  void start() {
    bool first = port_ == 0;
    for (int attempt = 0; attempt < 10; ++attempt) {
      // Somebody may take the port between the look and the start: then try another.
      if (first) port_ = free_port();
      write_configuration();
      spawn();
      if (answers()) return;
      kill();
    }
    FAIL("mosquitto does not start: " + log());
  }
  /// In good order: it writes its sessions and queues down.
  void stop() { end(SIGTERM); }
  void kill() { end(SIGKILL); }

  std::string log() const {
    std::ifstream file(folder_ / "log");
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  static std::uint16_t free_port() {
    int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof name;
    bool bound = bind(probe, reinterpret_cast<sockaddr*>(&name), length) == 0 &&
                 getsockname(probe, reinterpret_cast<sockaddr*>(&name), &length) == 0;
    close(probe);
    REQUIRE(bound);
    return ntohs(name.sin_port);
  }

  void write_configuration() {
    std::ofstream file(folder_ / "mosquitto.conf");
    // A password file without a password: nobody may connect.
    std::ofstream(folder_ / "passwords");
    file << "listener " << port_ << " 127.0.0.1\n"
         << "persistence true\npersistence_location " << folder_.string() << "/\n"
         << "log_dest file " << (folder_ / "log").string() << "\nlog_type all\n"
         << "max_queued_messages 0\nmax_inflight_messages 1000\n";
    // Started by root it would become another user, who may not read this folder.
    if (geteuid() == 0) file << "user root\n";
    if (more_.find("allow_anonymous") == std::string::npos) file << "allow_anonymous true\n";
    for (std::size_t at = 0; at < more_.size();) {
      std::size_t end = std::min(more_.find('\n', at), more_.size());
      std::string line = more_.substr(at, end - at);
      if (std::size_t folder = line.find("{folder}"); folder != std::string::npos)
        line.replace(folder, 8, folder_.string());
      file << line << '\n';
      at = end + 1;
    }
  }

  void spawn() {
    std::string binary = program(), file = (folder_ / "mosquitto.conf").string();
    char option[] = "-c";
    char* arguments[] = {binary.data(), option, file.data(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    int error = posix_spawn(&process_, binary.c_str(), &actions, nullptr, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    REQUIRE(error == 0);
  }

  bool answers() {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < deadline) {
      int status = 0;
      if (waitpid(process_, &status, WNOHANG) == process_) {
        process_ = -1;
        return false;
      }
      int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in name{};
      name.sin_family = AF_INET;
      name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      name.sin_port = htons(port_);
      bool connected = connect(probe, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0;
      close(probe);
      if (connected) return true;
      poll(nullptr, 0, 5);
    }
    return false;
  }

  void end(int signal) {
    if (process_ <= 0) return;
    ::kill(process_, signal);
    for (int i = 0; i < 1'000; ++i) {
      if (waitpid(process_, nullptr, WNOHANG) == process_) {
        process_ = -1;
        return;
      }
      poll(nullptr, 0, 5);
    }
    ::kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    process_ = -1;
  }

  const std::string more_;
  std::filesystem::path folder_;
  std::uint16_t port_ = 0;
  pid_t process_ = -1;
};

}  // namespace penstock
