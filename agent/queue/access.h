// QueueAccess: the queue of an agent, whether it runs or not. A request is answered by the running agent over its control
// socket, or by this process, which then has opened the store under its lock; the answers are the same
// (queue_answers.h, import_desk.h).
//
// One thread. While a store is open here its agent cannot start.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "agent/daemon/agent.h"

namespace penstock {

class QueueAccess {
 public:
  /// The agent that answers there; `transient`: none does.
  static Result<std::unique_ptr<QueueAccess>> through(const std::filesystem::path& socket);
  /// The store of a stopped agent. `make`: also when there is none yet. `rejected`: there is none, somebody has it open,
  /// or it belongs to another user (what we leave in it would be ours); else as Store::open.
  static Result<std::unique_ptr<QueueAccess>> into(const Settings& settings, bool make);

  /// Examines every page of a stopped agent's store, and mends what is damaged (buffer/mend.h). `rejected`: as into().
  static Result<Mended> repair(const Settings& settings);

  /// One line asked, one answered. An answer of {"error", "fault"} is an error here.
  Result<std::string> ask(const std::string& command, const std::string& request);

  bool running() const { return store_ == nullptr; }
  /// "the agent at /run/penstock/control.sock"
  const std::string& what() const { return what_; }

 private:
  QueueAccess() = default;

  std::string what_;
  std::filesystem::path socket_;
  SystemClock clock_;
  std::size_t max_record_bytes_ = 0;
  std::unique_ptr<Store> store_;  // of a stopped agent
};

}  // namespace penstock
