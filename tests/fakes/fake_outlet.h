// An Outlet in memory: what a driver put, in order, and every way in which the agent can make it wait.
//
// Like the real one it has a writer's thread: tickets become durable there, and on_durable's call runs there. A test
// can hold durability back, take away the room, refuse or close. Every wait of a test has a limit (kPatience).
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "drivers/driver.h"

namespace penstock {

class FakeOutlet final : public Outlet {
 public:
  static constexpr std::chrono::seconds kPatience{20};

  explicit FakeOutlet(std::size_t max_record_bytes = 1 << 20, std::string driver = "fake")
      : max_record_bytes_(max_record_bytes),
        driver_(std::move(driver)),
        writer_([this](std::stop_token stop) { write(stop); }) {}

  // --- the Outlet
  Result<Ticket> offer(std::vector<Record>& records, std::vector<StateChange>& changes,
                       std::optional<std::uint64_t> sent_once = {}) override {
    std::lock_guard lock(mutex_);
    auto ticket = admit(records, changes);
    if (ticket) sent_once_.push_back(sent_once);
    return ticket;
  }

  Result<Ticket> put(std::vector<Record> records, std::vector<StateChange> changes, std::stop_token stop) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, stop, [&] { return closed_ || records.size() <= room_; });
    if (!closed_ && records.size() > room_) return transient("stopped while waiting for room in the intake");
    return admit(records, changes);
  }

  Result<Ticket> give_up(Cause cause, std::uint64_t count) override {
    std::lock_guard lock(mutex_);
    if (closed_) return transient("the outlet is closed");
    if (room_ == 0) return full("the intake is full");
    given_up_[cause] += count;
    return next_ticket();
  }

  Ticket durable() const override {
    std::lock_guard lock(mutex_);
    return durable_;
  }

  bool wait_durable(Ticket ticket, std::stop_token stop) const override {
    std::unique_lock lock(mutex_);
    return changed_.wait(lock, stop, [&] { return durable_ >= ticket; });
  }

  void on_durable(std::function<void()> call) override {
    std::lock_guard lock(call_mutex_);
    call_ = std::move(call);
  }

  Result<std::optional<std::string>> state(std::string_view name) const override {
    std::lock_guard lock(mutex_);
    auto found = states_.find(std::string(name));
    if (found == states_.end()) return std::optional<std::string>();
    return std::optional<std::string>(found->second);
  }

  Result<std::vector<std::pair<std::string, std::string>>> states(std::string_view prefix) const override {
    std::lock_guard lock(mutex_);
    std::vector<std::pair<std::string, std::string>> found;
    for (const auto& [name, value] : states_) {
      if (name.compare(0, prefix.size(), prefix) == 0) found.emplace_back(name, value);
    }
    return found;
  }

  std::size_t max_record_bytes() const override { return max_record_bytes_; }

  void count(std::string_view event, std::uint64_t by = 1) override {
    std::lock_guard lock(mutex_);
    counts_[std::string(event)] += by;
    changed_.notify_all();
  }

  void say(std::string_view state) override {
    std::lock_guard lock(mutex_);
    said_.emplace_back(state);
    changed_.notify_all();
  }

  // --- what a test does to the driver
  /// From now on no ticket becomes durable by itself; false: all at once do, and the next ones again at once.
  void hold_durable(bool hold = true) {
    std::lock_guard lock(mutex_);
    held_ = hold;
    changed_.notify_all();
  }
  /// Makes the tickets up to this one durable, although they are held.
  void make_durable(Ticket ticket) {
    std::lock_guard lock(mutex_);
    allowed_ = std::max(allowed_, ticket);
    changed_.notify_all();
  }
  /// So many more records are let in; each one taken makes it less. Room made is told through on_durable's call.
  void set_room(std::size_t records) {
    std::lock_guard lock(mutex_);
    room_ = records;
    tell_ = true;
    changed_.notify_all();
  }
  void unlimited_room() { set_room(kUnlimited); }
  /// Every later offer and put is answered with this; no error: as usual again.
  void refuse(std::optional<Error> error) {
    std::lock_guard lock(mutex_);
    refusal_ = std::move(error);
  }
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  void set_state(std::string name, std::string value) {
    std::lock_guard lock(mutex_);
    states_[std::move(name)] = std::move(value);
  }

  // --- what a test sees
  std::vector<Record> records() const {
    std::lock_guard lock(mutex_);
    return records_;
  }
  std::size_t size() const {
    std::lock_guard lock(mutex_);
    return records_.size();
  }
  /// How many records each successful put had.
  std::vector<std::size_t> groups() const {
    std::lock_guard lock(mutex_);
    return groups_;
  }
  /// Of each offer that was taken: whether it comes again, and how many of its records do not.
  std::vector<std::optional<std::uint64_t>> sent_once() const {
    std::lock_guard lock(mutex_);
    return sent_once_;
  }
  Ticket accepted() const {
    std::lock_guard lock(mutex_);
    return accepted_;
  }
  std::uint64_t counted(std::string_view event) const {
    std::lock_guard lock(mutex_);
    auto found = counts_.find(std::string(event));
    return found == counts_.end() ? 0 : found->second;
  }
  std::uint64_t given_up(Cause cause) const {
    std::lock_guard lock(mutex_);
    auto found = given_up_.find(cause);
    return found == given_up_.end() ? 0 : found->second;
  }
  std::vector<std::string> said() const {
    std::lock_guard lock(mutex_);
    return said_;
  }

  /// True once `true_now()` holds, which may use every function above; asked again whenever something happened here.
  template <class Condition>
  bool eventually(Condition true_now, std::chrono::milliseconds patience = kPatience) const {
    auto deadline = std::chrono::steady_clock::now() + patience;
    while (!true_now()) {
      std::unique_lock lock(mutex_);
      // The condition may also hang on something that tells nobody here: look again now and then.
      changed_.wait_for(lock, std::chrono::milliseconds(10));
      if (std::chrono::steady_clock::now() > deadline) {
        lock.unlock();
        return true_now();
      }
    }
    return true;
  }
  bool wait_for_records(std::size_t count, std::chrono::milliseconds patience = kPatience) const {
    return eventually([&] { return size() >= count; }, patience);
  }
  bool wait_for_saying(std::string_view part, std::chrono::milliseconds patience = kPatience) const {
    return eventually(
        [&] {
          std::lock_guard lock(mutex_);
          for (const auto& line : said_) {
            if (line.find(part) != std::string::npos) return true;
          }
          return false;
        },
        patience);
  }

 private:
  static constexpr std::size_t kUnlimited = SIZE_MAX;

  Ticket next_ticket() {
    changed_.notify_all();
    return ++accepted_;
  }

  Result<Ticket> admit(std::vector<Record>& records, std::vector<StateChange>& changes) {
    if (closed_) return transient("the outlet is closed");
    if (refusal_) return *refusal_;
    for (const auto& record : records) {
      std::size_t bytes = record.bytes() + (record.driver.empty() ? driver_.size() : 0);
      if (bytes > max_record_bytes_) {
        return rejected("a record of " + std::to_string(bytes) + " bytes of stream \"" + record.stream +
                        "\" is over max_record_bytes, " + std::to_string(max_record_bytes_));
      }
    }
    if (records.size() > room_) return full("the intake is full");
    if (room_ != kUnlimited) room_ -= records.size();
    groups_.push_back(records.size());
    for (auto& record : records) {
      record.driver = driver_;
      if (record.time == WallTime{}) record.time = WallTime(std::chrono::seconds(1'780'000'000)) + tick_++;
      if (record.boottime == BootTime{}) record.boottime = std::chrono::seconds(100) + tick_;
      records_.push_back(std::move(record));
    }
    Ticket ticket = next_ticket();
    for (auto& change : changes) changes_.emplace_back(ticket, std::move(change));
    records.clear();
    changes.clear();
    return ticket;
  }

  void write(std::stop_token stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      Ticket reach = held_ ? std::min(allowed_, accepted_) : accepted_;
      if (reach > durable_ || tell_) {
        durable_ = std::max(durable_, reach);
        tell_ = false;
        apply_changes();
        changed_.notify_all();
        lock.unlock();
        {
          std::lock_guard call_lock(call_mutex_);
          if (call_) call_();
        }
        lock.lock();
        continue;
      }
      changed_.wait(lock, stop,
                    [&] { return tell_ || (held_ ? std::min(allowed_, accepted_) : accepted_) > durable_; });
    }
  }

  void apply_changes() {
    auto next = changes_.begin();
    for (; next != changes_.end() && next->first <= durable_; ++next) {
      if (next->second.value) {
        states_[next->second.name] = *next->second.value;
      } else {
        states_.erase(next->second.name);
      }
    }
    changes_.erase(changes_.begin(), next);
  }

  const std::size_t max_record_bytes_;
  const std::string driver_;
  mutable std::mutex mutex_;
  mutable std::condition_variable_any changed_;
  std::vector<Record> records_;
  std::vector<std::optional<std::uint64_t>> sent_once_;
  std::vector<std::size_t> groups_;
  std::vector<std::pair<Ticket, StateChange>> changes_;
  std::map<std::string, std::string> states_;
  std::map<std::string, std::uint64_t> counts_;
  std::map<Cause, std::uint64_t> given_up_;
  std::vector<std::string> said_;
  std::optional<Error> refusal_;
  Ticket accepted_ = 0;
  Ticket durable_ = 0;
  Ticket allowed_ = 0;
  std::size_t room_ = kUnlimited;
  std::chrono::microseconds tick_{0};
  bool held_ = false;
  bool closed_ = false;
  bool tell_ = false;
  std::mutex call_mutex_;  // held while the call runs: on_durable({}) returns only when none is running
  std::function<void()> call_;
  std::jthread writer_;  // last: it ends first
};

}  // namespace penstock
