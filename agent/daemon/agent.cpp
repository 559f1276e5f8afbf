#include "agent/daemon/agent.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <system_error>
#include <utility>

#include "agent/daemon/answers.h"
#include "agent/daemon/service.h"
#include "agent/daemon/state_directory.h"
#include "agent/queue/queue_answers.h"
#include "agent/version.h"
#include "drivers/table.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

constexpr auto kOwnName = "penstock";     // of our own records and notes; no driver may have it
constexpr auto kWriterPatience = 30s;     // a commit on a dying card takes seconds; more is stuck
constexpr auto kForwarderPatience = 30s;  // its longest sleep
constexpr auto kMendingNews = 10s, kMendingPatience = 120s;
constexpr auto kHttpRetry = 10s;
constexpr std::chrono::milliseconds kBatchTime = 10s;
constexpr auto kDrainStore = 3s, kDrainKafka = 3s, kEndDriver = 3s;

/// The lane of our own records: the one that is served last.
std::string own_lane(const Settings& settings) {
  auto last = std::max_element(settings.lanes.begin(), settings.lanes.end(),
                               [](const auto& a, const auto& b) { return a.priority < b.priority; });
  return last == settings.lanes.end() ? "telemetry" : last->name;
}

}  // namespace

StoreSettings store_settings(const Settings& settings) {
  StoreSettings store;
  store.directory = settings.agent.state_directory / "queue";
  store.agent = settings.agent.id;
  store.capacity_bytes = settings.buffer.capacity_bytes;
  store.journal_bytes = settings.buffer.journal_bytes;
  store.max_record_bytes = settings.buffer.max_record_bytes;
  store.compression_level = settings.buffer.compression_level;
  store.when_full = settings.buffer.when_full;
  store.lanes.clear();
  for (const auto& lane : settings.lanes) {
    store.lanes.push_back({lane.name, lane.priority, lane.max_age.value_or(0ms), lane.share / 100});
  }
  return store;
}

/// Notes of the sink, kept in the store's states by the writer's next commits.
class Agent::StoreNotes final : public Notes {
 public:
  StoreNotes(const Store& store, Writer& writer) : store_(store), writer_(writer) {}

  std::optional<std::string> get(std::string_view name) const override {
    if (auto found = set_.find(std::string(name)); found != set_.end()) return found->second;
    auto kept = store_.state(kOwnName, name);
    return kept ? *kept : std::nullopt;
  }
  void set(std::string_view name, std::string value) override {
    set_[std::string(name)] = value;
    writer_.note(kOwnName, {std::string(name), std::move(value)});
  }

 private:
  const Store& store_;
  Writer& writer_;
  std::map<std::string, std::string> set_;  // a note may be on its way to the disk
};

Agent::Agent(const Settings& settings, SinkMaker make_sink, const Clock& clock, DriverWrap wrap)
    : settings_(settings),
      make_sink_(std::move(make_sink)),
      wrap_(std::move(wrap)),
      clock_(clock),
      began_(clock.boottime()) {}

Agent::~Agent() { stop(); }

Result<void> Agent::start() {
  if (auto done = prepare_directory(); !done) return done;
  if (auto done = open_store(); !done) return done;
  start_writer();  // from here on stop() has something to do
  if (auto done = make_sink(); !done) {
    stop();
    return done;
  }
  start_drivers();
  start_forwarder();
  start_http();
  start_control();
  state_ = "running";
  return {};
}

Result<void> Agent::prepare_directory() {
  const auto& directory = settings_.agent.state_directory;
  if (auto prepared = prepare_state_directory(directory); !prepared) return prepared;
  if (auto kind = copy_on_write(directory)) {
    spdlog::warn(
        "state_directory {}: is on {}, which copies what is overwritten: a commit wears flash many times more "
        "than on ext4 (docs/operations.md)",
        directory.string(), *kind);
  }
  return {};
}

Result<void> Agent::open_store() {
  auto with = store_settings(settings_);
  with.progress = [this, last = began_]() mutable {  // a large store on a slow card takes minutes to mend
    if (clock_.boottime() - last < kMendingNews) return;
    last = clock_.boottime();
    spdlog::info("the store is being examined or repaired");
    notify_systemd(fmt::format("EXTEND_TIMEOUT_USEC={}\nSTATUS=examining or repairing the store",
                               std::chrono::microseconds(kMendingPatience).count()));
  };
  auto opened = Store::open(with, clock_);
  if (!opened) return opened.error();
  store_ = std::move(*opened);
  if (const auto& mended = store_->mended()) {
    spdlog::log(mended->outcome == Mended::Outcome::found_whole ? spdlog::level::warn : spdlog::level::err, "{}: {}",
                with.directory.string(), describe(*mended));
  }
  auto found = store_->status();
  if (found.frames_lost != 0) {
    spdlog::error("{}: {} commits in the journal are damaged; the records they held will be told as gaps",
                  with.directory.string(), found.frames_lost);
  }
  if (found.journal_cut_off) {
    spdlog::error(
        "{}: the journal was missing or cut off and has its size again; the last commits that were only there are lost",
        with.directory.string());
  }
  return {};
}

void Agent::start_writer() {
  const auto& buffer = settings_.buffer;
  Writer::Settings writing;
  writing.commit_interval = buffer.commit_interval;
  writing.commit_bytes = buffer.commit_bytes;
  writing.most_bytes = std::max<std::size_t>(buffer.intake_bytes, buffer.commit_bytes);
  disk_ = std::make_unique<StoreDisk>(*store_);
  intake_ = std::make_unique<Intake>(buffer.intake_bytes);
  writer_ = std::make_unique<Writer>(*disk_, *intake_, clock_, writing);
  notes_ = std::make_unique<StoreNotes>(*store_, *writer_);
  writer_thread_ = std::jthread([this](std::stop_token stop) {
    auto ended = writer_->run(stop);
    if (ended) return;
    intake_->close();  // nobody shall wait for room that will never come
    std::lock_guard lock(broken_mutex_);
    broken_ = ended.error();
  });
}

Result<void> Agent::make_sink() {
  auto made = make_sink_({*store_, *notes_, clock_, settings_.agent.status_interval});
  if (!made) return made.error();
  sink_ = std::move(*made);
  return {};
}

void Agent::start_drivers() {
  auto lane = store_->lane(own_lane(settings_));
  own_outlet_ = std::make_unique<DriverOutlet>(
      *intake_, *writer_, *disk_, clock_,
      DriverOutlet::Settings{kOwnName, lane.value_or(Lane{}), settings_.buffer.max_record_bytes});
  put_status();
  supervisor_ = std::make_unique<Supervisor>(clock_, Supervisor::Settings{});
  for (const auto& section : settings_.drivers) start_driver(section);
}

void Agent::start_driver(const DriverSection& section) {
  const DriverType* type = find_driver_type(section.type);
  auto lane = store_->lane(section.lane);
  if (type == nullptr || !lane) {
    spdlog::error("driver {}: not started: {} \"{}\" is not known to this run", section.name,
                  type == nullptr ? "type" : "lane", type == nullptr ? section.type : section.lane);
    return;
  }
  auto outlet =
      std::make_unique<DriverOutlet>(*intake_, *writer_, *disk_, clock_,
                                     DriverOutlet::Settings{section.name, *lane, settings_.buffer.max_record_bytes});
  auto driver = type->make(section);
  if (wrap_) driver = wrap_(section, std::move(driver));
  supervisor_->start(section.name, section.type, std::move(driver), std::move(outlet));
}

void Agent::start_forwarder() {
  Forwarder::Settings sending;
  sending.batch_interval = settings_.kafka.batch_interval;
  sending.limits = {settings_.kafka.batch_records, settings_.kafka.batch_bytes};
  sending.batch_time = std::min(kBatchTime, settings_.kafka.transaction_timeout / 3);
  sending.rate_limit = settings_.kafka.rate_limit;
  Forwarder::Writes writes{[this](const Settlement& settlement, std::stop_token stop) {
                             return writer_->settle(settlement, std::move(stop));
                           },
                           [this](Lane lane, Sequence sequence, const std::string& reason, std::stop_token stop) {
                             return writer_->perform([=, this] { return store_->set_aside(lane, sequence, reason); },
                                                     std::move(stop));
                           }};
  forwarder_ = std::make_unique<Forwarder>(*store_, *sink_.sink, std::move(writes), clock_, sending);
  forwarder_thread_ = std::jthread([this](std::stop_token stop) {
    auto ended = forwarder_->run(stop);
    if (ended) return;
    std::lock_guard lock(broken_mutex_);
    if (!broken_) broken_ = ended.error();
  });
}

void Agent::start_http() {
  http_tried_ = clock_.boottime();
  if (settings_.http.listen == "off") return;
  auto opened =
      HttpServer::open(settings_.http.listen, [this](std::string_view path) { return answer_http(path, status()); });
  if (!opened) {
    const std::string& what = opened.error().what;
    if (what != http_problem_) spdlog::warn("{}; the agent goes on and tries again every 10 s", what);
    http_problem_ = what;
    return;
  }
  http_ = std::move(*opened);
  spdlog::info("http: /metrics, /healthz and /api/status at {}", http_->address());
  std::lock_guard lock(http_address_mutex_);
  http_address_ = http_->address();
}

void Agent::start_control() {
  auto path = control_path(settings_.agent.state_directory);
  // A record of the largest kind, as JSON: each byte may become six.
  std::size_t large_line_bytes = (1 << 20) + 6 * settings_.buffer.max_record_bytes;
  import_desk_ =
      std::make_unique<ImportDesk>(*store_, *intake_, *writer_, *disk_, clock_, settings_.buffer.max_record_bytes);
  auto opened = ControlServer::open(
      path, [this](const std::string& line) { return answer(line); }, large_line_bytes);
  if (opened) {
    control_ = std::move(*opened);
  } else {
    spdlog::warn("{}; `penstock status` and others will not find this agent", opened.error().what);
  }
}

ControlAnswer Agent::answer(const std::string& line) {
  auto command = control_command(line);
  if (changes_queue(command)) {
    auto text = std::make_shared<std::string>();  // written before the request is answered
    auto request = writer_->ask([this, line, text] {
      *text = change_queue(*store_, line);
      return Result<void>();  // were the store broken, the next commit would say so
    });
    return ControlAnswer::Later([this, request, text]() -> std::optional<std::string> {
      auto done = writer_->answer_of(*request);
      if (!done) return std::nullopt;
      return done->ok() ? *text : answer_error(done->error());
    });
  }
  if (command.starts_with("queue.")) return answer_queue(*store_, line);
  if (command.starts_with("import")) return import_desk_->ask(command, line);
  return answer_control(command, status());
}

Result<void> Agent::tick() {
  {
    std::lock_guard lock(broken_mutex_);
    if (broken_) return *broken_;
  }
  supervisor_->tick();
  BootTime now = clock_.boottime();
  for (const auto& line : losses_.due(store_->status().given_up, now)) spdlog::warn("{}", line);
  if (now - status_put_ >= settings_.agent.status_interval) put_status();
  if (!http_ && settings_.http.listen != "off" && now - http_tried_ >= kHttpRetry) start_http();
  return {};
}

/// On stream penstock/status: nobody can scrape a loopback port behind NAT.
void Agent::put_status() {
  status_put_ = clock_.boottime();
  std::vector<Record> records(1);
  records[0].stream = "penstock/status";
  records[0].kind = Kind::event;
  records[0].content_type = "application/json";
  records[0].payload = to_json(status());
  std::vector<StateChange> none;
  if (auto put = own_outlet_->offer(records, none); !put) spdlog::debug("no status record: {}", put.error().what);
}

void Agent::reload(const Settings& settings) {
  auto waits = [](const char* section) {
    spdlog::warn("[{}] changed: this waits for a restart of the agent", section);
  };
  if (settings.agent != settings_.agent) waits("agent");
  if (settings.buffer != settings_.buffer) waits("buffer");
  if (settings.lanes != settings_.lanes) waits("lanes");
  if (settings.kafka != settings_.kafka) waits("kafka");
  if (settings.http != settings_.http) waits("http");

  auto in = [](const std::vector<DriverSection>& sections, const std::string& name) {
    auto found = std::find_if(sections.begin(), sections.end(), [&](const auto& one) { return one.name == name; });
    return found == sections.end() ? nullptr : &*found;
  };
  std::vector<DriverSection> now;
  for (const auto& old : settings_.drivers) {
    const DriverSection* fresh = in(settings.drivers, old.name);
    if (fresh != nullptr && *fresh == old) {
      now.push_back(old);
    } else if (!supervisor_->remove(old.name, kEndDriver)) {
      spdlog::error("driver {}: does not end; it stays as it was until a restart", old.name);
      now.push_back(old);
    } else {
      spdlog::info("driver {}: {}", old.name, fresh == nullptr ? "stopped, no longer configured" : "stopped, changed");
    }
  }
  for (const auto& fresh : settings.drivers) {
    if (in(now, fresh.name) != nullptr) continue;
    start_driver(fresh);
    spdlog::info("driver {}: started", fresh.name);
    now.push_back(fresh);
  }
  settings_.drivers = std::move(now);
}

bool Agent::stop() {
  if (!writer_thread_.joinable()) return true;
  state_ = "stopping";
  // 1. Nothing more comes in; what is in goes to disk, and drivers still acknowledge what became durable.
  if (supervisor_) supervisor_->retire();
  intake_->close();
  auto began = std::chrono::steady_clock::now();
  writer_->durable().wait_for(intake_->accepted(), kDrainStore, {});
  // 2. The drivers end, and Kafka gets what it takes in 3 s.
  if (supervisor_) supervisor_->stop();
  while (forwarder_ && forwarder_->status().connected && !everything_delivered() &&
         std::chrono::steady_clock::now() - began < kDrainKafka) {
    std::this_thread::sleep_for(10ms);
  }
  auto late = supervisor_ ? supervisor_->join(kEndDriver) : std::vector<std::string>();
  for (const auto& name : late) spdlog::error("driver {}: does not end within {} s", name, kEndDriver.count());
  // 3. The forwarder, then the writer with the last marks: from here on all is on disk.
  if (forwarder_thread_.joinable()) {
    forwarder_thread_.request_stop();
    forwarder_thread_.join();
  }
  writer_thread_.request_stop();
  writer_thread_.join();
  for (const auto& line : losses_.rest(store_->status().given_up)) spdlog::warn("{}", line);
  // 4. Nobody looks any more.
  control_.reset();
  http_.reset();
  if (!late.empty()) return false;
  supervisor_.reset();
  return true;
}

bool Agent::everything_delivered() const {
  auto status = store_->status();
  return status.ledger_entries == 0 &&
         std::all_of(status.lanes.begin(), status.lanes.end(), [](const auto& lane) { return lane.records == 0; });
}

std::string Agent::stuck() const {
  BootTime now = clock_.boottime();
  auto turned = now - BootTime(writer_->status().last_turn.load());
  if (turned > kWriterPatience) {
    return fmt::format("the writer has not turned for {} s",
                       std::chrono::duration_cast<std::chrono::seconds>(turned).count());
  }
  return "";
}

bool Agent::alive() const {
  if (!stuck().empty()) return false;
  auto since = forwarder_->status().busy_since.load();
  auto most = 2 * std::max<std::chrono::milliseconds>(settings_.kafka.transaction_timeout, kForwarderPatience);
  return since == 0 || clock_.boottime() - BootTime(since) < most;
}

AgentStatus Agent::status() const {
  AgentStatus now;
  now.agent = settings_.agent.id;
  now.version = version();
  now.state = state_.load();
  now.state_directory = settings_.agent.state_directory.string();
  now.stuck = stuck();
  now.uptime = clock_.boottime() - began_;
  now.synchronised = clock_.synchronised();
  {
    std::lock_guard lock(http_address_mutex_);
    now.http = http_address_;
  }
  now.store = store_->status();
  if (const auto& mended = store_->mended()) now.mended = describe(*mended);
  const auto& writer = writer_->status();
  now.writer_turned = clock_.boottime() - BootTime(writer.last_turn.load());
  now.writer_commits = writer.commits;
  now.writer_records = writer.records;
  now.waiting_for_room = writer.waiting_for_room;
  now.intake_bytes = intake_->bytes();
  now.intake_capacity = intake_->capacity_bytes();
  now.puts_accepted = intake_->accepted();
  now.puts_durable = writer_->durable().value();
  if (forwarder_) {
    const auto& forwarder = forwarder_->status();
    now.connected = forwarder.connected;
    now.sent_commits = forwarder.commits;
    now.sent_records = forwarder.records;
    now.sent_gaps = forwarder.gaps;
    now.resumes = forwarder.resumes;
    now.failures = forwarder.failures;
    now.forks = forwarder.forks;
    now.checkpoints_behind = forwarder.checkpoints_behind;
    now.carried_out_in_part = forwarder.carried_out_in_part;
    now.batch_bytes = forwarder.batch_bytes;
    if (auto since = forwarder.busy_since.load(); since != 0) now.forwarder_busy = clock_.boottime() - BootTime(since);
  }
  if (sink_.view) now.sink = sink_.view();
  if (supervisor_) now.drivers = supervisor_->status();
  return now;
}

}  // namespace penstock
