#include "agent/kafka/verifier.h"

#include <random>
#include <set>

#include "tests/catch.h"

namespace penstock {
namespace {
namespace kafka_verifier_test {

const Epoch kFirst = draw<Epoch>(), kSecond = draw<Epoch>();

class Told {
 public:
  Told() : verifier({}) {}
  explicit Told(Verifier::Settings settings) : verifier(std::move(settings)) {}

  Told& checkpoint(std::uint64_t delivered) {
    Checkpoint checkpoint;
    checkpoint.epoch = kFirst;
    checkpoint.delivered = {{"telemetry", Sequence(delivered)}};
    checkpoint.runs = {{draw<Run>(), kFirst, {{"telemetry", Sequence(1)}}}};
    verifier.checkpoint("gw", checkpoint);
    return *this;
  }
  Told& records(std::uint64_t first, std::uint64_t last, std::int32_t partition = 0, const Epoch& epoch = kFirst) {
    for (auto sequence = first; sequence <= last; ++sequence) {
      verifier.record("t", partition, {"gw", "telemetry", epoch, Sequence(sequence)});
    }
    return *this;
  }
  Told& gap(std::uint64_t first, std::uint64_t last) {
    verifier.gap({"gw", "telemetry", kFirst, Sequence(first), Sequence(last), last - first + 1, Cause::evicted});
    return *this;
  }
  LaneProof lane() {
    auto proof = verifier.prove();
    REQUIRE(proof.lanes.size() == 1);
    CHECK(proof.holds() == (proof.lanes[0].holds() && proof.without_checkpoint.empty()));
    return proof.lanes[0];
  }

  Verifier verifier;
};

TEST_CASE("a proof holds when every sequence up to the checkpoint is there once and in order") {
  auto lane = Told().checkpoint(100).records(1, 100).lane();
  CHECK(lane.holds());
  CHECK(lane.records == 100);
  CHECK(lane.from == Sequence(1));
  CHECK(lane.checkpoint == Sequence(100));
}

TEST_CASE("a proof of nothing does not hold") { CHECK(!Verifier({}).prove().holds()); }

TEST_CASE("what is missing is told as ranges, at the beginning, in the middle and before the checkpoint") {
  auto lane = Told().checkpoint(20).records(3, 9).records(12, 18).lane();
  CHECK(!lane.holds());
  CHECK(lane.missing == 6);
  using Range = SequenceBitmap::Range;
  CHECK(lane.missing_ranges ==
        std::vector<Range>{{Sequence(1), Sequence(2)}, {Sequence(10), Sequence(11)}, {Sequence(19), Sequence(20)}});
}

TEST_CASE("a lane of which not one record is seen is missing up to its checkpoint") {
  CHECK(Told().checkpoint(1'000'000'000'000).lane().missing == 1'000'000'000'000);
}

TEST_CASE("a gap record accounts for what is missing, and only for that") {
  auto lane = Told().checkpoint(20).records(1, 9).gap(10, 12).records(13, 20).lane();
  CHECK(lane.holds());
  CHECK(lane.given_up == 3);
  lane = Told().checkpoint(20).records(1, 9).gap(10, 12).records(14, 20).lane();
  CHECK(lane.missing == 1);
  lane = Told().checkpoint(20).records(1, 20).gap(20, 20).lane();
  CHECK(lane.contradicted == 1);
  CHECK(!lane.holds());
}

TEST_CASE("what was refused without a number is counted and needs no place") {
  Told told;
  told.checkpoint(5).records(1, 5).verifier.gap({"gw", "telemetry", kFirst, {}, {}, 7, Cause::refused});
  CHECK(told.lane().never_numbered == 7);
  CHECK(told.lane().holds());
}

TEST_CASE("at_least_once a count that comes again is counted once, by its entry in the ledger") {
  auto count = [](Delivery delivery) {
    Verifier::Settings settings;
    settings.delivery = delivery;
    Told told(settings);
    told.checkpoint(5).records(1, 5);
    for (std::uint64_t entry : {3, 3, 4, 0, 0}) {
      told.verifier.gap({"gw", "telemetry", kFirst, {}, {}, 7, Cause::refused, entry});
    }
    return told.lane().never_numbered;
  };
  CHECK(count(Delivery::at_least_once) == 4 * 7);  // those that do not say which they are cannot be told apart
  CHECK(count(Delivery::exactly_once) == 5 * 7);
}

TEST_CASE("a doubled record is found wherever its second copy lies") {
  auto lane = Told().checkpoint(10).records(1, 10).records(4, 5, 1).lane();
  CHECK(lane.doubled == 2);
  CHECK(!lane.holds());
}

TEST_CASE("order is judged within a partition and not between two") {
  CHECK(Told().checkpoint(10).records(6, 10, 0).records(1, 5, 1).lane().holds());
  auto lane = Told().checkpoint(10).records(6, 10, 0).records(1, 5, 0).lane();
  CHECK(lane.out_of_order == 5);
  CHECK(!lane.holds());
}

TEST_CASE("records above the checkpoint are counted and not judged") {
  auto lane = Told().checkpoint(10).records(1, 10).records(12, 15).lane();
  CHECK(lane.holds());
  CHECK(lane.above == 4);
}

TEST_CASE("records of an agent without a checkpoint prove nothing") {
  Told told;
  told.records(1, 10);
  CHECK(!told.verifier.prove().holds());
  CHECK(told.verifier.prove().without_checkpoint == std::vector<std::string>{"gw"});
}

TEST_CASE("where the topics no longer hold their first records, judging begins with the first that is seen") {
  CHECK(Told().checkpoint(20).records(15, 20).lane().missing == 14);
  Told trimmed;
  trimmed.verifier.set_trimmed();
  CHECK(trimmed.checkpoint(20).records(15, 20).lane().holds());
}

TEST_CASE(
    "after a fork each epoch is judged by itself: the newest up to the checkpoint, an older one by what is seen") {
  Verifier verifier({});
  Checkpoint checkpoint;
  checkpoint.epoch = kSecond;
  checkpoint.delivered = {{"telemetry", Sequence(30)}};
  // The fork came in the middle of the second run, which is kept with the epoch in which it began.
  checkpoint.runs = {{draw<Run>(), kFirst, {{"telemetry", Sequence(1)}}},
                     {draw<Run>(), kFirst, {{"telemetry", Sequence(15)}}}};
  verifier.checkpoint("gw", checkpoint);
  auto tell = [&](const Epoch& epoch, std::uint64_t first, std::uint64_t last) {
    for (auto s = first; s <= last; ++s) verifier.record("t", 0, {"gw", "telemetry", epoch, Sequence(s)});
  };
  auto missing = [&](const Epoch& epoch) {
    for (const auto& lane : verifier.prove().lanes) {
      if (lane.epoch == epoch) return lane.missing;
    }
    return std::uint64_t{999};
  };
  tell(kFirst, 1, 10);
  tell(kFirst, 12, 20);
  tell(kSecond, 21, 29);
  CHECK(missing(kFirst) == 1);   // the hole
  CHECK(missing(kSecond) == 1);  // what the checkpoint says is there
  tell(kSecond, 30, 30);
  CHECK(missing(kSecond) == 0);
  CHECK_FALSE(verifier.prove().holds());
}

TEST_CASE("only the agents and lanes asked for are judged") {
  Told told({{"other"}, {}, false});
  told.checkpoint(10).records(1, 5);
  CHECK(told.verifier.prove().lanes.empty());
}

Verifier::Settings at_least_once() { return {{}, {}, false, Delivery::at_least_once}; }

TEST_CASE("at least once: what a partition repeats is counted, and the proof holds") {
  auto lane = Told(at_least_once()).checkpoint(10).records(1, 7).records(4, 10).records(10, 10).lane();
  CHECK(lane.holds());
  CHECK(lane.records == 10);
  CHECK(lane.repeated == 5);
  CHECK_FALSE(Told().checkpoint(10).records(1, 7).records(4, 10).lane().holds());
}

TEST_CASE("at least once: a copy in another partition is taken twice, and that does not hold") {
  auto lane = Told(at_least_once()).checkpoint(10).records(1, 10).records(4, 5, 1).lane();
  CHECK(lane.doubled == 2);
  CHECK(!lane.holds());
}

TEST_CASE("at least once: what comes behind a higher sequence is skipped, so it is missing") {
  auto lane = Told(at_least_once()).checkpoint(10).records(1, 4).records(6, 10).records(5, 5).lane();
  CHECK(lane.missing == 1);
  CHECK(lane.repeated == 1);
  CHECK(!lane.holds());
}

TEST_CASE("at least once: a gap record may speak of what is there all the same") {
  auto lane = Told(at_least_once()).checkpoint(10).records(1, 10).gap(8, 12).lane();
  CHECK(lane.contradicted == 3);
  CHECK(lane.holds());
}

/// What partitions hold, in the order they were written, after a producer that begins again now and then behind the last
/// sequence it surely knows to be there; and what a bad one may have done to it.
struct History {
  struct Entry {
    std::int32_t partition;
    std::uint64_t sequence;
  };
  std::vector<Entry> log;
  std::uint64_t last;

  static constexpr std::int32_t kPartitions = 4;

  explicit History(std::mt19937& random) {
    auto upto = [&](std::uint64_t most) { return std::uniform_int_distribution<std::uint64_t>(0, most)(random); };
    last = 1 + upto(200);
    std::vector<std::int32_t> home(last + 1);
    for (auto& partition : home) partition = static_cast<std::int32_t>(upto(kPartitions - 1));
    std::uint64_t known = 0;  // all up to here are there for sure
    while (known < last) {
      // One life: each partition gets a prefix of what is sent to it, interleaved with the others as it happens.
      auto end = known + 1 + upto(last - known - 1);
      std::vector<std::vector<std::uint64_t>> sent(kPartitions);
      for (auto sequence = known + 1; sequence <= end; ++sequence) {
        sent[static_cast<std::size_t>(home[sequence])].push_back(sequence);
      }
      auto lowest_lost = end + 1;
      bool dies = upto(2) != 0;
      for (auto& each : sent) {
        if (!dies || each.empty()) continue;
        auto kept = upto(each.size());
        if (kept < each.size()) lowest_lost = std::min(lowest_lost, each[kept]);
        each.resize(kept);
      }
      std::vector<std::size_t> at(kPartitions);
      for (auto left = sent[0].size() + sent[1].size() + sent[2].size() + sent[3].size(); left > 0;) {
        auto partition = upto(kPartitions - 1);
        if (at[partition] == sent[partition].size()) continue;
        log.push_back({static_cast<std::int32_t>(partition), sent[partition][at[partition]++]});
        --left;
      }
      // Acknowledgements may be lost, too: less is known than is there.
      known += upto(lowest_lost - 1 - known);
      if (!dies) known = end;
    }
  }

  void damage(std::mt19937& random) {
    auto one = std::uniform_int_distribution<std::size_t>(0, log.size() - 1)(random);
    switch (std::uniform_int_distribution<>(0, 2)(random)) {
      case 0: log.erase(log.begin() + static_cast<std::ptrdiff_t>(one)); break;
      case 1: std::swap(log[one], log[std::uniform_int_distribution<std::size_t>(0, log.size() - 1)(random)]); break;
      case 2: log[one].partition = (log[one].partition + 1) % kPartitions; break;
    }
  }
};

TEST_CASE("at least once: the proof agrees with a reader that keeps everything, on random histories") {
  auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  int held = 0, failed = 0;
  for (int round = 0; round < 400; ++round) {
    History history(random);
    bool damaged = round % 2 == 1;
    if (damaged) history.damage(random);
    // The naive reader: the last taken of each partition, and all that was taken.
    std::vector<std::uint64_t> newest(History::kPartitions);
    std::multiset<std::uint64_t> taken;
    std::uint64_t skipped = 0;
    Told told(at_least_once());
    told.checkpoint(history.last);
    for (const auto& [partition, sequence] : history.log) {
      told.records(sequence, sequence, partition);
      auto& last = newest[static_cast<std::size_t>(partition)];
      if (sequence <= last) {
        ++skipped;
        continue;
      }
      last = sequence;
      taken.insert(sequence);
    }
    std::uint64_t missing = 0, doubled = 0;
    for (std::uint64_t sequence = 1; sequence <= history.last; ++sequence) {
      auto times = taken.count(sequence);
      missing += times == 0;
      if (times > 1) doubled += times - 1;
    }
    auto lane = told.lane();
    INFO("round " << round << ", " << history.log.size() << " entries, last " << history.last);
    REQUIRE(lane.missing == missing);
    REQUIRE(lane.doubled == doubled);
    REQUIRE(lane.repeated == skipped);
    REQUIRE(lane.out_of_order == 0);
    REQUIRE(lane.holds() == (missing == 0 && doubled == 0));
    if (!damaged) REQUIRE(lane.holds());
    ++(lane.holds() ? held : failed);
  }
  CHECK(held >= 200);
  CHECK(failed > 20);
}

TEST_CASE("a set of sequences agrees with a plain one on random operations") {
  auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  auto upto = [&](std::uint64_t most) { return std::uniform_int_distribution<std::uint64_t>(1, most)(random); };
  SequenceBitmap set, other;
  std::set<std::uint64_t> plain, plain_other;
  for (int step = 0; step < 300; ++step) {
    auto first = upto(30'000), last = first + (upto(4) == 1 ? upto(9'000) : upto(3)) - 1;
    if (upto(3) == 1) {
      other.add(Sequence(first), Sequence(last));
      for (auto value = first; value <= last; ++value) plain_other.insert(value);
    } else if (upto(2) == 1) {
      set.add(Sequence(first), Sequence(last));
      for (auto value = first; value <= last; ++value) plain.insert(value);
    } else {
      CHECK(set.add(Sequence(first)) == plain.insert(first).second);
    }
    auto from = upto(20'000), to = from + upto(20'000);
    if (step % 30 != 0) continue;
    std::uint64_t expected = 0, both = 0;
    std::vector<SequenceBitmap::Range> ranges, expected_ranges;
    bool open = false;
    for (auto value = from; value <= to; ++value) {
      bool lacks = plain.count(value) == 0 && plain_other.count(value) == 0;
      if (lacks && !open) expected_ranges.emplace_back(Sequence(value), Sequence(value));
      if (lacks) expected_ranges.back().second = Sequence(value);
      expected += lacks;
      open = lacks;
    }
    for (auto value : plain) both += plain_other.count(value);
    CHECK(SequenceBitmap::missing(set, other, Sequence(from), Sequence(to), 1'000'000, ranges) == expected);
    CHECK(ranges == expected_ranges);
    CHECK(SequenceBitmap::common(set, other) == both);
    CHECK(set.size() == plain.size());
    if (!plain.empty()) {
      CHECK(set.first() == Sequence(*plain.begin()));
      CHECK(set.last() == Sequence(*plain.rbegin()));
    }
  }
}

}  // namespace kafka_verifier_test
}  // namespace
}  // namespace penstock
