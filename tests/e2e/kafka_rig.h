// KafkaRig: a real Kafka for one test binary, by tests/e2e/kafka/rig. Gone with this process, however it ends.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <optional>
#include <string>

#include "tests/fakes/temp_dir.h"

namespace penstock {

class KafkaRig {
 public:
  /// `why_not` is set when there is none to be had.
  explicit KafkaRig(const std::string& version = "4", int brokers = 1, const std::string& options = "") {
    auto [status, text] = call("start --version " + version + " --brokers " + std::to_string(brokers) + " --owner " +
                               std::to_string(getpid()) + " " + options + " " + path());
    if (status != 0) {
      why_not = text.empty() ? "the rig ended with status " + std::to_string(status) : text;
    } else {
      bootstrap = text;
    }
  }
  ~KafkaRig() {
    if (!why_not) call("stop " + path());
  }
  KafkaRig(const KafkaRig&) = delete;
  KafkaRig& operator=(const KafkaRig&) = delete;

  void kill(int broker) { call("kill " + path() + " " + std::to_string(broker)); }
  void restart(int broker) { call("restart " + path() + " " + std::to_string(broker)); }
  /// Of one started with --secure: where its listener with that name is, and what is needed to connect to it.
  std::string bootstrap_of(const std::string& listener) { return call("bootstrap " + path() + " " + listener).second; }
  std::string credential(const std::string& name) const { return path() + "/tls/" + name; }

  std::optional<std::string> why_not;
  std::string bootstrap;

 private:
  /// Exit status and the first line of what it said.
  static std::pair<int, std::string> call(const std::string& words) {
    std::FILE* pipe = popen((std::string(PENSTOCK_RIG) + " " + words + " 2>&1").c_str(), "r");
    if (pipe == nullptr) return {-1, "the rig could not be run"};
    std::string text;
    char part[512];
    while (std::fgets(part, sizeof part, pipe) != nullptr) text += part;
    int status = pclose(pipe);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) text = text.substr(0, text.find('\n'));
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text};
  }

  std::string path() const { return folder_.path().string(); }

  TempDir folder_;
};

}  // namespace penstock
