#include "agent/demo/tap.h"

#include <chrono>
#include <condition_variable>
#include <utility>

namespace penstock {
namespace {

/// The agent's Outlet, with every record entered before it passes.
class CountingOutlet final : public Outlet {
 public:
  CountingOutlet(Outlet& outlet, Account& account, const std::string& driver)
      : outlet_(outlet), account_(account), driver_(driver) {}

  Result<Ticket> offer(std::vector<Record>& records, std::vector<StateChange>& changes,
                       std::optional<std::uint64_t> sent_once = {}) override {
    auto numbers = enter(records);
    auto ticket = outlet_.offer(records, changes, sent_once);
    if (!ticket) {
      take_back(numbers);
      for (auto& record : records) record.headers.pop_back();  // the number: as untouched as it was handed to us
    }
    return remember(std::move(ticket));
  }

  Result<Ticket> put(std::vector<Record> records, std::vector<StateChange> changes, std::stop_token stop) override {
    auto numbers = enter(records);
    auto ticket = outlet_.put(std::move(records), std::move(changes), std::move(stop));
    if (!ticket) take_back(numbers);
    return remember(std::move(ticket));
  }

  Result<Ticket> give_up(Cause cause, std::uint64_t count) override { return outlet_.give_up(cause, count); }
  Ticket durable() const override { return outlet_.durable(); }
  bool wait_durable(Ticket ticket, std::stop_token stop) const override { return outlet_.wait_durable(ticket, stop); }
  void on_durable(std::function<void()> call) override { outlet_.on_durable(std::move(call)); }
  Result<std::optional<std::string>> state(std::string_view name) const override { return outlet_.state(name); }
  Result<std::vector<std::pair<std::string, std::string>>> states(std::string_view prefix) const override {
    return outlet_.states(prefix);
  }
  std::size_t max_record_bytes() const override { return outlet_.max_record_bytes(); }
  void count(std::string_view event, std::uint64_t by) override { outlet_.count(event, by); }
  void say(std::string_view state) override { outlet_.say(state); }

  Ticket last() const { return last_; }

 private:
  std::vector<std::uint64_t> enter(std::vector<Record>& records) {
    std::vector<std::uint64_t> numbers;
    numbers.reserve(records.size());
    for (auto& record : records) {
      numbers.push_back(account_.enter(checksum_of(driver_, record.stream, record.content_type, record.payload)));
      record.headers.push_back({kNumberHeader, std::to_string(numbers.back())});
    }
    return numbers;
  }

  void take_back(const std::vector<std::uint64_t>& numbers) {
    for (auto number : numbers) account_.take_back(number);
  }

  Result<Ticket> remember(Result<Ticket> ticket) {
    if (ticket) {
      Ticket now = last_;
      while (now < *ticket && !last_.compare_exchange_weak(now, *ticket)) {
      }
    }
    return ticket;
  }

  Outlet& outlet_;
  Account& account_;
  const std::string& driver_;
  std::atomic<Ticket> last_{0};
};

/// Waits until a stop is asked for.
void wait_for_stop(std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any asked;
  std::unique_lock lock(mutex);
  asked.wait(lock, stop, [] { return false; });
}

}  // namespace

class Tap::Counted final : public Driver {
 public:
  Counted(Tap& tap, std::string name, std::unique_ptr<Driver> driver)
      : tap_(tap), name_(std::move(name)), driver_(std::move(driver)) {}

  Result<void> run(Outlet& outlet, const Clock& clock, std::stop_token stop) override {
    CountingOutlet counting(outlet, tap_.account_, name_);
    auto ended = run_until_closed(counting, clock, stop);
    if (!ended) {
      if (!tap_.closing_.stop_requested()) return ended;  // the supervisor logs it and calls again
    }
    // Not "sent" before it is on disk. A stop of the agent ends the waiting, and then nobody calls it closed.
    if (!outlet.wait_durable(counting.last(), stop)) return {};
    if (!std::exchange(done_, true)) --tap_.open_;
    wait_for_stop(stop);
    return {};
  }

 private:
  /// The driver, stopped by the agent or by the Tap, whichever comes first.
  Result<void> run_until_closed(Outlet& outlet, const Clock& clock, std::stop_token stop) {
    std::stop_source either;
    auto pass_on = [&] { either.request_stop(); };
    std::stop_callback by_agent(stop, pass_on);
    std::stop_callback by_tap(tap_.closing_.get_token(), pass_on);
    return driver_->run(outlet, clock, either.get_token());
  }

  Tap& tap_;
  const std::string name_;
  std::unique_ptr<Driver> driver_;
  bool done_ = false;
};

std::unique_ptr<Driver> Tap::wrap(std::string name, std::unique_ptr<Driver> driver) {
  ++open_;
  return std::make_unique<Counted>(*this, std::move(name), std::move(driver));
}

}  // namespace penstock
