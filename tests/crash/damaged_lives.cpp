#include "tests/crash/damaged_lives.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <set>
#include <sstream>

#include "buffer/mend.h"
#include "tests/catch.h"
#include "tests/crash/promises.h"
#include "tests/fakes/fake_clock.h"

namespace penstock::damage {
namespace {

namespace fs = std::filesystem;
using Range = std::pair<std::uint64_t, std::uint64_t>;

constexpr int kMostLives = 4;
constexpr int kRefused = 3, kBroken = 4, kWrong = 5;
constexpr const char* kLanes[] = {"telemetry", "alarms"};

Group group_of(const Store& store, const Clock& clock, const std::string& lane, std::uint64_t after,
               std::uint64_t count) {
  Group group;
  group.lane = store.lane(lane).value();
  group.driver = "writer";
  for (std::uint64_t i = 1; i <= count; ++i) {
    Record record;
    record.driver = "writer";
    record.stream = lane;
    record.time = clock.wall();
    record.payload = payload_of(lane, after + i);
    group.records.push_back(std::move(record));
  }
  if (count != 0) group.changes.push_back({lane, std::to_string(after + count)});
  return group;
}

}  // namespace

StoreSettings settings_of(const fs::path& directory, std::uint64_t mebibytes) {
  StoreSettings settings;
  settings.directory = directory;
  settings.agent = "damage";
  settings.capacity_bytes = mebibytes << 20;
  settings.lanes = {{"telemetry", 1}, {"alarms", 0}};
  return settings;
}

Truth make_store(const fs::path& work, const fs::path& directory, Random& random) {
  FakeClock clock;  // so that a seed gives the same pages again, but for the random ids in them
  Truth truth;
  for (int life = 0; life < 4; ++life) {
    auto opened = Store::open(settings_of(work), clock);
    if (!opened) FAIL(opened.error().what);
    auto& store = **opened;
    for (int commits = 0; commits < 60; ++commits) {
      std::vector<Group> groups;
      for (const char* lane : kLanes) {
        auto most = std::string(lane) == "telemetry" ? 50u : 10u;
        auto count = pick(random, 0, most);
        groups.push_back(group_of(store, clock, lane, truth.last[lane], count));
        truth.last[lane] += count;
      }
      if (auto done = store.commit(groups); !done) FAIL(done.error().what);
      if (life == 1 && commits % 20 == 0) {
        BatchLimits limits;
        limits.records = 200;
        auto batch = store.read(limits);
        if (!batch) FAIL(batch.error().what);
        store.delivered(batch->after);
      }
    }
    for (int letters = 0; life != 1 && letters < 8; ++letters) {
      const auto row = store.status().lanes[static_cast<std::size_t>(pick(random, 0, 1))];
      Sequence sequence(pick(random, row.delivered.value() + 1, row.last.value()));
      if (truth.aside.count({row.name, sequence.value()}) != 0) continue;
      if (auto done = store.set_aside(row.lane, sequence, "refused"); !done) FAIL(done.error().what);
      truth.aside.insert({row.name, sequence.value()});
    }
    if (life == 2) {
      Settlement fork;
      fork.fork = true;
      fork.forked_from = draw<Digest>();
      fork.delivered = store.history().delivered;
      if (auto done = store.settle(fork); !done) FAIL(done.error().what);
    }
    if (auto more = store.prewrite_step(100'000); !more) FAIL(more.error().what);
    for (int i = 0; i < 3; ++i) {
      if (auto done = store.commit({}); !done) FAIL(done.error().what);
    }
    for (const auto& row : store.status().lanes) {
      truth.delivered[row.name] = row.delivered.value();
      if (row.last.value() != truth.last[row.name]) FAIL(row.name << ": last is " << row.last.value());
    }
    if (store.status().dead_letters != truth.aside.size()) FAIL(store.status().dead_letters << " dead letters");
    if (life == 3) fs::copy(work, directory);
  }
  return truth;
}

Truth make_small_store(const fs::path& work, const fs::path& directory) {
  FakeClock clock;
  Truth truth;
  for (int life = 0; life < 2; ++life) {
    auto opened = Store::open(settings_of(work, 1), clock);
    if (!opened) FAIL(opened.error().what);
    auto& store = **opened;
    for (int commits = 0; commits < 4; ++commits) {
      std::vector<Group> groups;
      for (const char* lane : kLanes) {
        groups.push_back(group_of(store, clock, lane, truth.last[lane], 3));
        truth.last[lane] += 3;
      }
      if (auto done = store.commit(groups); !done) FAIL(done.error().what);
      if (commits != 1) continue;
      auto batch = store.read({.records = 4});
      if (!batch) FAIL(batch.error().what);
      store.delivered(batch->after);
    }
    for (const auto& row : store.status().lanes) truth.delivered[row.name] = row.delivered.value();
    if (life == 1) fs::copy(work, directory);
  }
  return truth;
}

namespace {

// --- one life, in a child

void say(const std::string& line) {
  if (::write(STDOUT_FILENO, line.data(), line.size()) != static_cast<ssize_t>(line.size())) ::_exit(9);
}

[[noreturn]] void end(int status, const std::string& why) {
  say("end " + why + '\n');
  ::_exit(status);
}

void check(const Error& error) {
  end(error.fault == Fault::broken ? kBroken : kRefused, name_of(error.fault) + (": " + error.what));
}
template <class T>
void check(const Result<T>& result) {
  if (!result) check(result.error());
}

/// Reads and delivers all there is; every record must be the one that was put under its number.
void drain(Store& store) {
  for (int idle = 0; idle < 3;) {
    auto batch = store.read({});
    check(batch);
    std::map<std::pair<std::string, std::uint64_t>, std::string> lines;  // in order, and nothing hidden
    auto tell = [&](const char* what, Lane lane, Sequence first, Sequence last) {
      std::ostringstream line;
      line << what << ' ' << store.name_of(lane) << ' ' << first.value() << ' ' << last.value() << '\n';
      lines[{store.name_of(lane), first.value()}] += line.str();
    };
    for (const auto& stored : batch->records) {
      auto lane = store.name_of(stored.lane);
      auto sequence = stored.sequence.value();
      if (stored.record.payload != payload_of(lane, sequence) || stored.record.stream != lane) {
        end(kWrong, lane + ' ' + std::to_string(sequence) + " is not what was put");
      }
      tell("record", stored.lane, stored.sequence, stored.sequence);
    }
    for (const auto& gap : batch->gaps) {
      if (gap.first != Sequence()) tell("gap", gap.lane, gap.first, gap.last);
    }
    std::string text;
    for (const auto& [place, line] : lines) text += line;
    say(text);
    idle = batch->empty() ? idle + 1 : 0;
    store.delivered(batch->after);
    check(store.commit({}));
  }
}

void live(const StoreSettings& settings) {
  SystemClock clock;
  auto opened = Store::open(settings, clock);
  check(opened);
  auto& store = **opened;
  std::ostringstream lines;
  if (const auto& mended = store.mended()) {
    lines << "mended " << static_cast<int>(mended->outcome) << ' ' << mended->newest_may_be_missing << ' '
          << mended->states_may_be_old << ' ' << mended->lost << ' ' << describe(*mended) << '\n';
  }
  for (const char* lane : kLanes) {
    auto state = store.state("writer", lane);
    check(state);
    lines << "state " << lane << ' ' << state->value_or("0") << '\n';
  }
  auto letters = store.dead_letters(std::nullopt, {});
  check(letters);
  for (const auto& letter : *letters) {
    auto lane = store.name_of(letter.stored.lane);
    auto sequence = letter.stored.sequence.value();
    if (!letter.damaged && letter.stored.record.payload != payload_of(lane, sequence)) {
      end(kWrong, "the dead letter " + lane + ' ' + std::to_string(sequence) + " is not what was put");
    }
    lines << "letter " << lane << ' ' << sequence << '\n';
  }
  say(lines.str());
  drain(store);
  std::ostringstream ends;
  for (const auto& row : store.status().lanes) ends << "last " << row.name << ' ' << row.last.value() << '\n';
  say(ends.str());
  // ...and it goes on.
  for (int i = 0; i < 3; ++i) {
    std::vector<Group> groups;
    for (const auto& row : store.status().lanes)
      groups.push_back(group_of(store, clock, row.name, row.last.value(), 40));
    check(store.commit(groups));
  }
  drain(store);
  end(0, "whole");
}

struct Life {
  int status = 0;  // as waitpid() gives it
  std::string text;
};

Life run_life(const StoreSettings& settings) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    for (int number : {SIGBUS, SIGSEGV, SIGABRT, SIGFPE, SIGILL}) ::signal(number, SIG_DFL);
    ::dup2(ends[1], STDOUT_FILENO);
    live(settings);
    ::_exit(8);
  }
  ::close(ends[1]);
  Life life;
  auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  for (bool killed = false;;) {
    struct pollfd waiting {
      ends[0], POLLIN, 0
    };
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(limit - std::chrono::steady_clock::now()).count();
    if (left <= 0 && !killed) {
      ::kill(child, SIGKILL);
      killed = true;
    }
    int ready = ::poll(&waiting, 1, killed ? -1 : static_cast<int>(std::max<long>(left, 0)));
    if (ready <= 0) continue;
    char chunk[65'536];
    auto got = ::read(ends[0], chunk, sizeof chunk);
    if (got <= 0) break;
    life.text.append(chunk, static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  REQUIRE(::waitpid(child, &life.status, 0) == child);
  return life;
}

// --- what the lives of one damaged store come to

class Judging {
 public:
  Judging(const Truth& truth, bool may_end_early)
      : truth_(truth), newest_may_be_missing_(may_end_early), states_may_be_old_(may_end_early) {}

  Outcome run(const StoreSettings& settings) {
    while (outcome_.lives < kMostLives) {
      ++outcome_.lives;
      auto life = run_life(settings);
      if (!WIFEXITED(life.status)) {
        fail("it died of signal " + std::to_string(WTERMSIG(life.status)) + " after: " + tail(life.text));
        return outcome_;
      }
      hear(life.text);
      int status = WEXITSTATUS(life.status);
      if (status == kBroken) continue;
      if (status == kRefused) outcome_.refused = true;
      if (status == 0) judge();
      if (status != 0 && status != kRefused) fail("status " + std::to_string(status) + ": " + tail(life.text));
      return outcome_;
    }
    fail("it is still broken after " + std::to_string(kMostLives) + " lives: " + outcome_.says);
    return outcome_;
  }

 private:
  static std::string tail(const std::string& text) {
    return text.substr(text.size() - std::min<std::size_t>(text.size(), 200));
  }
  void fail(const std::string& what) {
    if (outcome_.failure.empty()) outcome_.failure = what;
  }

  void hear(const std::string& text) {
    std::istringstream lines(text);
    std::map<std::string, std::uint64_t> position;  // in this life
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string word, lane;
      words >> word;
      if (word == "mended") {
        int what = 0;
        bool newest = false, states = false;
        std::uint64_t lost = 0;
        words >> what >> newest >> states >> lost;
        std::getline(words, outcome_.says);
        outcome_.mended |= what == static_cast<int>(Mended::Outcome::salvaged);
        outcome_.anew |= what == static_cast<int>(Mended::Outcome::begun_anew);
        newest_may_be_missing_ |= newest;
        states_may_be_old_ |= states;
        lost_ += lost;
      } else if (word == "state") {
        std::uint64_t value = 0;
        words >> lane >> value;
        bool excused = states_may_be_old_ || outcome_.anew;
        auto expected = std::max(truth_.last.at(lane), written_[lane]);
        if (value != expected && !(excused && value < expected)) {
          fail(lane + ": the state is " + std::to_string(value) + ", it was " + std::to_string(expected));
        }
      } else if (word == "letter") {
        std::uint64_t sequence = 0;
        words >> lane >> sequence;
        letters_.insert({lane, sequence});
      } else if (word == "record" || word == "gap") {
        std::uint64_t first = 0, last = 0;
        words >> lane >> first >> last;
        if (first <= position[lane]) fail(lane + ": twice in one life or out of order: " + line);
        bool both = word == "record" && letters_.count({lane, first}) != 0;
        if (both && !newest_may_be_missing_) fail(lane + ": a dead letter, too: " + line);
        position[lane] = last;
        (word == "gap" ? gaps_ : records_)[lane].insert({first, last});
      } else if (word == "last") {
        std::uint64_t last = 0;
        words >> lane >> last;
        last_[lane] = last;
        written_[lane] = last;
      } else if (word == "end") {
        if (!outcome_.says.empty()) outcome_.says += "; ";
        outcome_.says += line;
      }
    }
  }

  void judge() {
    if (outcome_.anew) return;
    for (const auto& [lane, end] : truth_.last) {
      std::uint64_t delivered = truth_.delivered.at(lane);
      std::vector<char> told(static_cast<std::size_t>(end + 1));  // 1: a record, 2: a gap
      for (auto [ranges, mark] : {std::pair(&records_, char(1)), std::pair(&gaps_, char(2))}) {
        for (auto [first, last] : (*ranges)[lane]) {
          if (first <= delivered && !newest_may_be_missing_) {
            fail(lane + ' ' + std::to_string(first) + " came again, " + std::to_string(delivered) + " was delivered");
          }
          for (auto s = first; s <= last && s <= end; ++s) told[static_cast<std::size_t>(s)] |= mark;
        }
      }
      auto known = std::min(end, last_[lane]);
      if (known < end) {
        outcome_.says += "; " + lane + " ends at " + std::to_string(known) + ", was " + std::to_string(end) + " with " +
                         std::to_string(delivered) + " delivered";
      }
      if (known < end && !newest_may_be_missing_) {
        fail(lane + ": ends at " + std::to_string(known) + " without a word, was " + std::to_string(end));
      }
      for (auto s = delivered + 1; s <= end; ++s) {
        auto mark = told[static_cast<std::size_t>(s)];
        if (mark == 3) fail(lane + ' ' + std::to_string(s) + " is both a record and a gap");
        if (mark == 0 && s <= known) fail(lane + ' ' + std::to_string(s) + " is neither a record nor in the ledger");
        const std::pair place(lane, s);
        const bool aside = mark == 2 && truth_.aside.count(place) != 0 && letters_.count(place) != 0;
        outcome_.back += mark == 1 || aside ? 1 : 0;
        outcome_.told += mark == 2 && !aside ? 1 : 0;
      }
    }
    for (const auto& [lane, sequence] : truth_.aside) {
      const auto name = lane + ' ' + std::to_string(sequence);
      if (records_[lane].count({sequence, sequence}) != 0 && !newest_may_be_missing_) {
        fail(name + " was set aside and is a record again");
      }
      if (letters_.count({lane, sequence}) == 0 && lost_ == 0 && !newest_may_be_missing_) {
        fail("the dead letter " + name + " is gone without a word");
      }
    }
  }

  const Truth& truth_;
  Outcome outcome_;
  bool newest_may_be_missing_ = false, states_may_be_old_ = false;
  std::map<std::string, std::set<Range>> records_, gaps_;
  std::map<std::string, std::uint64_t> last_, written_;
  std::set<std::pair<std::string, std::uint64_t>> letters_;
  std::uint64_t lost_ = 0;
};

}  // namespace

Outcome live_on(const Truth& truth, bool newest_may_be_missing, const StoreSettings& settings) {
  return Judging(truth, newest_may_be_missing).run(settings);
}

}  // namespace penstock::damage
