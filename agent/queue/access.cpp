#include "agent/queue/access.h"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "agent/daemon/state_directory.h"
#include "agent/queue/import_desk.h"
#include "agent/queue/queue_answers.h"
#include "buffer/manifest.h"
#include "buffer/suspect.h"

namespace penstock {
namespace {

constexpr std::chrono::seconds kAskPatience{30};  // a page from a slow card, behind others

/// {"error": why, "fault": which}; nothing: it is no error.
std::optional<Error> error_in(const std::string& answer) {
  if (!answer.starts_with("{\"error\"")) return std::nullopt;
  auto json = nlohmann::json::parse(answer, nullptr, false);
  if (!json.is_object() || !json["error"].is_string()) return std::nullopt;
  Error error{Fault::rejected, json["error"].get<std::string>()};
  for (auto fault : {Fault::transient, Fault::full, Fault::broken}) {
    if (json.contains("fault") && json["fault"] == name_of(fault)) error.fault = fault;
  }
  return error;
}

/// Files that are made in somebody else's store would be unreadable to him.
Result<void> check_owner(const std::filesystem::path& folder) {
  struct stat is {};
  if (stat(folder.c_str(), &is) != 0 || is.st_uid == geteuid()) return {};
  return rejected(fmt::format("{} belongs to user {}, this is user {}: run the command as that user", folder.string(),
                              is.st_uid, geteuid()));
}

}  // namespace

Result<std::unique_ptr<QueueAccess>> QueueAccess::through(const std::filesystem::path& socket) {
  auto answer = ask_control(socket, R"({"command":"status"})");
  if (!answer) return answer.error();
  std::unique_ptr<QueueAccess> access(new QueueAccess);
  access->socket_ = socket;
  access->what_ = "the agent at " + socket.string();
  return access;
}

Result<std::unique_ptr<QueueAccess>> QueueAccess::into(const Settings& settings, bool make) {
  auto with = store_settings(settings);
  std::error_code error;
  bool exists = std::filesystem::exists(with.directory, error);
  if (!exists && !make) return rejected(fmt::format("there is no queue in {}", with.directory.string()));
  if (!exists) {
    if (auto prepared = prepare_state_directory(settings.agent.state_directory); !prepared) return prepared.error();
  }
  if (auto ours = check_owner(exists ? with.directory : settings.agent.state_directory); !ours) return ours.error();
  std::unique_ptr<QueueAccess> access(new QueueAccess);
  auto store = Store::open(with, access->clock_);
  if (!store) return store.error();
  access->store_ = std::move(*store);
  access->max_record_bytes_ = with.max_record_bytes;
  access->what_ = fmt::format("the store {} (no agent runs)", with.directory.string());
  if (const auto& mended = access->store_->mended()) access->what_ += ": " + describe(*mended);
  return access;
}

Result<Mended> QueueAccess::repair(const Settings& settings) {
  auto with = store_settings(settings);
  {
    std::error_code error;
    if (!std::filesystem::exists(with.directory, error)) {
      return rejected(fmt::format("there is no queue in {}", with.directory.string()));
    }
    if (auto ours = check_owner(with.directory); !ours) return ours.error();
    auto directory = StoreDirectory::open(with.directory);  // nobody has it open
    if (!directory) return directory.error();
    auto exists = directory->has_store();
    if (!exists) return exists.error();
    if (!*exists) return rejected(fmt::format("there is no queue in {}", with.directory.string()));
    mark_suspect(with.directory.c_str(), "penstock queue repair");
  }
  SystemClock clock;
  auto store = Store::open(with, clock);
  if (!store) return store.error();
  if (!(*store)->mended()) return broken(fmt::format("{}: cannot be marked", with.directory.string()));
  return *(*store)->mended();
}

Result<std::string> QueueAccess::ask(const std::string& command, const std::string& request) {
  std::string answer;
  if (!store_) {
    auto heard = ask_control(socket_, request, kAskPatience);
    if (!heard) return heard.error();
    answer = std::move(*heard);
  } else if (command.starts_with("import")) {
    answer = import_into(*store_, clock_, max_record_bytes_, command, request);
  } else if (changes_queue(command)) {
    answer = change_queue(*store_, request);
  } else {
    answer = answer_queue(*store_, request);
  }
  if (auto error = error_in(answer)) return *error;
  return answer;
}

}  // namespace penstock
