// Agent: the whole program put together: store, writer, drivers, forwarder, HTTP, control socket. `run` and `demo` start
// one, and so do tests with a sink of their own.
//
// Threads: everything here from one thread, but status() from any. start() once; then tick() about once a second; then
// stop(). A crash at any instant is correct: what was durable is there at the next start.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "agent/daemon/control.h"
#include "agent/daemon/http.h"
#include "agent/daemon/loss_log.h"
#include "agent/daemon/outlet.h"
#include "agent/daemon/status.h"
#include "agent/daemon/supervisor.h"
#include "agent/daemon/writer.h"
#include "agent/forward/forwarder.h"
#include "agent/kafka/notes.h"
#include "agent/queue/import_desk.h"
#include "buffer/clock.h"
#include "buffer/intake.h"
#include "buffer/store.h"
#include "config/settings.h"

namespace penstock {

/// What the agent of these settings opens.
StoreSettings store_settings(const Settings& settings);

/// What a sink is made of.
struct SinkParts {
  const Store& store;
  Notes& notes;
  const Clock& clock;
  std::chrono::milliseconds status_interval;  // an agent with a link writes a checkpoint at least so often
};
struct MadeSink {
  std::unique_ptr<Sink> sink;
  std::function<SinkView()> view;  // any thread; may be empty
};
using SinkMaker = std::function<Result<MadeSink>(const SinkParts& parts)>;

/// Takes the driver that was made for a section and gives the one that runs: `demo` puts its own around it. Empty: as made.
using DriverWrap = std::function<std::unique_ptr<Driver>(const DriverSection& section, std::unique_ptr<Driver> made)>;

class Agent {
 public:
  /// `clock` outlives it.
  Agent(const Settings& settings, SinkMaker make_sink, const Clock& clock, DriverWrap wrap = {});
  /// As stop() would, if that was not called.
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  /// Opens the store and starts everything, in the order of the steps in agent.cpp. An error: nothing runs, and what
  /// is on disk was not touched, unless the store says so.
  Result<void> start();

  /// Status record, HTTP that could not start, drivers that are well again. An error: writer or forwarder cannot trust
  /// the store any more; stop, and end the process.
  Result<void> tick();

  /// What changed in the configuration: drivers whose section changed stop, start or start anew. Whatever else changed
  /// is named in the log and waits for a restart.
  void reload(const Settings& settings);

  /// Closes the Intake, commits what is in it, gives Kafka at most 3 s, ends every thread. False: a driver's thread
  /// does not end; the process has to end without it (everything is on disk).
  bool stop();

  AgentStatus status() const;
  /// Why writer or store make no progress, for /healthz; empty: they do. Kafka away is no reason.
  std::string stuck() const;
  /// True while the watchdog may be fed: not stuck, and the forwarder's present call or sleep is no older than twice
  /// the transaction timeout.
  bool alive() const;
  /// Kafka has, or was told to be lost, all that is on disk.
  bool everything_delivered() const;

 private:
  class StoreNotes;
  Result<void> prepare_directory();
  Result<void> open_store();
  void start_writer();
  Result<void> make_sink();
  void start_drivers();
  void start_forwarder();
  void start_http();
  void start_control();
  ControlAnswer answer(const std::string& line);
  void start_driver(const DriverSection& section);
  void put_status();

  Settings settings_;
  const SinkMaker make_sink_;
  const DriverWrap wrap_;
  const Clock& clock_;
  const BootTime began_;
  std::atomic<const char*> state_{"starting"};

  // In the order they are made; they end the other way round.
  std::unique_ptr<Store> store_;
  std::unique_ptr<StoreDisk> disk_;
  std::unique_ptr<Intake> intake_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<StoreNotes> notes_;
  MadeSink sink_;
  std::unique_ptr<Forwarder> forwarder_;
  std::unique_ptr<DriverOutlet> own_outlet_;
  std::unique_ptr<ImportDesk> import_desk_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<ControlServer> control_;
  mutable std::mutex http_address_mutex_;
  std::string http_address_;
  std::string http_problem_;
  BootTime http_tried_{}, status_put_{};
  LossLog losses_;

  mutable std::mutex broken_mutex_;
  std::optional<Error> broken_;
  std::jthread writer_thread_, forwarder_thread_;
};

}  // namespace penstock
