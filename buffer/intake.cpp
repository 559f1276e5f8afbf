#include "buffer/intake.h"

#include <utility>

namespace penstock {
namespace {

std::size_t bytes_of(const Group& group) {
  std::size_t sum = 64;
  for (const auto& record : group.records) sum += record.bytes();
  for (const auto& change : group.changes) sum += change.name.size() + (change.value ? change.value->size() : 0);
  return sum;
}

}  // namespace

Intake::Intake(std::size_t capacity_bytes) : capacity_(capacity_bytes) {}

bool Intake::room_for(std::size_t bytes) const { return waiting_.empty() || bytes_ + bytes <= capacity_; }

Ticket Intake::admit(Group& group, std::size_t bytes) {
  waiting_.push_back({std::move(group), bytes});
  bytes_ += bytes;
  ready_.notify_one();
  return ++accepted_;
}

Result<Ticket> Intake::offer(Group& group) {
  std::size_t bytes = bytes_of(group);
  std::lock_guard lock(mutex_);
  if (closed_) return transient("the intake is closed: the agent is stopping");
  if (!room_for(bytes)) return full("the intake is full");
  return admit(group, bytes);
}

Result<Ticket> Intake::put(Group& group, std::stop_token stop) {
  std::size_t bytes = bytes_of(group);
  std::unique_lock lock(mutex_);
  bool let_in = room_.wait(lock, stop, [&] { return closed_ || room_for(bytes); });
  if (closed_) return transient("the intake is closed: the agent is stopping");
  if (!let_in) return transient("stopped while waiting for room in the intake");
  return admit(group, bytes);
}

Intake::Taken Intake::take(std::chrono::nanoseconds idle, std::chrono::steady_clock::time_point ripe_at,
                           std::size_t ripe_bytes, std::size_t most_bytes) {
  std::unique_lock lock(mutex_);
  ready_.wait_for(lock, idle, [&] { return !waiting_.empty() || closed_ || woken_; });
  if (!waiting_.empty()) {
    ready_.wait_until(lock, ripe_at, [&] { return closed_ || bytes_ >= ripe_bytes; });
  }
  woken_ = false;

  Taken taken;
  std::size_t bytes = 0;
  while (!waiting_.empty() && (bytes == 0 || bytes + waiting_.front().bytes <= most_bytes)) {
    bytes += waiting_.front().bytes;
    taken.groups.push_back(std::move(waiting_.front().group));
    waiting_.pop_front();
  }
  bytes_ -= bytes;
  taken.last = accepted_ - waiting_.size();
  lock.unlock();
  if (!taken.groups.empty()) room_.notify_all();
  return taken;
}

void Intake::wake() {
  std::lock_guard lock(mutex_);
  woken_ = true;
  ready_.notify_all();
}

void Intake::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  ready_.notify_all();
  room_.notify_all();
}

bool Intake::closed() const {
  std::lock_guard lock(mutex_);
  return closed_;
}

std::size_t Intake::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

Ticket Intake::accepted() const {
  std::lock_guard lock(mutex_);
  return accepted_;
}

}  // namespace penstock
