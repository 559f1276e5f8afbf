#include "agent/daemon/writer.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace penstock {

Writer::Writer(Disk& disk, Intake& intake, const Clock& clock, const Settings& settings)
    : disk_(disk), intake_(intake), clock_(clock), settings_(settings) {
  status_.last_turn = clock.boottime().count();
}

Result<void> Writer::run(std::stop_token stop) {
  std::stop_callback wake(stop, [this] { intake_.wake(); });
  Result<void> ended = loop(stop);
  refuse(ended.ok() ? "the writer has ended: the agent is stopping" : ended.error().what);
  return ended;
}

Result<void> Writer::loop(std::stop_token stop) {
  last_commit_ = Steady::now() - settings_.commit_interval;
  Steady::time_point last_work = Steady::now();
  while (!stop.stop_requested()) {
    status_.last_turn = clock_.boottime().count();
    if (auto served = serve(); !served) return served;

    // One rule for both cases: after an idle interval this instant is in the past, and the first group goes at once.
    auto ripe_at = last_commit_ + settings_.commit_interval;
    auto idle = prewriting_ ? std::min(settings_.turn, settings_.prewrite_pause) : settings_.turn;
    if (!kept_.empty()) idle = std::min(idle, settings_.full_retry);
    Intake::Taken taken;
    if (keeps_too_much()) {
      pause(settings_.full_retry, stop);
    } else {
      taken = intake_.take(idle, ripe_at, settings_.commit_bytes, settings_.most_bytes);
    }
    if (!taken.groups.empty()) {
      tell_listeners();
      if (auto done = commit(taken.groups, taken.last, stop); !done) return done;
      last_work = Steady::now();
    } else if (!kept_.empty()) {
      if (auto done = commit(taken.groups, 0, stop); !done) return done;
    } else if (Steady::now() - last_work >= settings_.idle_commit) {
      last_work = Steady::now();
      if (disk_.wants_commit()) {
        std::vector<Group> nothing;
        if (auto done = commit(nothing, 0, stop); !done) return done;
      }
    } else if (intake_.closed()) {
      pause(settings_.turn, stop);  // take() does not wait on a closed Intake
    }
    if (auto done = prewrite(); !done) return done;
  }
  return finish();
}

Result<void> Writer::finish() {
  std::stop_source stopped;
  stopped.request_stop();
  while (true) {
    Intake::Taken taken = intake_.take({}, {}, 0, settings_.most_bytes);
    if (taken.groups.empty()) break;
    if (auto done = commit(taken.groups, taken.last, stopped.get_token()); !done) return done;
  }
  if (auto done = forget_kept(); !done) return done;
  bool noted = [&] {
    std::lock_guard lock(mutex_);
    return !notes_.empty();
  }();
  if (noted || disk_.wants_commit()) {
    std::vector<Group> nothing;
    return commit(nothing, 0, stopped.get_token());
  }
  return {};
}

Result<void> Writer::commit(std::vector<Group>& groups, Ticket last, std::stop_token stop) {
  auto tickets = put_kept_before(groups, last);
  add_notes(groups);
  std::size_t records = 0;
  for (const auto& group : groups) records += group.records.size();

  last_commit_ = Steady::now();
  std::vector<std::size_t> left;
  while (true) {
    Result<void> done = disk_.commit(groups, &left);
    if (done) break;
    if (done.error().fault != Fault::full && done.error().fault != Fault::transient) {
      return broken(fmt::format("commit of {} records failed: {}", records, done.error().what));
    }
    if (stop.stop_requested()) return give_up(groups, done.error());
    if (!status_.waiting_for_room.exchange(true)) {
      spdlog::warn("the queue takes nothing now, the drivers wait: {}", done.error().what);
    }
    if (auto waited = wait_for_room(stop); !waited) return waited;
    last_commit_ = Steady::now();
  }
  for (auto i : left) {
    records -= groups[i].records.size();
    kept_.push_back({std::move(groups[i]), tickets[i]});
  }
  const bool waits = !kept_.empty();
  if (status_.waiting_for_room.exchange(waits) != waits) {
    if (waits)
      spdlog::warn("the queue is full: what is sent again without an answer waits, everything else is refused");
    if (!waits) spdlog::info("the queue takes records again");
  }
  status_.commits += 1;
  status_.groups += tickets.size() - left.size();
  status_.records += records;
  if (Ticket all = waits ? kept_.front().ticket - 1 : last_taken_; all > durable_.value()) {
    durable_.raise(all);
    tell_listeners();
  }
  return {};
}

/// Gives the ticket of each group; what is kept is offered again before anything newer.
std::vector<Ticket> Writer::put_kept_before(std::vector<Group>& groups, Ticket last) {
  last_taken_ = std::max(last_taken_, last);
  std::vector<Ticket> tickets;
  for (const auto& kept : kept_) tickets.push_back(kept.ticket);
  for (std::size_t i = 0; i < groups.size(); ++i) tickets.push_back(last - groups.size() + 1 + i);
  if (kept_.empty()) return tickets;
  std::vector<Group> all;
  for (auto& kept : std::exchange(kept_, {})) all.push_back(std::move(kept.group));
  std::move(groups.begin(), groups.end(), std::back_inserter(all));
  groups = std::move(all);
  return tickets;
}

bool Writer::keeps_too_much() const {
  std::size_t bytes = 0;
  for (const auto& kept : kept_) {
    for (const auto& record : kept.group.records) bytes += record.bytes();
  }
  return bytes > intake_.capacity_bytes() / 2;
}

/// At the end: all of it was acknowledged to nobody, and but for a few all of it will be sent again.
Result<void> Writer::forget_kept() {
  std::vector<Group> groups;
  for (auto& kept : std::exchange(kept_, {})) groups.push_back(std::move(kept.group));
  if (groups.empty()) return {};
  return give_up(groups, full("the queue is full"));
}

/// Gives the store a chance to delete what Kafka has meanwhile, keeps the loop turning, and waits a little.
Result<void> Writer::wait_for_room(std::stop_token stop) {
  status_.last_turn = clock_.boottime().count();
  if (auto served = serve(); !served) return served;
  if (disk_.wants_commit()) {
    if (auto done = disk_.commit({}); !done && done.error().fault == Fault::broken) return done;
  }
  pause(settings_.full_retry, stop);
  return {};
}

/// The agent stops while the store is full: what is in hand was acknowledged to nobody; say so in the ledger.
Result<void> Writer::give_up(const std::vector<Group>& groups, const Error& why) {
  std::vector<Group> refusals;
  std::uint64_t records = 0;
  for (const auto& group : groups) {
    std::uint64_t count = group.comes_again ? group.sent_once : group.records.size();
    if (group.refusal) count += group.refusal->count;
    if (count == 0) continue;
    records += count;
    refusals.push_back({group.lane, group.driver, {}, {}, Refusal{Cause::refused, count}});
  }
  if (refusals.empty()) return {};
  spdlog::error("{} records could not be stored before the stop: {}", records, why.what);
  if (auto done = disk_.commit(refusals); !done) {
    if (done.error().fault == Fault::broken) return done;
    spdlog::error("nor could their loss be entered in the ledger: {}", done.error().what);
  }
  return {};
}

/// A step when one is due. What keeps it from going on (a full disk, most of all) ends it until the next start: the store
/// works without, at more flushes.
Result<void> Writer::prewrite() {
  if (!prewriting_ || Steady::now() < next_prewrite_) return {};
  auto more = disk_.prewrite_step();
  if (!more && more.error().fault == Fault::broken) return more.error();
  if (!more) spdlog::warn("pre-writing of the queue's file ends here: {}", more.error().what);
  prewriting_ = more.ok() && *more;
  next_prewrite_ = Steady::now() + settings_.prewrite_pause;
  return {};
}

std::shared_ptr<Writer::Request> Writer::ask(std::function<Result<void>()> work) {
  auto request = std::make_shared<Request>();
  request->work_ = std::move(work);
  {
    std::lock_guard lock(mutex_);
    if (ended_) {
      request->answer_ = transient(ended_why_);
      return request;
    }
    requests_.push_back(request);
    asked_.notify_all();
  }
  intake_.wake();
  return request;
}

std::optional<Result<void>> Writer::answer_of(const Request& request) const {
  std::lock_guard lock(mutex_);
  return request.answer_;
}

Result<void> Writer::settle(const Settlement& settlement, std::stop_token stop) {
  return perform([this, &settlement] { return disk_.settle(settlement); }, std::move(stop));
}

Result<void> Writer::perform(std::function<Result<void>()> work, std::stop_token stop) {
  auto request = ask(std::move(work));
  std::unique_lock lock(mutex_);
  answered_.wait(lock, stop, [&] { return request->answer_.has_value(); });
  if (!request->answer_ && request->begun_) answered_.wait(lock, [&] { return request->answer_.has_value(); });
  if (request->answer_) return *request->answer_;
  std::erase(requests_, request);
  return transient("stopped while waiting for the writer");
}

Result<void> Writer::serve() {
  std::unique_lock lock(mutex_);
  while (!requests_.empty()) {
    auto request = std::move(requests_.front());
    requests_.pop_front();
    request->begun_ = true;
    lock.unlock();
    Result<void> answer = request->work_();
    lock.lock();
    request->answer_ = answer;
    answered_.notify_all();
    if (!answer && answer.error().fault == Fault::broken) return answer;
  }
  return {};
}

void Writer::refuse(const std::string& why) {
  std::lock_guard lock(mutex_);
  ended_ = true;
  ended_why_ = why;
  for (const auto& request : requests_) request->answer_ = transient(why);
  requests_.clear();
  answered_.notify_all();
}

void Writer::note(const std::string& owner, StateChange change) {
  std::lock_guard lock(mutex_);
  notes_[{owner, std::move(change.name)}] = std::move(change.value);
}

void Writer::add_notes(std::vector<Group>& groups) {
  std::lock_guard lock(mutex_);
  for (auto& [place, value] : notes_) {
    const auto& [owner, name] = place;
    if (groups.empty() || groups.back().driver != owner || !groups.back().records.empty()) {
      groups.push_back({Lane{}, owner, {}, {}, {}});
    }
    groups.back().changes.push_back({name, std::move(value)});
  }
  notes_.clear();
}

void Writer::attach(Listener& listener) {
  std::lock_guard lock(listeners_mutex_);
  listeners_.push_back(&listener);
}

void Writer::detach(Listener& listener) {
  std::lock_guard lock(listeners_mutex_);
  std::erase(listeners_, &listener);
}

void Writer::tell_listeners() {
  std::lock_guard lock(listeners_mutex_);
  for (Listener* listener : listeners_) listener->progressed();
}

void Writer::pause(std::chrono::milliseconds most, std::stop_token stop) {
  std::unique_lock lock(mutex_);
  asked_.wait_for(lock, stop, most, [&] { return !requests_.empty(); });
}

}  // namespace penstock
