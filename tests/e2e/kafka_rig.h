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
  explicit KafkaRig(const std::string& version = "4", int brokers = 1) {
    auto [status, text] = call("start --version " + version + " --brokers " + std::to_string(brokers) + " --owner " +
                               std::to_string(getpid()) + " " + folder_.path().string());
    if (status != 0) {
      why_not = text.empty() ? "the rig ended with status " + std::to_string(status) : text;
    } else {
      bootstrap = text;
    }
  }
  ~KafkaRig() {
    if (!why_not) call("stop " + folder_.path().string());
  }
  KafkaRig(const KafkaRig&) = delete;
  KafkaRig& operator=(const KafkaRig&) = delete;

  void kill(int broker) { call("kill " + folder_.path().string() + " " + std::to_string(broker)); }
  void restart(int broker) { call("restart " + folder_.path().string() + " " + std::to_string(broker)); }

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

  TempDir folder_;
};

}  // namespace penstock
