// Demo: the whole path on embedded defaults. The real agent with its store on disk, simulated sensors and the host's own,
// a mock cluster in place of Kafka, a link that is cut and restored, and at the end the proof.
//
// Threads: everything here from one thread; the agent's, the receiver's and librdkafka's are their own.
// It lives in a folder of its own below the system's for temporary files, which is gone when the object is.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/daemon/agent.h"
#include "agent/demo/account.h"
#include "agent/demo/receiver.h"
#include "agent/demo/tap.h"
#include "agent/demo/timetable.h"
#include "agent/demo/view.h"
#include "agent/kafka/mock_cluster.h"
#include "buffer/clock.h"

namespace penstock {

struct DemoSettings {
  std::chrono::milliseconds whole{30'000};
  int sensors = 20;
  int rate = 250;                           // readings a second of all simulated sensors together
  std::filesystem::path below;              // where the folder is made; empty: $TMPDIR or /tmp
  std::filesystem::path sys_root = "/sys";  // where the host's own sensors are
  Receiver::OnTheWay on_the_way;            // a test's, to break the proof
};

/// A folder for this run only.
class DemoFolder {
 public:
  static Result<std::unique_ptr<DemoFolder>> make(const std::filesystem::path& below);
  ~DemoFolder();
  DemoFolder(const DemoFolder&) = delete;
  DemoFolder& operator=(const DemoFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit DemoFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

class Demo {
 public:
  /// `clock` outlives it.
  static Result<std::unique_ptr<Demo>> start(const DemoSettings& settings, const Clock& clock);
  ~Demo();
  Demo(const Demo&) = delete;
  Demo& operator=(const Demo&) = delete;

  const Timetable& timetable() const { return timetable_; }
  /// What it reads and where it lives, a sentence a line.
  std::vector<std::string> introduction() const;

  /// Ten times a second or so: follows the timetable. False when the time is over. `broken`: the agent cannot go on.
  Result<bool> turn();
  DemoSnapshot look();

  /// Turns the sensors off and the link on.
  void close();
  /// After close(): true once every sensor is off, and everything is in Kafka as far as the agent knows.
  bool drained() const;
  /// Ends the agent and waits for the receiver to have read everything, at most `most`; then the books are closed.
  /// `transient`: the proof could not be made, and why.
  Result<Proof> finish(std::chrono::milliseconds most);
  /// As the books stand now.
  Proof so_far() const { return account_.so_far(); }

 private:
  Demo(const DemoSettings& settings, const Clock& clock);
  Result<void> start_cluster();
  Result<void> start_agent();
  Result<void> start_receiver();
  void set_link(bool up);
  std::chrono::milliseconds now() const;
  void sample(std::chrono::milliseconds at, std::uint64_t waiting);

  const DemoSettings settings_;
  const Clock& clock_;
  const Timetable timetable_;
  BootTime began_{};
  bool link_up_ = true;
  bool closing_ = false;
  std::string host_files_;  // what there is to read of the host, in words

  struct Sample {
    std::chrono::milliseconds at;
    std::uint64_t sent, received;
  };
  std::deque<Sample> samples_;          // of the last seconds, for rates
  std::vector<std::uint64_t> backlog_;  // one for each step of the timetable so far

  // In the order they are made; they end the other way round.
  std::unique_ptr<DemoFolder> folder_;
  Account account_;
  Tap tap_{account_};
  std::unique_ptr<MockCluster> cluster_;
  std::unique_ptr<Receiver> receiver_;
  Settings agent_settings_;
  std::unique_ptr<Agent> agent_;
};

}  // namespace penstock
