// A store on a disk that is full: full_disk_store FOLDER POLICY TRANSACTIONS SEED
//
// FOLDER is empty and on a small disk of its own. A filler takes all of it; from then on a neighbour's file grows into
// whatever comes free, now and then gives some of it back and takes it again, also while a commit is under way. A
// transaction counts when the disk could not take another 4 KiB just before. Then both files are removed, and the store must
// recover: take everything, give nothing up, deliver all it has.
//
// Each record that was handed to the store must be accounted for in the end: delivered as it was put, or in a gap of the ledger,
// or refused and counted there; or it was not taken, and the store said so. Exit status 0: all are, and one line of figures.
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "buffer/store.h"
#include "tests/crash/promises.h"

namespace penstock {
namespace {
namespace full_disk_store {

// More than the disk has, so that it is the disk that is full.
constexpr std::uint64_t kCapacity = std::uint64_t{64} << 20;
constexpr std::size_t kBlock = 4096;

[[noreturn]] void fail(const std::string& what) {
  fmt::print("FAILED: {}\n", what);
  std::fflush(stdout);
  std::_Exit(1);
}

/// A file of another program.
class Neighbour {
 public:
  explicit Neighbour(const std::filesystem::path& path) : path_(path) {
    file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file_ < 0) fail(fmt::format("{}: {}", path.string(), std::strerror(errno)));
  }
  ~Neighbour() {
    ::close(file_);
    ::unlink(path_.c_str());
  }
  Neighbour(const Neighbour&) = delete;
  Neighbour& operator=(const Neighbour&) = delete;

  /// Until the disk takes no more; true if it took nothing at all.
  bool fill() {
    bool any = false;
    while (true) {
      auto written = ::pwrite(file_, kFull.data(), kFull.size(), static_cast<off_t>(bytes_));
      if (written < 0 && errno != ENOSPC) fail(fmt::format("{}: {}", path_.string(), std::strerror(errno)));
      if (written <= 0) return !any;
      any = true;
      bytes_ += static_cast<std::uint64_t>(written);
    }
  }
  void give_back(std::uint64_t bytes) {
    bytes_ -= std::min(bytes_, bytes);
    if (::ftruncate(file_, static_cast<off_t>(bytes_)) != 0) fail(path_.string() + ": " + std::strerror(errno));
  }

 private:
  static inline const std::array<char, kBlock> kFull = [] {
    std::array<char, kBlock> block{};
    block.fill('n');
    return block;
  }();
  std::filesystem::path path_;
  int file_ = -1;
  std::uint64_t bytes_ = 0;
};

/// What Kafka would have: takes batches, and knows what of each lane is still missing.
class Receiver {
 public:
  std::uint64_t delivered = 0, evicted = 0, refused = 0;
  Checkpoint checkpoint;

  void take(const Store& store, const Batch& batch) {
    std::map<std::string, std::map<std::uint64_t, std::uint64_t>> ranges;
    for (const auto& stored : batch.records) {
      auto lane = store.name_of(stored.lane);
      auto sequence = stored.sequence.value();
      if (stored.record.payload != payload_of(lane, sequence))
        fail(lane + fmt::format(" {} is not what was put", sequence));
      if (!ranges[lane].emplace(sequence, sequence).second)
        fail(lane + fmt::format(" {} is in the batch twice", sequence));
    }
    delivered += batch.records.size();
    for (const auto& gap : batch.gaps) {
      auto lane = store.name_of(gap.lane);
      if (gap.first == Sequence()) {
        if (gap.cause != Cause::refused) fail(lane + ": a count of " + name_of(gap.cause));
        refused += gap.count;
        continue;
      }
      if (gap.cause != Cause::evicted) {
        fail(lane + fmt::format(" {}..{} is given up as {}", gap.first.value(), gap.last.value(), name_of(gap.cause)));
      }
      evicted += gap.last.value() - gap.first.value() + 1;
      if (!ranges[lane].emplace(gap.first.value(), gap.last.value()).second) fail(lane + ": a gap where a record is");
    }
    for (const auto& [lane, found] : ranges) {
      auto& next = next_.try_emplace(lane, 1).first->second;
      for (auto [first, last] : found) {
        if (first != next) fail(lane + fmt::format(": expected {}, found {}", next, first));
        next = last + 1;
      }
    }
    checkpoint = batch.after;
  }

  /// Up to the last sequence of each lane nothing is missing.
  void has_all(const Store& store) {
    for (const auto& row : store.status().lanes) {
      auto next = next_.try_emplace(row.name, 1).first->second;
      if (next != row.last.value() + 1) fail(row.name + fmt::format(": ends at {} of {}", next - 1, row.last.value()));
    }
  }

 private:
  std::map<std::string, std::uint64_t> next_;
};

struct Counts {
  std::uint64_t full = 0;    // transactions on the full disk
  std::uint64_t put = 0;     // records the store was handed in commits that returned
  std::uint64_t waited = 0;  // records it did not take at the first time of asking: `full`
  std::uint64_t reopened = 0;
};

class Life {
 public:
  Life(const std::filesystem::path& folder, WhenFull policy, std::uint64_t seed) : random_(seed), folder_(folder) {
    settings_ = crash_settings((folder / "queue").string(), kCapacity);
    settings_.when_full = policy;
    open();
  }

  Counts counts;
  Receiver receiver;

  std::uint64_t pick(std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random_);
  }

  void open() {
    store_.reset();
    auto opened = Store::open(settings_, clock_);
    if (!opened) fail("open: " + opened.error().what);
    store_ = std::move(*opened);
    if (store_->mended()) fail("open: " + describe(*store_->mended()));
    Settlement where;  // as the forwarder asks Kafka
    where.delivered = receiver.checkpoint.delivered;
    where.ledger = receiver.checkpoint.ledger;
    auto settled = store_->settle(where);
    if (!settled) fail("settle: " + settled.error().what);
  }
  void reopen() {
    ++counts.reopened;
    open();
  }

  /// Some records for each lane; false if they wait.
  bool commit() {
    if (waiting_.empty()) {
      waiting_ = next_groups(*store_, clock_, [this] { return pick(0, 9) == 0 ? 0 : pick(0, 40); });
      for (auto& group : waiting_) group.changes.clear();  // a state of records that are refused would be too new
    }
    std::uint64_t records = 0;
    for (const auto& group : waiting_) records += group.records.size();
    auto done = store_->commit(waiting_);
    if (!done && (done.error().fault != Fault::full || settings_.when_full != WhenFull::block)) {
      fail("commit: " + done.error().what);
    }
    if (!done) {
      if (done.error().what.find(settings_.directory.string()) == std::string::npos) {
        fail("no path in: " + done.error().what);
      }
      counts.waited += records;
      return false;
    }
    counts.put += records;
    waiting_.clear();
    if (auto more = store_->prewrite_step(std::uint64_t{64} << 10); !more) fail("prewrite_step: " + more.error().what);
    return true;
  }

  bool deliver(std::size_t most) {
    BatchLimits limits;
    limits.records = most;
    auto batch = store_->read(limits);
    if (!batch) fail("read: " + batch.error().what);
    if (batch->empty()) return false;
    receiver.take(*store_, *batch);
    store_->delivered(batch->after);
    return true;
  }

  /// Everything out. What was given up since the last batch becomes readable with a commit.
  void drain() {
    while (deliver(5'000) || store_->wants_commit()) {
      if (auto done = store_->commit({}); !done) fail("commit of nothing: " + done.error().what);
    }
    receiver.has_all(*store_);
  }

  std::uint64_t given_up() const {
    std::uint64_t sum = 0;
    for (auto [cause, count] : store_->status().given_up) sum += count;
    return sum;
  }
  std::uint64_t on_disk() const {
    return std::filesystem::file_size(settings_.directory / "data.mdb") +
           std::filesystem::file_size(settings_.directory / "journal");
  }

 private:
  std::mt19937_64 random_;
  SystemClock clock_;
  std::filesystem::path folder_;
  StoreSettings settings_;
  std::unique_ptr<Store> store_;
  std::vector<Group> waiting_;
};

int run(const std::filesystem::path& folder, const std::string& policy, std::uint64_t transactions,
        std::uint64_t seed) {
  auto when_full = policy == "evict_oldest"    ? WhenFull::evict_oldest
                   : policy == "reject_newest" ? WhenFull::reject_newest
                                               : WhenFull::block;
  Life life(folder, when_full, seed);
  std::uint64_t disk_bytes = std::filesystem::space(folder).capacity;
  auto filler = std::make_unique<Neighbour>(folder / "filler");
  auto neighbour = std::make_unique<Neighbour>(folder / "neighbour");
  filler->fill();
  filler->give_back(std::uint64_t{2} << 20);

  std::uint64_t in_a_row = 0;  // commits that were not taken
  while (life.counts.full < transactions) {
    std::thread meanwhile;
    if (life.pick(0, 19) == 0) {  // some room, which is gone again at some instant of the next commits
      neighbour->give_back(life.pick(1, 256) * kBlock);
      const auto commits = life.pick(0, 4), at = life.pick(0, commits);
      std::atomic<std::uint64_t> begun{0};
      meanwhile = std::thread([&neighbour, &begun, at] {  // beside the commit of that number
        for (auto seen = begun.load(); seen < at; seen = begun.load()) begun.wait(seen);
        neighbour->fill();
      });
      for (std::uint64_t n = 0; n < commits; ++n) {
        ++begun;
        begun.notify_one();
        (void)life.commit();
      }
      meanwhile.join();
    }
    neighbour->fill();
    if (neighbour->fill()) ++life.counts.full;
    bool taken = life.commit();
    in_a_row = taken ? 0 : in_a_row + 1;
    if (!taken || life.pick(0, 29) == 0) life.deliver(life.pick(1, 600));
    if (in_a_row > 200)
      fail(fmt::format("{} commits were not taken though what the queue had was delivered", in_a_row));
    if (life.pick(0, 999) == 0) life.reopen();
  }
  auto on_full = life.counts;
  auto given_up_then = life.receiver.evicted + life.receiver.refused;

  filler.reset();
  neighbour.reset();
  life.reopen();
  for (int i = 0; i < 3 && !life.commit(); ++i) life.deliver(5'000);  // what still waited
  auto settled = life.given_up();
  for (std::uint64_t i = 0; i < 200; ++i) {
    if (!life.commit()) fail("there is room again, and a commit was not taken");
  }
  if (life.given_up() != settled) {
    fail(fmt::format("there is room again, and {} records were given up", life.given_up() - settled));
  }
  life.drain();
  life.reopen();
  life.drain();

  const auto& all = life.counts;
  const auto& out = life.receiver;
  auto unaccounted =
      static_cast<std::int64_t>(all.put) - static_cast<std::int64_t>(out.delivered + out.evicted + out.refused);
  fmt::print(
      "{}: {} transactions at 100 % full, {} records: {} delivered, {} evicted, {} refused, {} unaccounted; {} had to "
      "wait; {} starts; the store had {} KiB of the disk's {}; seed {}\n",
      policy, on_full.full, all.put, out.delivered, out.evicted, out.refused, unaccounted, all.waited, all.reopened,
      life.on_disk() >> 10, disk_bytes >> 10, seed);
  if (unaccounted != 0) fail(fmt::format("{} records are unaccounted for", unaccounted));
  bool showed = when_full == WhenFull::evict_oldest    ? given_up_then > 0 && out.refused == 0
                : when_full == WhenFull::reject_newest ? out.refused > 0 && out.evicted == 0
                                                       : all.waited > 0 && out.evicted + out.refused == 0;
  if (!showed) fail("what gave way is not what the policy says");
  return 0;
}

}  // namespace full_disk_store
}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  if (argc != 5) return 64;
  return penstock::full_disk_store::run(argv[1], argv[2], std::strtoull(argv[3], nullptr, 10),
                                        std::strtoull(argv[4], nullptr, 10));
}
