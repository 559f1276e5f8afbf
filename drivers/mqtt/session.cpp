#include "drivers/mqtt/session.h"

#include <fmt/format.h>
#include <mqtt/async_client.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

namespace penstock::mqtt {

class Session::Paho final : private ::mqtt::iaction_listener {
 public:
  Paho(SessionSettings settings, std::uint16_t port)
      : settings_(std::move(settings)),
        client_(fmt::format("tcp://127.0.0.1:{}", port), settings_.client_id,
                ::mqtt::create_options(static_cast<int>(settings_.version)), nullptr) {
    // Before connect(), always: without them Paho would acknowledge what it cannot hand over.
    client_.set_connection_lost_handler([this](const std::string&) { happened([this] { lost_ = true; }); });
    client_.set_message_callback([](const ::mqtt::const_message_ptr&) {});
  }

  Result<bool> connect(const std::stop_token& stop) {
    ::mqtt::connect_options options;
    options.set_mqtt_version(static_cast<int>(settings_.version));
    if (settings_.version == Version::v5) {
      options.set_clean_start(false);
      ::mqtt::properties properties;
      properties.add({::mqtt::property::SESSION_EXPIRY_INTERVAL, static_cast<int>(settings_.session_expiry.count())});
      properties.add({::mqtt::property::RECEIVE_MAXIMUM, static_cast<int>(settings_.receive_maximum)});
      options.set_properties(std::move(properties));
    } else {
      options.set_clean_session(false);
    }
    options.set_keep_alive_interval(settings_.keep_alive);
    options.set_connect_timeout(std::chrono::ceil<std::chrono::seconds>(settings_.patience));
    options.set_automatic_reconnect(false);
    if (!settings_.user.empty()) options.set_user_name(settings_.user);
    if (!settings_.password.empty()) options.set_password(settings_.password);

    happened([this] { lost_ = false; });
    // A copy, not a move: moved options lose their MQTT 5 properties (Paho C++ 1.2.0).
    auto answers = ask(1, stop, [&](std::size_t) { return client_.connect(options, nullptr, *this); });
    if (!answers.ok()) return answers.error();
    try {
      answers->front()->wait();  // answered: only throws what went wrong
      return answers->front()->get_connect_response().is_session_present();
    } catch (const std::exception& error) {
      return transient(error.what());
    }
  }

  // One SUBSCRIBE for each filter, all at once: the call for many crashes in MQTT 5 (Paho C++ 1.2.0).
  Result<std::vector<std::uint8_t>> subscribe(const std::vector<Filter>& filters, const std::stop_token& stop) {
    ::mqtt::subscribe_options options;
    if (settings_.version == Version::v5) options.set_retain_handling(::mqtt::subscribe_options::SEND_RETAINED_ON_NEW);
    auto answers = ask(filters.size(), stop, [&](std::size_t i) {
      return client_.subscribe(filters[i].filter, filters[i].qos, nullptr, *this, options);
    });
    if (!answers.ok()) return answers.error();
    std::vector<std::uint8_t> granted;
    for (const auto& answer : *answers) {
      try {
        answer->wait();
        auto response = answer->get_subscribe_response();
        if (response.get_reason_codes().size() != 1) return transient("the broker's SUBACK does not fit our SUBSCRIBE");
        granted.push_back(static_cast<std::uint8_t>(response.get_reason_codes().front()));
      } catch (const std::exception& error) {
        // Paho takes a SUBACK that refuses for a failure.
        int code = std::max<int>(answer->get_reason_code(), answer->get_return_code());
        if (code < 128 || code > 255) return transient(error.what());
        granted.push_back(static_cast<std::uint8_t>(code));
      }
    }
    return granted;
  }

  Result<void> unsubscribe(const std::vector<std::string>& filters, const std::stop_token& stop) {
    auto answers =
        ask(filters.size(), stop, [&](std::size_t i) { return client_.unsubscribe(filters[i], nullptr, *this); });
    if (!answers.ok()) return answers.error();
    return {};
  }

  bool wait_until_lost(const std::stop_token& stop, std::optional<std::chrono::milliseconds> patience) {
    std::unique_lock lock(mutex_);
    auto lost = [this] { return lost_; };
    if (patience) return changed_.wait_for(lock, stop, *patience, lost);
    return changed_.wait(lock, stop, lost);
  }

  void disconnect(std::chrono::milliseconds patience) {
    try {
      if (!client_.is_connected()) return;
      client_.disconnect(0)->wait_for(patience);
    } catch (const std::exception&) {
      // There is nobody left to say goodbye to.
    }
  }

 private:
  // Makes requests and waits until each has its answer, good or bad. Abandoned ones end with the client.
  template <class Request>
  Result<std::vector<::mqtt::token_ptr>> ask(std::size_t count, const std::stop_token& stop, Request request) {
    happened([this] { answers_ = 0; });
    std::vector<::mqtt::token_ptr> tokens;
    try {
      for (std::size_t i = 0; i < count; ++i) tokens.push_back(request(i));
    } catch (const std::exception& error) {
      return transient(error.what());
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, settings_.patience, [&] { return answers_ >= count || lost_; });
    if (answers_ >= count) return tokens;
    if (stop.stop_requested()) return transient("stopped");
    return transient(lost_ ? "the connection was lost" : "no answer from the broker");
  }

  void on_success(const ::mqtt::token&) override {
    happened([this] { ++answers_; });
  }
  void on_failure(const ::mqtt::token&) override {
    happened([this] { ++answers_; });
  }

  template <class Change>
  void happened(Change change) {
    std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }

  const SessionSettings settings_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::size_t answers_ = 0;
  bool lost_ = false;
  ::mqtt::async_client client_;  // last: its callbacks end first
};

Result<std::unique_ptr<Session>> Session::open(SessionSettings settings, std::uint16_t port) {
  try {
    return std::unique_ptr<Session>(new Session(std::make_unique<Paho>(std::move(settings), port)));
  } catch (const std::exception& error) {
    return transient(fmt::format("Paho cannot make a client: {}", error.what()));
  }
}

Session::Session(std::unique_ptr<Paho> paho) : paho_(std::move(paho)) {}
Session::~Session() = default;

Result<bool> Session::connect(std::stop_token stop) { return paho_->connect(stop); }
Result<std::vector<std::uint8_t>> Session::subscribe(const std::vector<Filter>& filters, std::stop_token stop) {
  return paho_->subscribe(filters, stop);
}
Result<void> Session::unsubscribe(const std::vector<std::string>& filters, std::stop_token stop) {
  return paho_->unsubscribe(filters, stop);
}
bool Session::wait_until_lost(std::stop_token stop, std::optional<std::chrono::milliseconds> patience) {
  return paho_->wait_until_lost(stop, patience);
}
void Session::disconnect(std::chrono::milliseconds patience) { paho_->disconnect(patience); }

}  // namespace penstock::mqtt
