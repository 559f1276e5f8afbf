#include "agent/forward/forwarder.h"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace penstock {

namespace {

// So many records in a row are set aside at once. More look like a topic that takes nothing at all: then each waits for
// its turn, so that somebody can look.
constexpr int kAsideInARow = 10;

}  // namespace

Forwarder::Writes Forwarder::own_writes(Store& store) {
  return {[&store](const Settlement& settlement, std::stop_token) { return store.settle(settlement); },
          [&store](Lane lane, Sequence sequence, const std::string& reason, std::stop_token) {
            return store.set_aside(lane, sequence, reason);
          }};
}

Forwarder::Forwarder(Store& store, Sink& sink, Writes writes, const Clock& clock, const Settings& settings)
    : store_(store),
      sink_(sink),
      writes_(std::move(writes)),
      clock_(clock),
      settings_(settings),
      size_(settings.limits, settings.batch_time, settings.rate_limit),
      backoff_(settings.backoff_first) {}

Result<void> Forwarder::run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    if (auto turn = step(stop); !turn) return turn;
  }
  return {};
}

Result<void> Forwarder::step(std::stop_token stop) { return certain_ ? send(stop) : ask(stop); }

Result<void> Forwarder::ask(std::stop_token stop) {
  mark_busy();
  ++status_.resumes;
  unproven_.reset();  // it is there or it is not: what the destination says decides
  auto standing = sink_.resume(stop);
  if (!standing) {
    if (standing.error().fault == Fault::broken) return standing.error();
    back_off(standing.error().what, stop);
    return {};
  }

  Settlement settlement = penstock::settle(store_.history(), standing->checkpoint);
  if (settlement.fork) {
    ++status_.forks;
    spdlog::warn("forwarder: {}", settlement.why);
  } else if (settlement.checkpoint_behind) {
    ++status_.checkpoints_behind;
    spdlog::warn("forwarder: {}", settlement.why);
  }
  if (auto settled = writes_.settle(settlement, stop); !settled) {
    if (settled.error().fault == Fault::broken) return settled;
    back_off(settled.error().what, stop);
    return {};
  }
  landed_ = std::move(standing->landed);
  landed_.keep(store_.history());
  if (!landed_.empty()) {
    ++status_.carried_out_in_part;
    spdlog::warn("forwarder: the last transactions were carried out in part: what is missing is sent again");
  }
  if (!status_.connected.exchange(true)) spdlog::info("forwarder: connected, going on where the destination stands");
  certain_ = true;
  return {};
}

Result<void> Forwarder::send(std::stop_token stop) {
  mark_busy();
  sink_.pace(stop);
  if (stop.stop_requested()) return {};
  mark_busy();
  std::uint64_t seen = store_.durable().value();  // before reading, so that no rise is slept through
  auto batch = store_.read(limits(), unproven_ ? &*unproven_ : nullptr);
  if (!batch) {
    if (batch.error().fault == Fault::broken) return batch.error();
    back_off(batch.error().what, stop);
    return {};
  }
  if (batch->empty()) {
    bool more = store_.durable().wait_for(seen + 1, settings_.idle, stop);
    if (unproven_ && !more && !stop.stop_requested()) look_again(stop);
    return {};
  }
  const Checkpoint sent = unproven_ ? *unproven_ : batch->base;
  if (unproven_) {
    if (auto there = prove(stop)) batch->base = *there;  // what it was read after is older
    if (unproven_ && clock_.boottime() - proven_at_ > settings_.proof_patience) {
      doubt();
      return {};
    }
  }
  landed_.strike(*batch, [this](Lane lane) { return store_.name_of(lane); });
  auto clear = clear_way(*batch, sent, stop);
  if (!clear) return clear.error();
  if (!*clear) return {};
  if (landed_.beyond(batch->after)) {
    batch->islands = true;
    // They were numbered by later runs, maybe, than what goes up to `after`: a copy of the store that has not lived
    // through these must be able to tell.
    auto history = store_.history();
    batch->after.runs = runs_up_to(history, history.last);
  }

  const std::size_t bytes = bytes_of(*batch);
  mark_busy();
  BootTime began = clock_.boottime();
  if (auto committed = sink_.commit(*batch, stop); !committed) {
    certain_ = false;  // it may have landed or not, now or later: only the destination knows
    if (committed.error().fault == Fault::rejected && !batch->records.empty()) {
      return narrow(*batch, committed.error().what, stop);
    }
    if (committed.error().fault == Fault::broken) return committed;
    size_.failed();
    back_off(committed.error().what, stop);
    return {};
  }
  size_.committed(bytes, clock_.boottime() - began, batch->more);
  if (!unproven_) proven_at_ = clock_.boottime();
  unproven_ = batch->after;
  failed_proofs_ = 0;
  set_aside_in_a_row_ = 0;
  waited_ = false;
  narrow_ = narrow_ >= settings_.limits.records ? 0 : narrow_ * 2;
  backoff_ = settings_.backoff_first;
  ++status_.commits;
  status_.records += batch->records.size();
  status_.gaps += batch->gaps.size();
  pace(*batch, began, stop);
  return {};
}

BatchLimits Forwarder::limits() {
  auto limits = size_.limits();
  status_.batch_bytes = limits.bytes;
  if (narrow_ != 0) limits.records = std::min(limits.records, narrow_);
  std::erase_if(waiting_, [now = clock_.boottime()](const auto& lane) { return lane.second <= now; });
  for (const auto& [lane, until] : waiting_) limits.without.insert(lane);
  return limits;
}

/// Takes out of the batch what cannot be sent now. False: there is nothing to commit, or the batch must be read anew.
Result<bool> Forwarder::clear_way(Batch& batch, const Checkpoint& sent, std::stop_token stop) {
  while (true) {
    mark_busy();
    auto obstacles = sink_.prepare(batch, stop);
    if (!obstacles && obstacles.error().fault == Fault::broken) return obstacles.error();
    if (!obstacles) {
      back_off(obstacles.error().what, stop);
      return false;
    }
    if (obstacles->empty()) return true;
    std::uint64_t aside = 0;
    std::string why;  // of the first
    auto tell_aside = [&] {
      if (aside == 0) return;
      spdlog::error(
          "forwarder: {} records cannot be written to their topics and are set aside as dead letters; the first: {}",
          aside, why);
    };
    for (const auto& obstacle : *obstacles) {
      mark_busy();  // each is a commit of the store
      if (!obstacle.for_good) {
        leave_out(batch, obstacle.lane, obstacle.sequence);
        waiting_[obstacle.lane] = clock_.boottime() + settings_.lane_wait;
        continue;
      }
      auto set_aside = writes_.set_aside(obstacle.lane, obstacle.sequence, obstacle.why, stop);
      if (!set_aside) tell_aside();
      if (!set_aside && set_aside.error().fault == Fault::broken) return set_aside.error();
      if (!set_aside) {
        back_off(set_aside.error().what, stop);
        return false;
      }
      ++status_.set_aside;
      if (++aside == 1) why = obstacle.why;
    }
    tell_aside();
    if (aside != 0) return false;
    bool moves = batch.after.ledger != sent.ledger || !reaches(sent.delivered, batch.after.delivered);
    if (batch.empty() && !moves) return false;
  }
}

/// What comes from there on in the lane: it is not part of the batch any more, nor of what Kafka has with it.
void Forwarder::leave_out(Batch& batch, Lane lane, Sequence from) {
  std::erase_if(batch.records, [&](const auto& stored) { return stored.lane == lane && stored.sequence >= from; });
  std::erase_if(batch.gaps, [&](const auto& gap) { return gap.lane == lane && gap.first >= from; });
  auto& delivered = batch.after.delivered;
  delivered[store_.name_of(lane)] = Sequence(from.value() - 1);
  std::erase_if(delivered, [](const auto& position) { return position.second == Sequence(); });
  if (auto runs = runs_up_to(store_.history(), batch.after.delivered); !runs.empty())
    batch.after.runs = std::move(runs);
}

Result<void> Forwarder::narrow(const Batch& batch, const std::string& why, std::stop_token stop) {
  if (batch.records.size() > 1) {
    ++status_.failures;
    narrow_ = batch.records.size() / 2;
    return {};
  }
  if (set_aside_in_a_row_ >= kAsideInARow && !waited_) {
    back_off(why, stop);
    waited_ = true;  // and now once more
    return {};
  }
  waited_ = false;
  ++status_.failures;
  const auto& stored = batch.records.front();
  auto set_aside = writes_.set_aside(stored.lane, stored.sequence, why, stop);
  if (!set_aside && set_aside.error().fault == Fault::broken) return set_aside;
  if (!set_aside) {
    back_off(set_aside.error().what, stop);
    return {};
  }
  ++set_aside_in_a_row_;
  ++status_.set_aside;
  spdlog::error("forwarder: a record is refused for good and set aside as a dead letter: {}", why);
  return {};
}

/// Up to where there is proof now, if it is more than before.
std::optional<Checkpoint> Forwarder::prove(std::stop_token stop) {
  mark_busy();
  auto there = sink_.proven(stop);
  if (there) {
    store_.delivered(*there);
    proven_at_ = clock_.boottime();
    if (*there == *unproven_) unproven_.reset();
  }
  return there;
}

void Forwarder::look_again(std::stop_token stop) {
  if (auto there = prove(stop); there && !unproven_) sink_.pause(*there, stop);
  if (unproven_ && ++failed_proofs_ >= settings_.proofs) doubt();
}

void Forwarder::doubt() {
  spdlog::warn("forwarder: what was committed cannot be seen by consumers: asking again where the destination stands");
  failed_proofs_ = 0;
  certain_ = false;
}

void Forwarder::back_off(const std::string& why, std::stop_token stop) {
  ++status_.failures;
  certain_ = false;
  if (stop.stop_requested()) return;
  if (status_.connected.exchange(false) || status_.failures == 1) spdlog::warn("forwarder: {}; trying again", why);
  mark_busy();
  // Half of it fixed, half of it random: a thousand gateways that lost one broker must not return in step.
  auto half = std::max<std::int64_t>(backoff_.count() / 2, 1);
  std::uniform_int_distribution<std::int64_t> more(0, half);
  clock_.sleep(std::chrono::milliseconds(half + more(jitter_)), stop);
  backoff_ = std::min(backoff_ * 2, settings_.backoff_most);
}

void Forwarder::pace(const Batch& batch, BootTime began, std::stop_token stop) {
  if (batch.more) return;  // a backlog: waiting would only make it longer
  auto rest = began + settings_.batch_interval - clock_.boottime();
  if (rest <= BootTime::zero()) return;
  mark_busy();
  clock_.sleep(rest, stop);
}

}  // namespace penstock
