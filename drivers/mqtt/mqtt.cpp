#include "drivers/mqtt/mqtt.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <random>
#include <string_view>
#include <utility>

#include "drivers/mqtt/gate.h"
#include "drivers/mqtt/plan.h"
#include "drivers/mqtt/session.h"

namespace penstock {
namespace {

using std::chrono::milliseconds;

struct Broker {
  std::string host;
  std::uint16_t port = 1883;
  std::string text() const { return fmt::format("{}:{}", host, port); }
};

// mqtt://host[:port], the host a name, an IPv4 address or an IPv6 address in brackets.
std::optional<Broker> parse_broker(std::string_view url, std::string& problem) {
  constexpr std::string_view kPlain = "mqtt://", kTls = "mqtts://";
  if (url.substr(0, kTls.size()) == kTls) {
    problem =
        fmt::format("url: \"{}\" asks for TLS, which this version does not have yet; expected mqtt://host:port", url);
    return {};
  }
  problem = fmt::format("url: \"{}\" is not an address of a broker, expected mqtt://host:port", url);
  if (url.substr(0, kPlain.size()) != kPlain) return {};
  url.remove_prefix(kPlain.size());
  if (!url.empty() && url.back() == '/') url.remove_suffix(1);
  Broker broker;
  std::string_view rest;
  if (!url.empty() && url.front() == '[') {
    std::size_t end = url.find(']');
    if (end == std::string_view::npos) return {};
    broker.host = url.substr(1, end - 1);
    rest = url.substr(end + 1);
  } else {
    std::size_t colon = std::min(url.find(':'), url.size());
    broker.host = url.substr(0, colon);
    rest = url.substr(colon);
  }
  if (broker.host.empty() || broker.host.find_first_of("/@ ") != std::string::npos) return {};
  if (!rest.empty()) {
    const char* end = rest.data() + rest.size();
    auto [stopped, error] = std::from_chars(rest.data() + 1, end, broker.port);
    if (rest.front() != ':' || error != std::errc() || stopped != end || broker.port == 0) return {};
  }
  problem.clear();
  return broker;
}

// MQTT 4.7: # only last and alone in its level, + only alone in its level.
bool sound_filter(std::string_view filter) {
  if (filter.empty() || filter.size() > mqtt::kMostFilterBytes || filter.find('\0') != std::string_view::npos)
    return false;
  while (true) {
    std::size_t slash = filter.find('/');
    std::string_view level = filter.substr(0, slash);
    bool last = slash == std::string_view::npos;
    if (level.find_first_of("#+") != std::string_view::npos && level.size() > 1) return false;
    if (level == "#" && !last) return false;
    if (last) return true;
    filter.remove_prefix(slash + 1);
  }
}

class MqttDriver final : public Driver {
 public:
  MqttDriver(std::string name, MqttSettings settings, OnBusy on_busy)
      : name_(std::move(name)), settings_(std::move(settings)), on_busy_(on_busy) {
    for (const auto& each : settings_.subscribe) wanted_.push_back({each.filter, each.qos});
    std::string ignored;
    broker_ = parse_broker(settings_.url, ignored).value_or(Broker{});
    identity_ = fmt::format("{}@{}", settings_.client_id, broker_.text());
  }

  Result<void> run(Outlet& outlet, const Clock& clock, std::stop_token stop) override {
    if (auto problems = problems_of(settings_); !problems.empty()) {
      return rejected(fmt::format("mqtt \"{}\": {}", name_, fmt::join(problems, "; ")));
    }
    auto gate = open_gate(outlet);
    if (!gate.ok()) return in_our_name(gate.error());
    std::unique_ptr<mqtt::Session> session;
    milliseconds pause = settings_.reconnect_least;
    std::string last_reason;
    while (!stop.stop_requested()) {
      outlet.say(fmt::format("connecting to {}", broker_.text()));
      BootTime begun = clock.boottime();
      auto made = mqtt::Session::open(session_settings(), (*gate)->port());
      if (!made.ok()) return in_our_name(made.error());
      session = std::move(*made);
      auto up = connect(*session, outlet, stop);
      if (up.ok()) {
        outlet.count("connections");
        last_reason.clear();
        stay(*session, outlet, std::move(*up), stop);
      }
      if (stop.stop_requested()) break;
      if (auto failure = (*gate)->outlet_failure()) return in_our_name(*failure);
      if (outlet_failure_) return in_our_name(*std::exchange(outlet_failure_, {}));
      session->disconnect(kGoodbye);  // if it only half began
      session.reset();

      std::string reason = (*gate)->why_ended();
      if (reason.empty()) reason = up.ok() ? "the connection was lost" : up.error().what;
      if (clock.boottime() - begun > kGoodConnection) pause = settings_.reconnect_least;
      outlet.say(fmt::format("not connected: {}", reason));
      outlet.count("connections_ended");
      if (reason != last_reason) spdlog::warn("mqtt \"{}\": {}; trying again", name_, reason);
      last_reason = std::move(reason);
      clock.sleep(jittered(pause), stop);
      pause = std::min(pause * 2, settings_.reconnect_most);
    }
    // In this order: the broker hears of what is on disk, then that we go. It sends again what it did not hear of.
    (*gate)->settle(kSettle);
    if (session) session->disconnect(kGoodbye);
    outlet.say("stopped");
    return {};
  }

 private:
  static constexpr std::chrono::seconds kGoodConnection{10};
  static constexpr std::chrono::minutes kRefusedAgain{1};
  static constexpr milliseconds kSettle{400}, kGoodbye{200};

  Error outlet_failed(const Error& error) {
    outlet_failure_ = error;
    return error;
  }
  Error in_our_name(const Error& error) const {
    return {error.fault, fmt::format("mqtt \"{}\": {}", name_, error.what)};
  }

  mqtt::Version version() const { return settings_.version == "5" ? mqtt::Version::v5 : mqtt::Version::v3_1_1; }

  Result<std::unique_ptr<mqtt::Gate>> open_gate(Outlet& outlet) const {
    mqtt::LinkSettings link;
    link.name = name_;
    link.broker = broker_.text();
    link.version = version();
    link.keep_alive = settings_.keep_alive;
    mqtt::InflowSettings inflow;
    inflow.version = version();
    inflow.stream = settings_.stream;
    inflow.keep_retained = settings_.keep_retained;
    inflow.drop_qos0_when_busy = on_busy_ == OnBusy::drop;
    inflow.waiting_messages = static_cast<std::size_t>(settings_.receive_maximum);
    return mqtt::Gate::open(
        std::move(link), std::move(inflow), [broker = broker_] { return mqtt::tcp_stream(broker.host, broker.port); },
        outlet);
  }

  mqtt::SessionSettings session_settings() const {
    mqtt::SessionSettings session;
    session.client_id = settings_.client_id;
    session.user = settings_.user;
    session.password = settings_.password;
    session.version = version();
    session.keep_alive = settings_.keep_alive;
    session.session_expiry = settings_.session_expiry;
    session.receive_maximum = static_cast<std::uint16_t>(settings_.receive_maximum);
    return session;
  }

  // Connected, with the subscriptions as the config wants them; gives those that the broker refused.
  Result<std::vector<mqtt::Filter>> connect(mqtt::Session& session, Outlet& outlet, const std::stop_token& stop) {
    auto present = session.connect(stop);
    if (!present.ok()) return present.error();
    auto remembered = outlet.states(mqtt::kFilterState);
    if (!remembered.ok()) return outlet_failed(remembered.error());
    mqtt::Plan plan = mqtt::make_plan(wanted_, *remembered, identity_, *present, version());
    spdlog::info("mqtt \"{}\": connected to {}, {} session, {} filters to subscribe, {} to take back", name_,
                 broker_.text(), *present ? "our old" : "a new", plan.subscribe.size(), plan.unsubscribe.size());
    if (!plan.unsubscribe.empty()) {
      if (auto done = session.unsubscribe(plan.unsubscribe, stop); !done.ok()) return done.error();
    }
    return subscribe(session, outlet, plan.subscribe, std::move(plan.forget), stop);
  }

  Result<std::vector<mqtt::Filter>> subscribe(mqtt::Session& session, Outlet& outlet,
                                              const std::vector<mqtt::Filter>& filters,
                                              std::vector<StateChange> changes, const std::stop_token& stop) {
    std::vector<mqtt::Filter> refused;
    if (!filters.empty()) {
      auto granted = session.subscribe(filters, stop);
      if (!granted.ok()) return granted.error();
      for (std::size_t i = 0; i < filters.size(); ++i) {
        int code = (*granted)[i];
        if (code >= 128) {
          refused.push_back(filters[i]);
          outlet.count("subscriptions_refused");
          spdlog::error("mqtt \"{}\": {} refused the subscription to \"{}\": {}", name_, broker_.text(),
                        filters[i].filter, mqtt::reason_in_words(static_cast<std::uint8_t>(code), version()));
          continue;
        }
        if (code < filters[i].qos) {
          spdlog::warn("mqtt \"{}\": {} granted QoS {} for \"{}\" instead of {}: messages may be lost on the way here",
                       name_, broker_.text(), code, filters[i].filter, filters[i].qos);
        }
        changes.push_back(mqtt::remember(filters[i], identity_));
      }
    }
    if (!changes.empty()) {
      if (auto put = outlet.put({}, std::move(changes), stop); !put.ok()) return outlet_failed(put.error());
    }
    std::string state = fmt::format("connected to {}", broker_.text());
    if (!refused.empty()) state += fmt::format(", which refused {} of {} filters", refused.size(), wanted_.size());
    outlet.say(state);
    return refused;
  }

  // Until the connection ends or a stop is asked for. What was refused is asked for again now and then.
  void stay(mqtt::Session& session, Outlet& outlet, std::vector<mqtt::Filter> refused, const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::optional<milliseconds> patience;
      if (!refused.empty()) patience = kRefusedAgain;
      if (session.wait_until_lost(stop, patience)) return;
      if (stop.stop_requested()) return;
      auto again = subscribe(session, outlet, refused, {}, stop);
      if (again.ok()) refused = std::move(*again);
    }
  }

  // Half of it to all of it: many gateways lose one broker at the same moment.
  static milliseconds jittered(milliseconds pause) {
    thread_local std::minstd_rand random{std::random_device{}()};
    return milliseconds(std::uniform_int_distribution<long long>(pause.count() / 2, pause.count())(random));
  }

  const std::string name_;
  const MqttSettings settings_;
  const OnBusy on_busy_;
  std::vector<mqtt::Filter> wanted_;
  Broker broker_;
  std::string identity_;
  std::optional<Error> outlet_failure_;  // seen by run()'s own thread: the Outlet takes nothing any more
};

}  // namespace

std::vector<std::string> problems_of(const MqttSettings& settings) {
  std::vector<std::string> problems;
  if (std::string problem; !parse_broker(settings.url, problem)) problems.push_back(problem);
  if (settings.version != "5" && settings.version != "3.1.1") {
    problems.push_back(fmt::format("version: \"{}\" is unknown, expected \"5\" or \"3.1.1\"", settings.version));
  }
  if (settings.client_id.empty() || settings.client_id.size() > 200) {
    problems.push_back("client_id: expected 1 to 200 bytes: the broker keeps our session under this name");
  }
  if (!settings.password.empty() && settings.user.empty() && settings.version != "5") {
    problems.push_back("password: MQTT 3.1.1 has none without a user");
  }
  if (settings.subscribe.empty()) problems.push_back("subscribe: expected at least one { filter = \"...\", qos = 1 }");
  for (std::size_t i = 0; i < settings.subscribe.size(); ++i) {
    const auto& each = settings.subscribe[i];
    if (!sound_filter(each.filter)) {
      problems.push_back(
          fmt::format("subscribe: \"{}\" is not a topic filter (at most {} bytes, + and # alone in their level)",
                      each.filter, mqtt::kMostFilterBytes));
    }
    if (each.qos == 2) {
      problems.push_back(fmt::format(
          "subscribe: \"{}\" asks for qos 2, which this version does not have yet, expected 0 or 1", each.filter));
    } else if (each.qos < 0 || each.qos > 2) {
      problems.push_back(fmt::format("subscribe: \"{}\" asks for qos {}, expected 0 or 1", each.filter, each.qos));
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (settings.subscribe[j].filter == each.filter) {
        problems.push_back(fmt::format("subscribe: \"{}\" is there twice", each.filter));
      }
    }
  }
  if (settings.stream.empty()) problems.push_back("stream: expected a template such as \"{topic}\"");
  if (settings.keep_alive.count() < 1 || settings.keep_alive.count() > 65'535) {
    problems.push_back(fmt::format("keep_alive: is {} s, expected 1 to 65535", settings.keep_alive.count()));
  }
  if (settings.session_expiry.count() < 60 || settings.session_expiry > std::chrono::hours(24 * 365 * 10)) {
    problems.push_back(
        fmt::format("session_expiry: is {} s, expected 60 s to 10 years", settings.session_expiry.count()));
  }
  if (settings.receive_maximum < 1 || settings.receive_maximum > 65'535) {
    problems.push_back(fmt::format("receive_maximum: is {}, expected 1 to 65535", settings.receive_maximum));
  }
  if (settings.reconnect_least.count() < 1 || settings.reconnect_most < settings.reconnect_least) {
    problems.push_back("reconnect_most: is below reconnect_least");
  }
  return problems;
}

std::unique_ptr<Driver> make_mqtt_driver(std::string name, MqttSettings settings, OnBusy on_busy) {
  return std::make_unique<MqttDriver>(std::move(name), std::move(settings), on_busy);
}

}  // namespace penstock
