// A disk whose commits a test can hold, refuse and look at.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/daemon/disk.h"

namespace penstock {

class FakeDisk final : public Disk {
  template <class Call>
  auto guarded(Call call) const {
    std::lock_guard lock(mutex_);
    return call();
  }

 public:
  // --- the writer
  Result<void> commit(std::span<const Group> groups, std::vector<std::size_t>* left) override {
    std::unique_lock lock(mutex_);
    ++tries_;
    released_.wait(lock, [&] { return !held_; });
    if (fault_ && !(groups.empty() && fault_->fault == Fault::full)) {
      bool only_refusals = true;
      for (const auto& group : groups) only_refusals = only_refusals && group.records.empty() && group.changes.empty();
      if (fault_->fault != Fault::full || !only_refusals) return *fault_;
    }
    commits_.emplace_back();
    if (left != nullptr) left->clear();
    for (std::size_t i = 0; i < groups.size(); ++i) {
      if (refuses_ && groups[i].comes_again && left != nullptr) {
        left->push_back(i);
      } else {
        commits_.back().push_back(groups[i]);
      }
    }
    wants_commit_ = false;
    return {};
  }
  Result<void> settle(const Settlement& settlement) override {
    std::lock_guard lock(mutex_);
    settlements_.push_back(settlement);
    commits_.emplace_back();
    return settle_answer_;
  }
  bool wants_commit() const override {
    return guarded([&] { return wants_commit_; });
  }
  Result<bool> prewrite_step() override {
    std::lock_guard lock(mutex_);
    if (prewrite_fault_) return *prewrite_fault_;
    ++prewritten_;
    return prewritten_ < prewrite_steps_;
  }
  Result<std::optional<std::string>> state(std::string_view driver, std::string_view name) const override {
    std::optional<std::string> last;
    for (const auto& commit : commits()) {
      for (const auto& group : commit) {
        for (const auto& change : group.changes) {
          if (group.driver == driver && change.name == name) last = change.value;
        }
      }
    }
    return last;
  }
  Result<std::vector<std::pair<std::string, std::string>>> states(std::string_view driver,
                                                                  std::string_view prefix) const override {
    std::map<std::string, std::string> found;
    for (const auto& commit : commits()) {
      for (const auto& group : commit) {
        if (group.driver != driver) continue;
        for (const auto& change : group.changes) {
          if (!change.name.starts_with(prefix)) continue;
          found.erase(change.name);
          if (change.value) found[change.name] = *change.value;
        }
      }
    }
    return std::vector<std::pair<std::string, std::string>>(found.begin(), found.end());
  }

  // --- the test
  /// As under reject_newest, when it is full: what comes again is left.
  void refuse_newest(bool refuse) { set(refuses_, refuse); }
  void hold() { set(held_, true); }
  void release() { set(held_, false); }
  void fail(std::optional<Error> fault) { set(fault_, std::move(fault)); }
  void answer_settle(Result<void> answer) { set(settle_answer_, std::move(answer)); }
  void want_commit() { set(wants_commit_, true); }

  std::size_t tries() const {
    return guarded([&] { return tries_; });
  }
  std::vector<Settlement> settlements() const {
    return guarded([&] { return settlements_; });
  }
  std::vector<std::vector<Group>> commits() const {
    return guarded([&] { return commits_; });
  }
  /// The payloads of all records committed, in order.
  std::vector<std::string> payloads() const {
    std::lock_guard lock(mutex_);
    std::vector<std::string> all;
    for (const auto& commit : commits_) {
      for (const auto& group : commit) {
        for (const auto& record : group.records) all.push_back(record.payload);
      }
    }
    return all;
  }

  /// So many steps until the file is written; from the next one on.
  void set_prewriting(int steps, std::optional<Error> fault = {}) {
    std::lock_guard lock(mutex_);
    prewrite_steps_ = steps;
    prewrite_fault_ = std::move(fault);
  }
  int prewritten() const {
    return guarded([&] { return prewritten_; });
  }

 private:
  template <class Value>
  void set(Value& place, Value value) {
    std::lock_guard lock(mutex_);
    place = std::move(value);
    released_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable released_;
  std::vector<std::vector<Group>> commits_;
  std::vector<Settlement> settlements_;
  std::size_t tries_ = 0;
  bool held_ = false, wants_commit_ = false, refuses_ = false;
  std::optional<Error> fault_;
  Result<void> settle_answer_;
  int prewritten_ = 0, prewrite_steps_ = 0;
  std::optional<Error> prewrite_fault_;
};

}  // namespace penstock
