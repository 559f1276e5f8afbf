// penstock status: what the running agent does, asked over its control socket.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/commands/command.h"
#include "agent/daemon/control.h"
#include "agent/daemon/service.h"
#include "config/config.h"
#include "config/units.h"
#include "drivers/table.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

struct Asked {
  std::string config = kDefaultConfig;
  std::string socket;
  bool json = false;
  bool watch = false;
};

std::string text(const Json& json, const char* name) { return json.value(name, std::string()); }
std::uint64_t count(const Json& json, const char* name) { return json.value(name, std::uint64_t{0}); }

std::string span(double seconds) {
  auto whole = static_cast<std::int64_t>(seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  if (whole < 86'400) return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
  return fmt::format("{} d {} h", whole / 86'400, whole % 86'400 / 3600);
}

/// What `--watch` needs to make rates of counts.
struct Rates {
  std::map<std::string, std::uint64_t> last;
  std::chrono::steady_clock::time_point at{};

  std::string of(const std::string& name, std::uint64_t now, std::chrono::steady_clock::time_point when) {
    auto before = last.find(name);
    std::string rate;
    if (before != last.end() && when > at && now >= before->second) {
      rate = fmt::format("  {:.1f}/s",
                         static_cast<double>(now - before->second) / std::chrono::duration<double>(when - at).count());
    }
    last[name] = now;
    return rate;
  }
};

std::string show(const Json& status, Rates& rates) {
  auto when = std::chrono::steady_clock::now();
  std::string out = fmt::format("agent    {}  {} {}, up {}{}\n", text(status, "agent"), text(status, "version"),
                                text(status, "state"), span(status.value("uptime_seconds", 0.0)),
                                status.value("clock_synchronised", true) ? "" : ", clock not synchronised");
  if (auto stuck = text(status, "stuck"); !stuck.empty()) out += fmt::format("STUCK    {}\n", stuck);

  const auto& kafka = status.at("kafka");
  std::string link = kafka.value("connected", false) ? "connected" : "away";
  if (kafka.value("duplicate_id", false)) link = "DUPLICATE ID";
  if (auto error = text(kafka, "error"); !error.empty()) link += ": " + error;
  if (auto doing = text(kafka, "doing"); !doing.empty()) link += fmt::format(" (now: {})", doing);
  out += fmt::format("kafka    {}; {} records delivered in {} transactions{}\n", link, count(kafka, "records"),
                     count(kafka, "commits"), rates.of("kafka", count(kafka, "records"), when));
  for (const auto& [topic, why] : kafka.at("topics").items()) {
    out += fmt::format("         topic {}: {}\n", topic, why.get<std::string>());
  }

  for (const auto& lane : status.at("lanes")) {
    auto name = text(lane, "name");
    out += fmt::format("lane     {}  {} wait; durable {}, delivered {}, dropped {}{}\n", name,
                       count(lane, "backlog_records"), count(lane, "durable"), count(lane, "delivered"),
                       count(lane, "dropped"), rates.of("lane " + name, count(lane, "durable"), when));
  }

  const auto& store = status.at("store");
  auto page = count(store, "page_bytes");
  auto mib = [&](const char* name) { return static_cast<double>(count(store, name) * page) / (1 << 20); };
  out += fmt::format("disk     {:.1f} of {:.1f} MiB used{}; {} commits\n", mib("used_pages"), mib("capacity_pages"),
                     status.at("writer").value("waiting_for_room", false) ? ", FULL" : "", count(store, "commits"));
  for (const auto& [cause, lost] : store.at("given_up").items()) {
    out += fmt::format("lost     {} {}\n", lost.get<std::uint64_t>(), cause);
  }

  for (const auto& driver : status.at("drivers")) {
    auto name = text(driver, "name");
    out += fmt::format("driver   {} ({}) {}{}  {} records{}\n", name, text(driver, "type"),
                       driver.value("failed", false) ? "FAILED, " : "", text(driver, "state"), count(driver, "records"),
                       rates.of("driver " + name, count(driver, "records"), when));
    if (auto says = text(driver, "says"); !says.empty()) out += fmt::format("         {}\n", says);
    if (driver.value("failed", false)) out += fmt::format("         {}\n", text(driver, "last_error"));
  }
  rates.at = when;
  return out;
}

/// The socket, from what was said on the command line.
std::filesystem::path find_socket(const Asked& asked) {
  if (!asked.socket.empty()) return asked.socket;
  // A file with mistakes, or one that may not be read here, does not keep us from asking: what it says of the state
  // directory, or else the default.
  return find_control(load(asked.config, driver_kinds()).settings.agent.state_directory);
}

int ask(const Asked& asked, Rates& rates) {
  auto answer = ask_control(find_socket(asked), R"({"command":"status"})");
  if (!answer) {
    fmt::print(stderr, "penstock status: {}\n", answer.error().what);
    return kFailed;
  }
  auto status = Json::parse(*answer, nullptr, false);
  if (!status.is_object() || !status.contains("lanes")) {
    fmt::print(stderr, "penstock status: cannot be understood: {}\n", answer->substr(0, 500));
    return kFailed;
  }
  if (asked.json) {
    fmt::print("{}\n", *answer);
  } else {
    fmt::print("{}{}", asked.watch ? "\x1b[H\x1b[2J" : "", show(status, rates));
  }
  std::fflush(stdout);
  return kDone;
}

int watch(const Asked& asked) {
  Rates rates;
  Signals signals;
  int status = ask(asked, rates);
  while (asked.watch && std::ferror(stdout) == 0) {
    if (signals.wait(std::chrono::seconds(1)) == Signals::Kind::stop) return status;
    status = ask(asked, rates);
  }
  return status;
}

}  // namespace

void add_status(CLI::App& app, int& status) {
  auto asked = std::make_shared<Asked>();
  app.add_option("-c,--config", asked->config, "the agent's configuration: says where its state is")
      ->capture_default_str();
  app.add_option("--socket", asked->socket, "the agent's control socket; found by the configuration otherwise");
  app.add_flag("--json", asked->json, "one line of JSON");
  app.add_flag("--watch", asked->watch, "again every second, until interrupted");
  app.callback([asked, &status] { status = watch(*asked); });
}

}  // namespace penstock
