#include "drivers/mqtt/mqtt.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
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

class MqttDriver final : public Driver {
 public:
  MqttDriver(std::string name, MqttSettings settings, OnBusy on_busy)
      : name_(std::move(name)), settings_(std::move(settings)), on_busy_(on_busy) {
    for (const auto& each : settings_.subscribe) wanted_.push_back({each.filter, each.qos});
    broker_ = parse_mqtt_url(settings_.url).value_or(MqttBroker{});
    identity_ = fmt::format("{}@{}", settings_.client_id, broker_.text());
  }

  Result<void> run(Outlet& outlet, const Clock& clock, std::stop_token stop) override {
    if (broker_.host.empty() || wanted_.empty()) {
      return rejected(fmt::format("mqtt \"{}\": needs a url, mqtt://host:port, and a filter to subscribe", name_));
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

  mqtt::Version version() const {
    return settings_.version == MqttVersion::v5 ? mqtt::Version::v5 : mqtt::Version::v3_1_1;
  }

  Result<std::unique_ptr<mqtt::Gate>> open_gate(Outlet& outlet) const {
    mqtt::LinkSettings link;
    link.name = name_;
    link.broker = broker_.text();
    link.version = version();
    link.keep_alive = settings_.keep_alive;
    mqtt::InflowSettings inflow;
    inflow.version = version();
    inflow.stream = settings_.stream;
    inflow.keep_retained = settings_.retained == MqttRetained::keep;
    inflow.drop_qos0_when_busy = on_busy_ == OnBusy::drop;
    inflow.waiting_messages = settings_.receive_maximum;
    return mqtt::Gate::open(
        std::move(link), std::move(inflow), [broker = broker_] { return mqtt::tcp_stream(broker.host, broker.port); },
        outlet);
  }

  mqtt::SessionSettings session_settings() const {
    mqtt::SessionSettings session;
    session.client_id = settings_.client_id;
    session.user = settings_.user;
    session.password = settings_.password.reveal();
    session.version = version();
    session.keep_alive = settings_.keep_alive;
    session.session_expiry = settings_.session_expiry;
    session.receive_maximum = settings_.receive_maximum;
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
  MqttBroker broker_;
  std::string identity_;
  std::optional<Error> outlet_failure_;  // seen by run()'s own thread: the Outlet takes nothing any more
};

}  // namespace

std::unique_ptr<Driver> make_mqtt_driver(std::string name, MqttSettings settings, OnBusy on_busy) {
  return std::make_unique<MqttDriver>(std::move(name), std::move(settings), on_busy);
}

DriverType mqtt_driver() {
  return {"mqtt", "messages of an MQTT broker, acknowledged when they are on disk", mqtt_keys(),
          [](const DriverSection& section) {
            MqttSettings settings = *section.settings.as<MqttSettings>();
            if (settings.client_id.empty())
              settings.client_id = fmt::format("penstock-{}-{}", section.agent, section.name);
            return make_mqtt_driver(section.name, std::move(settings), section.on_busy);
          }};
}

}  // namespace penstock
