// The store against a naive model: random commits, reads, deliveries, lives, forks and fullness on a small disk.
//
// The model remembers every record ever numbered and what the destination was given. What is checked at every step: a
// batch continues each lane without a hole, every record is the one that was put, no record and no gap comes twice, the
// epochs are right, states are kept. At the end everything is drained and each sequence must have come once, as a
// record or in a gap, and each refusal must have been told once. PENSTOCK_MODEL_SEEDS says how many seeds; a seed that
// failed once is kept below.
#include <cstdlib>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "buffer/store.h"
#include "tests/catch.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace store_model_test {

constexpr std::uint64_t kKeptSeeds[] = {1};
constexpr int kSteps = 250, kFewSteps = 40;
const std::vector<std::string> kLanes = {"telemetry", "alarms"};

struct ModelLane {
  std::deque<std::string> records;                      // payload of sequence 1, 2, ...
  std::set<std::uint64_t> aside;                        // set aside: never a record again
  std::deque<bool> told;                                // the destination has it, as a record or in a gap
  std::vector<std::pair<std::uint64_t, Epoch>> epochs;  // from this sequence on
  const Epoch& epoch_of(std::uint64_t sequence) const {
    auto i = epochs.size() - 1;
    while (epochs[i].first > sequence) --i;
    return epochs[i].second;
  }
};

class Model {
 public:
  explicit Model(std::uint64_t seed) : random_(seed) {
    settings_.directory = folder_.path() / "queue";
    settings_.agent = "model";
    settings_.capacity_bytes = 1 << 20;
    settings_.journal_bytes = std::size_t{64} << 10 << pick(0, 2);
    settings_.max_record_bytes = 40'000;
    settings_.when_full = static_cast<WhenFull>(pick(0, 2));
    settings_.compression_level = static_cast<int>(pick(0, 1));
    settings_.lanes = {{kLanes[0], 1}, {kLanes[1], 0}};
    if (pick(0, 2) == 0) settings_.lanes[0].max_age = std::chrono::milliseconds(pick(200, 3'000));
    if (pick(0, 2) == 0) settings_.lanes[0].share = 0.01 * static_cast<double>(pick(0, 50));
    open();
    for (const auto& name : kLanes) lanes_[name].epochs.emplace_back(1, store_->status().epoch);
  }

  void run(int steps) {
    for (int step = 0; step < steps; ++step) {
      auto what = pick(0, 99);
      if (what < 45)
        append();
      else if (what < 60)
        commit({});
      else if (what < 90)
        forward();
      else if (what < 93)
        set_aside();
      else if (what < 95)
        redo();
      else if (what < 98)
        live_again();
      else
        fork();
      check_status();
    }
    drain();
  }

 private:
  std::uint64_t pick(std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random_);
  }
  static void must(Result<void> result) {
    if (!result) FAIL(result.error().what);
  }

  void open() {
    store_.reset();
    auto opened = Store::open(settings_, clock_);
    if (!opened) FAIL(opened.error().what);
    store_ = std::move(*opened);
    if (store_->mended()) FAIL(describe(*store_->mended()));
  }

  LaneStatus status_of(const std::string& name) {
    for (auto& row : store_->status().lanes) {
      if (row.name == name) return row;
    }
    FAIL("no lane " << name);
    return {};
  }

  std::string payload() {
    std::size_t size = pick(0, 19) == 0 ? pick(3'000, 39'000) : pick(0, 400);
    std::string text = std::to_string(++put_) + ':';
    bool noisy = pick(0, 2) != 0;
    while (text.size() < size) text += noisy ? static_cast<char>(random_()) : 'x';
    return text;
  }

  void append() {
    // Under reject_newest a group is taken or refused whole: one a commit, so that the model knows which.
    std::size_t count = settings_.when_full == WhenFull::reject_newest ? 1 : pick(1, 3);
    std::vector<Group> groups;
    for (std::size_t i = 0; i < count; ++i) {
      const auto& name = kLanes[pick(0, 4) == 0 ? 1 : 0];
      Group group;
      group.lane = store_->lane(name).value();
      group.driver = "driver";
      for (auto n = pick(0, 40); n > 0; --n) {
        Record record;
        record.driver = "driver";
        record.stream = "s/" + std::to_string(pick(0, 2));
        record.time = clock_.wall();
        record.boottime = clock_.boottime();
        record.payload = pick(0, 200) == 0 ? std::string(40'000, 'L') : payload();
        group.records.push_back(std::move(record));
      }
      if (pick(0, 2) == 0) {
        auto state = "id/" + std::to_string(pick(0, 9));
        group.changes.push_back({state, pick(0, 3) == 0 ? std::nullopt : std::optional(std::to_string(put_))});
      }
      if (pick(0, 9) == 0) group.refusal = Refusal{Cause::refused, pick(1, 5)};
      groups.push_back(std::move(group));
    }
    clock_.tick(std::chrono::milliseconds(pick(0, 100)));
    commit(groups);
  }

  void commit(const std::vector<Group>& groups) {
    std::map<std::string, Sequence> before;
    for (const auto& name : kLanes) before[name] = status_of(name).last;
    auto done = store_->commit(groups);
    if (!done) {
      if (done.error().fault != Fault::full || settings_.when_full != WhenFull::block) FAIL(done.error().what);
      for (const auto& name : kLanes) {
        if (status_of(name).last != before[name]) FAIL("full, but something was taken");
      }
      return;
    }
    for (const auto& group : groups) {
      auto name = store_->name_of(group.lane);
      auto& lane = lanes_[name];
      bool refused = settings_.when_full == WhenFull::reject_newest && status_of(name).last == before[name];
      for (const auto& record : group.records) {
        if (refused || record.bytes() > settings_.max_record_bytes) {
          ++refused_;
        } else {
          lane.records.push_back(record.payload);
          lane.told.push_back(false);
        }
      }
      if (group.refusal) refused_ += group.refusal->count;
      for (const auto& change : group.changes) {
        if (change.value)
          states_[change.name] = *change.value;
        else
          states_.erase(change.name);
      }
    }
  }

  /// A batch goes to the destination, which may lose it, or take it and lose the reply.
  void forward() {
    BatchLimits limits;
    limits.records = pick(1, 300);
    limits.bytes = pick(1, 200'000);
    auto batch = store_->read(limits);
    if (!batch) FAIL(batch.error().what);
    check(*batch);
    auto fate = pick(0, 9);
    if (batch->empty() || fate == 0) return;
    land(*batch);
    if (fate == 1) return live_again();
    store_->delivered(batch->after);
  }

  void check(const Batch& batch) {
    std::map<std::string, std::map<std::uint64_t, std::uint64_t>> ranges;  // first -> last
    for (const auto& stored : batch.records) {
      auto name = store_->name_of(stored.lane);
      auto& lane = lanes_[name];
      auto sequence = stored.sequence.value();
      if (sequence > lane.records.size()) FAIL(name << " " << sequence << " was never put");
      if (stored.record.payload != lane.records[sequence - 1]) FAIL(name << " " << sequence << " is another record");
      if (lane.aside.count(sequence) != 0) FAIL(name << " " << sequence << " was set aside and is a record again");
      if (stored.epoch != lane.epoch_of(sequence)) FAIL(name << " " << sequence << " has another epoch");
      if (!ranges[name].emplace(sequence, sequence).second) FAIL(name << " " << sequence << " twice in one batch");
    }
    for (const auto& gap : batch.gaps) {
      if (gap.first == Sequence()) continue;
      auto name = store_->name_of(gap.lane);
      bool may_expire = name == kLanes[0] && settings_.lanes[0].max_age.count() != 0;
      bool policy =
          gap.cause == Cause::evicted || gap.cause == Cause::dead_letter || (gap.cause == Cause::expired && may_expire);
      if (!policy) FAIL(name << ": a gap by " << name_of(gap.cause));
      for (auto s = gap.first.value(); s <= gap.last.value(); ++s) {
        bool aside = lanes_[name].aside.count(s) != 0;
        if (aside != (gap.cause == Cause::dead_letter))
          FAIL(name << ": " << s << " in a gap by " << name_of(gap.cause));
      }
      if (gap.epoch != lanes_[name].epoch_of(gap.first.value())) FAIL(name << ": a gap with another epoch");
      if (gap.count != count_between(gap.first, gap.last)) FAIL(name << ": a gap with another count");
      if (!ranges[name].emplace(gap.first.value(), gap.last.value()).second) FAIL(name << ": a gap twice");
    }
    for (const auto& [name, found] : ranges) {
      auto next = status_of(name).delivered.value() + 1;
      for (auto [first, last] : found) {
        if (first != next) FAIL(name << ": expected " << next << ", found " << first);
        next = last + 1;
      }
      if (at(batch.after.delivered, name).value() != next - 1) FAIL(name << ": the checkpoint says another end");
    }
  }

  void land(const Batch& batch) {
    auto tell = [&](Lane lane, Sequence first, Sequence last) {
      auto name = store_->name_of(lane);
      for (auto s = first.value(); s <= last.value(); ++s) {
        if (lanes_[name].told.at(s - 1)) FAIL(name << " " << s << " came twice");
        lanes_[name].told[s - 1] = true;
      }
    };
    for (const auto& stored : batch.records) tell(stored.lane, stored.sequence, stored.sequence);
    for (const auto& gap : batch.gaps) {
      if (gap.first == Sequence())
        told_refused_ += gap.count;
      else
        tell(gap.lane, gap.first, gap.last);
    }
    checkpoint_ = batch.after;
  }

  /// Dead letters that are listed must be those the model knows; what is missing was evicted and will be told.
  void check_letters() {
    auto found = store_->dead_letters(std::nullopt, {});
    if (!found) FAIL(found.error().what);
    std::set<DeadLetterId> listed;
    for (const auto& letter : *found) {
      auto known = letters_.find(letter.id());
      if (known == letters_.end()) FAIL("a dead letter that is none: " << letter.stored.sequence.value());
      if (letter.damaged || letter.stored.record.payload != known->second) FAIL("a dead letter is another record");
      listed.insert(letter.id());
    }
    refused_ += letters_.size() - listed.size();
    std::erase_if(letters_, [&](const auto& letter) { return listed.count(letter.first) == 0; });
    if (store_->status().dead_letters != letters_.size()) FAIL("another count of dead letters");
    auto most = settings_.capacity_bytes / store_->status().page_bytes / 20;
    if (store_->status().dead_letter_pages > most) FAIL("more dead letters than there may be");
  }

  void set_aside() {
    const auto& name = kLanes[pick(0, 1)];
    auto status = status_of(name);
    if (status.delivered == status.last) return;
    Sequence sequence(pick(status.delivered.value() + 1, status.last.value()));
    auto there = store_->peek(status.lane, sequence, {1, 1});
    if (!there) FAIL(there.error().what);
    bool known = !there->empty() && there->front().sequence == sequence;
    auto& lane = lanes_[name];
    DeadLetterId id{lane.epoch_of(sequence.value()), status.lane, sequence};
    bool already = letters_.count(id) != 0;
    auto done = store_->set_aside(status.lane, sequence, "model");
    if (done.ok() != (known || already))
      FAIL(name << " " << sequence.value() << ": " << (done ? "set aside" : done.error().what));
    if (!known) return;
    auto gaps = store_->gaps();
    bool aside = std::any_of(gaps.begin(), gaps.end(), [&](const Gap& gap) {
      return gap.cause == Cause::dead_letter && gap.lane == status.lane && gap.first <= sequence &&
             sequence <= gap.last;
    });
    if (aside) {  // else it was evicted while room was made for it
      lane.aside.insert(sequence.value());
      letters_[id] = lane.records[sequence.value() - 1];
    }
    check_letters();
  }

  /// Retries or discards some, and names one that there is not.
  void redo() {
    std::vector<DeadLetterId> ids;
    for (const auto& [id, payload] : letters_) {
      if (pick(0, 2) == 0) ids.push_back(id);
    }
    ids.push_back({draw<Epoch>(), Lane{0}, Sequence(1)});
    bool again = pick(0, 2) != 0;
    auto done = again ? store_->retry(ids) : store_->discard(ids);
    if (!done) FAIL(done.error().what);
    bool whole = done->no_room.empty();
    if (!whole && (!again || settings_.when_full == WhenFull::evict_oldest)) FAIL(done->no_room);
    if (whole && (done->done != ids.size() - 1 || done->missing.size() != 1)) FAIL("not all were found");
    auto found = store_->dead_letters(std::nullopt, {});
    if (!found) FAIL(found.error().what);
    ids.pop_back();
    for (const auto& id : ids) {
      bool left =
          std::any_of(found->begin(), found->end(), [&](const DeadLetter& letter) { return letter.id() == id; });
      if (left && whole) FAIL("a dead letter that was taken is still there");
      if (left) continue;
      auto& lane = lanes_[store_->name_of(id.lane)];
      if (again) {
        lane.records.push_back(letters_[id]);
        lane.told.push_back(false);
      } else {
        ++refused_;
      }
      letters_.erase(id);
    }
    check_letters();
  }

  void live_again() {
    open();
    settle_now(false);
    check_letters();
    auto states = store_->states("driver", "");
    if (!states || std::map<std::string, std::string>(states->begin(), states->end()) != states_) FAIL("other states");
  }

  void settle_now(bool fork_expected) {
    auto settlement = settle(store_->history(), checkpoint_);
    if (settlement.fork != fork_expected) FAIL((fork_expected ? "no fork" : "a fork: " + settlement.why));
    must(store_->settle(settlement));
  }

  /// Another copy of this store has been at the destination: it knew all that we sent, and sent more of its own.
  void fork() {
    if (!checkpoint_ || !store_->read({})) return;
    auto copy = *checkpoint_;
    copy.epoch = draw<Epoch>();
    RunEntry run{draw<Run>(), copy.epoch, {}};
    for (const auto& name : kLanes) {
      run.first[name] = at(copy.delivered, name).next();
      copy.delivered[name] = Sequence(at(copy.delivered, name).value() + pick(0, 3));
    }
    copy.runs.push_back(run);
    checkpoint_ = copy;
    // What was told before stays told. Everything above our own mark gets another name.
    settle_now(true);
    for (const auto& name : kLanes) {
      auto from = status_of(name).delivered.value() + 1;
      auto& lane = lanes_[name];
      while (!lane.epochs.empty() && lane.epochs.back().first >= from && lane.epochs.size() > 1) lane.epochs.pop_back();
      lane.epochs.emplace_back(from, store_->status().epoch);
      for (auto s = from; s <= lane.told.size(); ++s) {
        if (lane.told[s - 1]) FAIL(name << ": " << s << " was told and is not delivered");
      }
    }
  }

  void check_status() {
    for (const auto& name : kLanes) {
      auto row = status_of(name);
      if (row.last.value() != lanes_[name].records.size()) FAIL(name << ": last is " << row.last.value());
      if (row.durable > row.last || row.delivered > row.durable) FAIL(name << ": marks out of order");
    }
  }

  void drain() {
    for (int i = 0;; ++i) {
      if (i == 10'000) FAIL("not drained");
      must(store_->commit({}));
      auto batch = store_->read({});
      if (!batch) FAIL(batch.error().what);
      check(*batch);
      land(*batch);
      store_->delivered(batch->after);
      if (batch->empty() && !store_->wants_commit()) break;
    }
    for (const auto& name : kLanes) {
      for (std::size_t i = 0; i < lanes_[name].told.size(); ++i) {
        if (!lanes_[name].told[i]) FAIL(name << " " << i + 1 << " never came");
      }
    }
    if (told_refused_ != refused_) FAIL(refused_ << " were refused, " << told_refused_ << " told");
    if (store_->status().ledger_entries != 0) FAIL("the ledger is not empty");
    check_letters();
    std::vector<DeadLetterId> ids;
    for (const auto& [id, payload] : letters_) ids.push_back(id);
    if (auto gone = store_->discard(ids); !gone || gone->done != ids.size()) FAIL("not discarded");
    if (store_->status().used_pages > 12) FAIL(store_->status().used_pages << " pages in an empty store");
  }

  std::mt19937_64 random_;
  TempDir folder_;
  FakeClock clock_;
  StoreSettings settings_;
  std::unique_ptr<Store> store_;
  std::map<std::string, ModelLane> lanes_;
  std::map<std::string, std::string> states_;
  std::map<DeadLetterId, std::string> letters_;
  std::optional<Checkpoint> checkpoint_;
  std::uint64_t put_ = 0, refused_ = 0, told_refused_ = 0;
};

void run_seeds(int otherwise, int steps) {
  const char* wanted = std::getenv("PENSTOCK_MODEL_SEEDS");
  int seeds = wanted != nullptr ? std::atoi(wanted) : otherwise;
  std::vector<std::uint64_t> all(std::begin(kKeptSeeds), std::end(kKeptSeeds));
  std::random_device device;
  for (int i = 0; i < seeds; ++i) all.push_back(device());
  for (auto seed : all) {
    INFO("seed " << seed << " with " << steps << " steps: keep it in kKeptSeeds");
    Model(seed).run(steps);
  }
  SUCCEED();
}

TEST_CASE("the store agrees with a naive model over long random lives", "[model][store]") { run_seeds(12, kSteps); }

TEST_CASE("the store agrees with a naive model over a thousand short random lives", "[model][store]") {
  run_seeds(1'000, kFewSteps);
}

}  // namespace store_model_test
}  // namespace
}  // namespace penstock
