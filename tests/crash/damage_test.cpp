// Damages a store in one way after another and looks at what the next lives make of it.
//
// PENSTOCK_DAMAGES says how many random damages (220 in ctest, thousands in a soak), PENSTOCK_SEED repeats a run, and with
// it PENSTOCK_TRIAL does one trial of it only. PENSTOCK_STRIDE says at which bytes of a small store's files something
// happens to each of them: every so many (1 in a soak). Each life is a child process: it opens the store, reads and delivers all there
// is, and goes on writing. A life may end by saying `broken`, as a supervisor would then start it again; it may not die.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iomanip>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "buffer/mend.h"
#include "buffer/store.h"
#include "tests/catch.h"
#include "tests/crash/promises.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace damage_test {

namespace fs = std::filesystem;
using Random = std::mt19937_64;
using Range = std::pair<std::uint64_t, std::uint64_t>;

constexpr std::size_t kPage = 4096;
constexpr int kMostLives = 4;
constexpr int kRefused = 3, kBroken = 4, kWrong = 5;
constexpr const char* kLanes[] = {"telemetry", "alarms"};

std::uint64_t pick(Random& random, std::uint64_t low, std::uint64_t high) {
  return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
}

StoreSettings settings_of(const fs::path& directory, std::uint64_t mebibytes = 8) {
  StoreSettings settings;
  settings.directory = directory;
  settings.agent = "damage";
  settings.capacity_bytes = mebibytes << 20;
  settings.lanes = {{"telemetry", 1}, {"alarms", 0}};
  return settings;
}

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

/// What was true of the store when it was damaged.
struct Truth {
  std::map<std::string, std::uint64_t> delivered, last;
  std::set<std::pair<std::string, std::uint64_t>> aside;  // dead letters
  std::uint64_t waiting() const {
    std::uint64_t sum = 0;
    for (const auto& [lane, end] : last) sum += end - delivered.at(lane);
    return sum;
  }
};

/// Some thousand records in two lanes, large ones among them, states, several runs, a fork, a part delivered and deleted,
/// a few dead letters.
/// In `directory` as a killed process leaves it.
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

/// As little as has one of everything: two lanes, states, two runs, what is delivered, sealed, and in the journal only.
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

struct Outcome {
  bool mended = false, anew = false, refused = false;
  int lives = 0;
  std::uint64_t back = 0;     // undelivered records that came through
  std::uint64_t told = 0;     // ...that are in the ledger
  std::string says, failure;  // failure: what must never be
};

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

// --- the damages

std::string contents(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}
void replace(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

/// The last page that holds anything but zeros: behind it lies what was written beforehand.
std::size_t used_pages(const std::string& bytes) {
  auto last = bytes.find_last_not_of('\0');
  return last == std::string::npos ? 1 : last / kPage + 1;
}
std::size_t some_page(const std::string& bytes, Random& random) {
  return static_cast<std::size_t>(pick(random, 2, used_pages(bytes) - 1));
}
char some_byte(Random& random) { return static_cast<char>(pick(random, 1, 255)); }
bool has_flags(const std::string& bytes, std::size_t page, int flags) {
  return (bytes[page * kPage + 10] & 0xf) == flags;
}
void fill(std::string& bytes, std::size_t page, Random& random) {
  for (std::size_t i = 0; i < kPage; ++i) bytes[page * kPage + i] = static_cast<char>(random());
}
/// A page of those that have the flags (1 branch, 2 leaf).
std::size_t page_with(const std::string& bytes, int flags, Random& random) {
  std::vector<std::size_t> pages;
  for (std::size_t page = 2; page < used_pages(bytes); ++page) {
    if (has_flags(bytes, page, flags)) pages.push_back(page);
  }
  REQUIRE(!pages.empty());
  return pages[static_cast<std::size_t>(pick(random, 0, pages.size() - 1))];
}

struct Kind {
  std::string name, file;
  bool one_page = true;  // at least 99 % of the records come through
  bool may_refuse = false;
  bool may_end_early = false;  // the newest commit may be gone without a word: its frame may never have been whole
  std::function<void(std::string& bytes, Random& random)> damage;
};

std::vector<Kind> kinds() {
  auto at = [](Random& random, std::size_t size) { return static_cast<std::size_t>(pick(random, 0, size - 1)); };
  std::vector<Kind> list;
  list.push_back({"one bit", "data.mdb", true, false, false, [=](auto& bytes, auto& random) {
                    auto& byte = bytes[at(random, used_pages(bytes) * kPage)];
                    byte = static_cast<char>(byte ^ 1 << pick(random, 0, 7));
                  }});
  list.push_back({"byte in a page header", "data.mdb", true, false, false, [=](auto& bytes, auto& random) {
                    auto& byte = bytes[some_page(bytes, random) * kPage + at(random, 16)];
                    byte = static_cast<char>(byte ^ some_byte(random));
                  }});
  list.push_back({"byte in a leaf or branch", "data.mdb", true, false, false, [=](auto& bytes, auto& random) {
                    auto page = page_with(bytes, pick(random, 0, 3) == 0 ? 1 : 2, random);
                    auto& byte = bytes[page * kPage + at(random, kPage)];
                    byte = static_cast<char>(byte ^ some_byte(random));
                  }});
  list.push_back({"zeroed page", "data.mdb", true, false, false, [](auto& bytes, auto& random) {
                    auto page = some_page(bytes, random);
                    bytes.replace(page * kPage, kPage, kPage, '\0');
                  }});
  list.push_back({"page of random bytes", "data.mdb", true, false, false,
                  [](auto& bytes, auto& random) { fill(bytes, some_page(bytes, random), random); }});
  list.push_back({"zeroed leaf or branch", "data.mdb", true, false, false, [](auto& bytes, auto& random) {
                    auto page = page_with(bytes, pick(random, 0, 3) == 0 ? 1 : 2, random);
                    bytes.replace(page * kPage, kPage, kPage, '\0');
                  }});
  list.push_back({"byte in a meta page", "data.mdb", true, false, false, [=](auto& bytes, auto& random) {
                    auto& byte = bytes[pick(random, 0, 1) * kPage + at(random, 152)];
                    byte = static_cast<char>(byte ^ some_byte(random));
                  }});
  list.push_back({"zeroed meta page", "data.mdb", true, false, false,
                  [](auto& bytes, auto& random) { bytes.replace(pick(random, 0, 1) * kPage, kPage, kPage, '\0'); }});
  list.push_back({"page in another's place", "data.mdb", true, false, false, [](auto& bytes, auto& random) {
                    auto page = bytes.substr(some_page(bytes, random) * kPage, kPage);
                    bytes.replace(some_page(bytes, random) * kPage, kPage, page);
                  }});
  list.push_back({"cut off", "data.mdb", false, false, false,
                  [=](auto& bytes, auto& random) { bytes.resize(at(random, bytes.size())); }});
  list.push_back({"up to 20 pages zeroed", "data.mdb", false, false, false, [](auto& bytes, auto& random) {
                    for (auto n = pick(random, 2, 20); n > 0; --n) {
                      bytes.replace(some_page(bytes, random) * kPage, kPage, kPage, '\0');
                    }
                  }});
  list.push_back({"another file", "data.mdb", false, false, false, [](auto& bytes, auto& random) {
                    bytes.resize(pick(random, 1, 40'000));
                    for (auto& byte : bytes) byte = static_cast<char>(random());
                  }});
  list.push_back({"byte in lock.mdb", "lock.mdb", true, false, false, [=](auto& bytes, auto& random) {
                    if (bytes.empty()) return;
                    bytes[at(random, bytes.size())] = some_byte(random);
                  }});
  list.push_back({"byte in the manifest", "manifest", true, true, false, [=](auto& bytes, auto& random) {
                    auto& byte = bytes[at(random, bytes.size())];
                    byte = static_cast<char>(byte ^ some_byte(random));
                  }});
  list.push_back({"byte in the journal", "journal", true, false, true, [=](auto& bytes, auto& random) {
                    auto& byte = bytes[at(random, used_pages(bytes) * kPage)];
                    byte = static_cast<char>(byte ^ some_byte(random));
                  }});
  list.push_back({"journal page of random bytes", "journal", true, false, true,
                  [=](auto& bytes, auto& random) { fill(bytes, at(random, used_pages(bytes)), random); }});
  return list;
}

struct Row {
  int trials = 0, clean = 0, mended = 0, anew = 0, refused = 0, again = 0;
  double least = 100, sum = 0;
};

std::string table(const std::vector<Kind>& kinds, const std::map<std::string, Row>& rows) {
  std::ostringstream out;
  out << std::left << std::setw(28) << "damage" << std::right;
  for (const char* column : {"all", "open", "mend", "anew", "refus", "again", "min%", "mean%"}) {
    out << std::setw(6) << column;
  }
  out << std::fixed << std::setprecision(1) << '\n';
  for (const auto& kind : kinds) {
    auto found = rows.find(kind.name);
    if (found == rows.end()) continue;
    const auto& row = found->second;
    out << std::left << std::setw(28) << kind.name << std::right;
    for (int count : {row.trials, row.clean, row.mended, row.anew, row.refused, row.again})
      out << std::setw(6) << count;
    out << std::setw(6) << row.least << std::setw(6) << row.sum / row.trials << '\n';
  }
  return out.str();
}

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST_CASE("no damage crashes a life, delivers wrong data or loses a record without a word", "[crash][store][damage]") {
  const auto seed = number_from("PENSTOCK_SEED", std::random_device()());
  const auto only = number_from("PENSTOCK_TRIAL", 0);
  const auto damages = std::max(only, number_from("PENSTOCK_DAMAGES", 220));
  CAPTURE(seed);
  TempDir folder(fs::current_path());
  auto original = folder.path() / "original", copy = folder.path() / "copy";
  Random making(seed);
  auto truth = make_store(folder.path() / "work", original, making);
  auto list = kinds();
  std::erase_if(list, [&](const Kind& kind) { return !fs::exists(original / kind.file); });

  std::map<std::string, Row> rows;
  for (std::uint64_t trial = 1; trial <= damages; ++trial) {
    if (only != 0 && trial != only) continue;
    const auto& kind = list[trial % list.size()];
    Random random(seed * 1'000'003 + trial);
    fs::remove_all(copy);
    fs::copy(original, copy);
    auto bytes = contents(copy / kind.file);
    kind.damage(bytes, random);
    replace(copy / kind.file, bytes);

    CAPTURE(trial, kind.name);
    auto outcome = Judging(truth, kind.may_end_early).run(settings_of(copy));
    if (!outcome.failure.empty()) FAIL(outcome.failure << "; it said: " << outcome.says);
    auto& row = rows[kind.name];
    ++row.trials;
    row.again += outcome.lives - 1;
    row.mended += outcome.mended ? 1 : 0;
    row.anew += outcome.anew ? 1 : 0;
    row.refused += outcome.refused ? 1 : 0;
    row.clean += outcome.mended || outcome.anew || outcome.refused ? 0 : 1;
    if (outcome.refused) {
      if (!kind.may_refuse) FAIL("refused: " << outcome.says);
      if (outcome.says.size() < 30) FAIL("a refusal that says nothing: " << outcome.says);
    }
    double percent = 100.0 * static_cast<double>(outcome.back) / static_cast<double>(truth.waiting());
    if (outcome.refused) percent = 100;  // it lies there untouched
    row.least = std::min(row.least, percent);
    row.sum += percent;
    if (kind.one_page && percent < 99) {
      FAIL(outcome.back << " of " << truth.waiting() << " records came through, " << outcome.told
                        << " are in the ledger; it said: " << outcome.says);
    }
  }
  WARN(damages << " damages to " << truth.waiting() << " records, seed " << seed << '\n' << table(list, rows));
  CHECK(!rows.empty());
}

TEST_CASE("a small store may be cut off, or have a byte turned, at any byte of any file", "[crash][store][damage]") {
  const auto stride = std::max<std::uint64_t>(1, number_from("PENSTOCK_STRIDE", 997));
  std::random_device random;
  TempDir folder("/dev/shm");
  auto original = folder.path() / "original", copy = folder.path() / "copy";
  auto truth = make_small_store(folder.path() / "work", original);

  std::ostringstream told;
  for (const std::string file : {"data.mdb", "lock.mdb", "journal", "manifest"}) {
    const auto bytes = contents(original / file);
    // Behind the last byte that is not zero all are alike: one page of them stands for the rest.
    const auto end = std::min(bytes.size(), used_pages(bytes) * kPage + kPage);
    const auto step = std::min<std::uint64_t>(stride, end / 20 + 1);  // a small file deserves some, too
    const auto from = random() % step;
    int trials = 0, mended = 0, anew = 0, refused = 0;
    for (const bool cut : {true, false}) {
      for (std::uint64_t at = from; at < end; at += step) {
        fs::remove_all(copy);
        fs::copy(original, copy);
        auto damaged = bytes;
        if (cut) {
          damaged.resize(static_cast<std::size_t>(at));
        } else {
          auto& byte = damaged[static_cast<std::size_t>(at)];
          byte = static_cast<char>(~byte);
        }
        replace(copy / file, damaged);
        INFO(file << (cut ? " cut off at byte " : " with all bits turned of byte ") << at);
        auto outcome = Judging(truth, file == "journal").run(settings_of(copy, 1));
        if (!outcome.failure.empty()) FAIL(outcome.failure << "; it said: " << outcome.says);
        if (outcome.refused && (file != "manifest" || outcome.says.size() < 30)) FAIL("refused: " << outcome.says);
        ++trials;
        mended += outcome.mended ? 1 : 0;
        anew += outcome.anew ? 1 : 0;
        refused += outcome.refused ? 1 : 0;
      }
    }
    told << file << ": " << trials << " damages, " << mended << " mended, " << anew << " begun anew, " << refused
         << " refused\n";
    CHECK(trials > 0);
  }
  WARN("every " << stride << " bytes:\n" << told.str());
}

}  // namespace damage_test
}  // namespace
}  // namespace penstock
