#include "agent/demo/demo.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <system_error>
#include <thread>
#include <utility>

#include "agent/daemon/kafka.h"
#include "drivers/simulator.h"
#include "drivers/sysfs.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

constexpr auto kAgent = "demo";
constexpr auto kTopic = "penstock.telemetry";
constexpr int kPartitions = 4;
constexpr std::size_t kBacklogSteps = 120;

/// Of the whole process; 0 if the kernel does not say.
std::uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  if (!(file >> total >> resident)) return 0;
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

SysfsSettings host_sensors(const std::filesystem::path& root) {
  SysfsSettings host;
  host.root = root;
  host.interval = 1s;
  return host;
}

DriverSection section_of(std::string name, std::string type, AnySettings settings) {
  DriverSection section;
  section.name = std::move(name);
  section.type = std::move(type);
  section.agent = kAgent;
  section.settings = std::move(settings);
  return section;
}

Settings make_settings(const DemoSettings& demo, const std::filesystem::path& folder, const std::string& bootstrap) {
  Settings settings;
  settings.agent.id = kAgent;
  settings.agent.state_directory = folder;
  settings.agent.status_interval = 10s;
  settings.buffer.capacity_bytes = 64 << 20;
  settings.http.listen = "off";
  settings.kafka.brokers = {bootstrap};
  settings.kafka.batch_interval = 250ms;
  settings.kafka.batch_records = 5'000;  // a drained backlog comes in slices that the stand-in can hold
  // Longer than any cut: the stand-in shows what was aborted, even a checkpoint, so nothing had better be aborted.
  settings.kafka.transaction_timeout = 3min;
  settings.kafka.properties = {{"reconnect.backoff.ms", "100"}, {"reconnect.backoff.max.ms", "500"}};

  SimulatorSettings simulator;
  simulator.sensors = static_cast<std::uint32_t>(demo.sensors);
  simulator.rate = demo.rate;
  settings.drivers.push_back(section_of("simulator", "simulator", AnySettings::of<SimulatorSettings>(simulator)));
  return settings;
}

}  // namespace

Result<std::unique_ptr<DemoFolder>> DemoFolder::make(const std::filesystem::path& below) {
  const char* told = std::getenv("TMPDIR");
  auto parent = !below.empty() ? below : std::filesystem::path(told != nullptr && *told != '\0' ? told : "/tmp");
  std::string name = (parent / "penstock-demo-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) {
    auto why = std::generic_category().message(errno);
    return rejected(fmt::format("no folder can be made in {}: {} ($TMPDIR says where)", parent.string(), why));
  }
  return std::unique_ptr<DemoFolder>(new DemoFolder(name));
}

DemoFolder::~DemoFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Demo::Demo(const DemoSettings& settings, const Clock& clock)
    : settings_(settings), clock_(clock), timetable_(settings.whole) {}

Demo::~Demo() {
  set_link(true);  // what ends should not have to wait for brokers that are down
}

Result<std::unique_ptr<Demo>> Demo::start(const DemoSettings& settings, const Clock& clock) {
  std::unique_ptr<Demo> demo(new Demo(settings, clock));
  auto folder = DemoFolder::make(settings.below);
  if (!folder) return folder.error();
  demo->folder_ = std::move(*folder);
  if (auto done = demo->start_cluster(); !done) return done.error();
  if (auto done = demo->start_receiver(); !done) return done.error();
  if (auto done = demo->start_agent(); !done) return done.error();
  demo->began_ = clock.boottime();
  return demo;
}

Result<void> Demo::start_cluster() {
  auto cluster = MockCluster::start();
  if (!cluster) return cluster.error();
  cluster_ = std::move(*cluster);
  cluster_->create_topic(kTopic, kPartitions);
  agent_settings_ = make_settings(settings_, folder_->path(), cluster_->bootstrap());
  return {};
}

Result<void> Demo::start_receiver() {
  auto reader = TopicReader::open({agent_settings_.kafka, {{kTopic, kPartitions}}});
  if (!reader) return reader.error();
  receiver_ = std::make_unique<Receiver>(std::move(*reader), account_, settings_.on_the_way);
  return {};
}

Result<void> Demo::start_agent() {
  auto host = host_sensors(settings_.sys_root);
  if (discover_sysfs(host.root, host.discover).empty()) {
    host_files_ = "this host shows no sensors in " + host.root.string();
    SysfsPoint counter{"class/net/lo/statistics/rx_bytes", "net/lo/rx_bytes", 1, 0, "By"};
    std::error_code ignored;
    if (std::filesystem::exists(host.root / counter.path, ignored)) {
      host.points.push_back(counter);
      host_files_ += "; the byte counter of its loopback interface stands in";
    }
  } else {
    host_files_ = fmt::format("{} sensors of this host in {}, read once a second",
                              discover_sysfs(host.root, host.discover).size(), host.root.string());
  }
  if (!host.points.empty() || !discover_sysfs(host.root, host.discover).empty()) {
    agent_settings_.drivers.push_back(section_of("host", "sysfs", AnySettings::of<SysfsSettings>(host)));
  }

  // The stand-in has no admin requests, by which the sink looks after its own topics.
  auto make_sink = kafka_sink({kAgent, agent_settings_.kafka, false});
  auto through_the_tap = [this](const DriverSection& section, std::unique_ptr<Driver> driver) {
    return tap_.wrap(section.name, std::move(driver));
  };
  agent_ = std::make_unique<Agent>(agent_settings_, make_sink, clock_, through_the_tap);
  return agent_->start();
}

std::vector<std::string> Demo::introduction() const {
  std::chrono::milliseconds cut{0};
  for (const auto& one : timetable_.cuts()) cut += one.to - one.from;
  return {
      fmt::format("{} simulated sensors, {} readings a second; {}.", settings_.sensors, settings_.rate, host_files_),
      fmt::format("The queue is on disk, in {}; the link is cut {} times, for {:.1f} s in all.",
                  folder_->path().string(), timetable_.cuts().size(), std::chrono::duration<double>(cut).count()),
      "In place of Kafka: librdkafka's mock cluster in this process. It has no read_committed and no fencing:",
      "the proof of exactly once on a real Kafka is `./dev test e2e`.",
  };
}

std::chrono::milliseconds Demo::now() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(clock_.boottime() - began_);
}

void Demo::set_link(bool up) {
  if (!cluster_ || up == link_up_) return;
  link_up_ = up;
  if (up) {
    cluster_->set_up(1);
  } else {
    cluster_->set_down(1);
  }
}

Result<bool> Demo::turn() {
  auto at = now();
  if (!closing_) {
    set_link(timetable_.up(at));
    if (auto turned = agent_->tick(); !turned) return turned.error();
  }
  return at < timetable_.whole();
}

void Demo::close() {
  closing_ = true;
  tap_.close();
  set_link(true);
}

bool Demo::drained() const { return tap_.closed() && agent_->everything_delivered(); }

Result<Proof> Demo::finish(std::chrono::milliseconds most) {
  auto end = std::chrono::steady_clock::now() + most;
  bool was_drained = drained();
  set_link(true);  // librdkafka's question for an end of a topic cannot be stopped while nobody answers
  agent_->stop();
  auto store = agent_->status().store;
  if (!was_drained) {
    std::uint64_t waiting = 0;
    for (const auto& lane : store.lanes) waiting += lane.records;
    return transient(fmt::format("the queue was not emptied: {} records wait in it", waiting));
  }
  if (account_.so_far().sent == 0) return transient("no sensor handed anything over");
  receiver_->ask_for_end();
  while (!receiver_->at_end()) {
    if (std::chrono::steady_clock::now() >= end) {
      return transient("the receiver could not read to the end of the topic");
    }
    std::this_thread::sleep_for(10ms);
  }
  Positions durable;
  for (const auto& lane : store.lanes) durable[lane.name] = lane.durable;
  return account_.proof(kAgent, store.epoch, durable);
}

void Demo::sample(std::chrono::milliseconds at, std::uint64_t waiting) {
  auto books = account_.so_far();
  samples_.push_back({at, books.sent, books.received});
  while (samples_.size() > 2 && samples_[1].at + 2s <= at) samples_.pop_front();
  auto whole = std::max<std::int64_t>(timetable_.whole().count(), 1);
  auto step = static_cast<std::size_t>(
      std::clamp<std::int64_t>(at.count() * std::int64_t{kBacklogSteps} / whole, 0, std::int64_t{kBacklogSteps} - 1));
  if (backlog_.size() <= step) backlog_.resize(step + 1, waiting);
  backlog_[step] = std::max(backlog_[step], waiting);
}

DemoSnapshot Demo::look() {
  auto status = agent_->status();
  auto books = account_.so_far();
  DemoSnapshot snapshot;
  snapshot.stage = closing_ ? DemoSnapshot::Stage::emptying : DemoSnapshot::Stage::running;
  snapshot.at = now();
  snapshot.link_up = link_up_;
  for (const auto& lane : status.store.lanes) {
    snapshot.lanes.push_back({lane.name, lane.durable.value(), lane.delivered.value(), lane.records});
  }
  for (const auto& driver : status.drivers) {
    snapshot.drivers.push_back(
        {driver.name, driver.failed ? driver.last_error : driver.outlet.state, driver.outlet.records});
  }
  snapshot.sent = books.sent;
  snapshot.received = books.received;
  snapshot.own = books.own;
  snapshot.repeats = books.repeats;
  sample(snapshot.at, snapshot.waiting());
  auto span = std::chrono::duration<double>(samples_.back().at - samples_.front().at).count();
  if (span > 0) {
    snapshot.sent_rate = static_cast<double>(samples_.back().sent - samples_.front().sent) / span;
    snapshot.received_rate = static_cast<double>(samples_.back().received - samples_.front().received) / span;
  }
  snapshot.backlog = backlog_;
  snapshot.stored_bytes = status.store.used_pages * status.store.page_bytes;
  snapshot.capacity_bytes = status.store.capacity_pages * status.store.page_bytes;
  snapshot.memory_bytes = resident_bytes();
  return snapshot;
}

}  // namespace penstock
