#include "agent/daemon/supervisor.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <nlohmann/json.hpp>
#include <utility>

namespace penstock {

const char* name_of(DriverState state) {
  switch (state) {
    case DriverState::starting: return "starting";
    case DriverState::running: return "running";
    case DriverState::waiting: return "waiting";
    case DriverState::ended: break;
  }
  return "ended";
}

class Supervisor::Supervised {
 public:
  Supervised(std::string name, std::string type, std::unique_ptr<Driver> driver, std::unique_ptr<DriverOutlet> outlet,
             const Clock& clock, const Settings& settings, const std::atomic<bool>& retired)
      : clock_(clock), settings_(settings), retired_(retired), outlet_(std::move(outlet)), driver_(std::move(driver)) {
    status_.name = std::move(name);
    status_.type = std::move(type);
    thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
  }

  void stop() { thread_.request_stop(); }

  bool ended_within(std::chrono::milliseconds most) {
    std::unique_lock lock(mutex_);
    return ended_.wait_for(lock, most, [&] { return status_.state == DriverState::ended; });
  }

  void tick() {
    {
      std::lock_guard lock(mutex_);
      if (!status_.failed || status_.state != DriverState::running) return;
      if (clock_.boottime() - running_since_ < settings_.good_after) return;
    }
    if (!outlet_->announce({})) return;  // it went with records
    std::vector<Record> records{event("running", "")};
    std::vector<StateChange> none;
    if (!outlet_->offer(records, none)) outlet_->announce(std::move(records.front()));
  }

  DriverStatus status() const {
    std::lock_guard lock(mutex_);
    DriverStatus copy = status_;
    copy.outlet = outlet_->status();
    copy.failed = copy.failed && outlet_->announcing();
    return copy;
  }

 private:
  void run(std::stop_token stop) {
    auto wait = settings_.backoff_first;
    while (!stop.stop_requested()) {
      enter(DriverState::running);
      BootTime began = clock_.boottime();
      Result<void> end = run_once(stop);
      if (stop.stop_requested() || retired_) break;
      if (clock_.boottime() - began >= settings_.good_after) wait = settings_.backoff_first;
      std::uniform_real_distribution<double> jitter(0.5, 1.0);
      auto delay = std::chrono::duration_cast<std::chrono::milliseconds>(wait * jitter(random_));
      enter(DriverState::waiting);
      failed(end.ok() ? "it ended without being asked to" : end.error().what, delay, stop);
      if (!clock_.sleep(delay, stop)) break;
      if (!outlet_->wait_durable(outlet_->last(), stop)) break;
      wait = std::min(wait * 2, settings_.backoff_most);
    }
    std::lock_guard lock(mutex_);
    status_.state = DriverState::ended;
    ended_.notify_all();
  }

  Result<void> run_once(std::stop_token stop) {
    try {
      return driver_->run(*outlet_, clock_, stop);
    } catch (const std::exception& thrown) {
      return transient(fmt::format("unexpected exception: {}", thrown.what()));
    } catch (...) {
      return transient("unexpected exception of an unknown type");
    }
  }

  /// Logs, and puts the event record if the driver had been well.
  void failed(const std::string& why, std::chrono::milliseconds delay, std::stop_token stop) {
    bool still_waiting = outlet_->announce({});
    bool news, repeated;
    {
      std::lock_guard lock(mutex_);
      news = !status_.failed || !still_waiting;
      repeated = !news && status_.last_error == why;
      status_.failed = true;
      status_.failures += 1;
      status_.last_error = why;
    }
    spdlog::log(repeated ? spdlog::level::debug : spdlog::level::warn, "driver {}: {}; again in {:.1f} s", status_.name,
                why, static_cast<double>(delay.count()) / 1000);
    if (news) {
      // A driver that has just failed may wait for room like any other; only a stop ends that.
      if (auto put = outlet_->put({event("failed", why)}, {}, stop); !put && !stop.stop_requested()) {
        spdlog::warn("driver {}: no event record of its failure: {}", status_.name, put.error().what);
      }
    }
    outlet_->announce(event("running", ""));
  }

  Record event(const char* state, const std::string& error) const {
    nlohmann::ordered_json body{{"driver", status_.name}, {"state", state}};
    if (!error.empty()) body["error"] = error.substr(0, 1000);
    Record record;
    record.kind = Kind::event;
    record.stream = "penstock/driver/" + status_.name;
    record.content_type = "application/json";
    record.payload = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    return record;
  }

  void enter(DriverState state) {
    std::lock_guard lock(mutex_);
    status_.state = state;
    running_since_ = clock_.boottime();
  }

  const Clock& clock_;
  const Settings settings_;
  const std::atomic<bool>& retired_;
  std::unique_ptr<DriverOutlet> outlet_;
  std::unique_ptr<Driver> driver_;  // ends before its outlet
  std::minstd_rand random_{std::random_device{}()};
  mutable std::mutex mutex_;
  std::condition_variable ended_;
  DriverStatus status_;  // name and type never change
  BootTime running_since_{};
  std::jthread thread_;
};

Supervisor::Supervisor(const Clock& clock, const Settings& settings) : clock_(clock), settings_(settings) {}

Supervisor::~Supervisor() { stop(); }

void Supervisor::start(std::string name, std::string type, std::unique_ptr<Driver> driver,
                       std::unique_ptr<DriverOutlet> outlet) {
  auto supervised = std::make_unique<Supervised>(std::move(name), std::move(type), std::move(driver), std::move(outlet),
                                                 clock_, settings_, retired_);
  std::lock_guard lock(mutex_);
  drivers_.push_back(std::move(supervised));
}

void Supervisor::stop() {
  std::lock_guard lock(mutex_);
  for (auto& driver : drivers_) driver->stop();
}

bool Supervisor::remove(const std::string& name, std::chrono::milliseconds most) {
  std::unique_ptr<Supervised> leaving;
  {
    std::lock_guard lock(mutex_);
    auto found =
        std::find_if(drivers_.begin(), drivers_.end(), [&](auto& driver) { return driver->status().name == name; });
    if (found == drivers_.end()) return true;
    (*found)->stop();
    leaving = std::move(*found);
    drivers_.erase(found);
  }
  if (leaving->ended_within(most)) return true;
  std::lock_guard lock(mutex_);
  drivers_.push_back(std::move(leaving));
  return false;
}

std::vector<std::string> Supervisor::join(std::chrono::milliseconds most) {
  auto end = std::chrono::steady_clock::now() + most;
  std::vector<std::string> late;
  std::lock_guard lock(mutex_);
  for (auto& driver : drivers_) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (!driver->ended_within(std::max(left, std::chrono::milliseconds(0)))) late.push_back(driver->status().name);
  }
  return late;
}

void Supervisor::tick() {
  std::lock_guard lock(mutex_);
  for (auto& driver : drivers_) driver->tick();
}

std::vector<DriverStatus> Supervisor::status() const {
  std::lock_guard lock(mutex_);
  std::vector<DriverStatus> all;
  for (const auto& driver : drivers_) all.push_back(driver->status());
  return all;
}

}  // namespace penstock
