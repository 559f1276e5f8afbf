// A disk that fails: the n-th write or flush of a store's files is answered with ENOSPC or EIO, once or from then on.
//
// The calls are those of the C library, which this program puts itself before: its own and LMDB's. Each case is a process of
// its own, so that a crash is seen as one. PENSTOCK_FAULTS says how many cases (120 in ctest); PENSTOCK_SEED repeats them.
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>

#include "buffer/store.h"
#include "tests/catch.h"
#include "tests/crash/promises.h"
#include "tests/crash/real_call.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace write_fault_test {

struct Plan {
  bool armed = false;
  bool lasts = false;      // until it is disarmed; else once
  bool cut_short = false;  // of a write that fails half is done, as on a disk that is nearly full
  int code = 0;
  std::uint64_t nth = 0;  // of the calls since it was armed, from 1
  std::uint64_t calls = 0, failed = 0;
  std::string folder, first;  // first: the call and the file that failed first
};
Plan plan;

std::string path_of(int fd) {
  char path[4096];
  auto length = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path);
  return length < 0 ? std::string() : std::string(path, static_cast<std::size_t>(length));
}

bool fails(int fd, const char* call) {
  if (!plan.armed) return false;
  auto path = path_of(fd);
  if (path.rfind(plan.folder, 0) != 0) return false;
  ++plan.calls;
  if (plan.calls < plan.nth || (plan.calls > plan.nth && !plan.lasts)) return false;
  if (plan.failed++ == 0) {
    plan.first = call + (" of " + (path == plan.folder ? "the folder" : path.substr(path.rfind('/') + 1)));
  }
  return true;
}

}  // namespace write_fault_test
}  // namespace
}  // namespace penstock

namespace faults = penstock::write_fault_test;

extern "C" {
ssize_t write(int fd, const void* data, size_t size) {
  if (!faults::fails(fd, "write")) return REAL(write)(fd, data, size);
  if (faults::plan.cut_short && size > 1) return REAL(write)(fd, data, size / 2);
  errno = faults::plan.code;
  return -1;
}
ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  if (!faults::fails(fd, "pwrite")) return REAL(pwrite)(fd, data, size, offset);
  if (faults::plan.cut_short && size > 1) return REAL(pwrite)(fd, data, size / 2, offset);
  errno = faults::plan.code;
  return -1;
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) {
  return pwrite(fd, data, size, static_cast<off_t>(offset));
}
ssize_t writev(int fd, const iovec* parts, int count) {
  if (!faults::fails(fd, "writev")) return REAL(writev)(fd, parts, count);
  if (faults::plan.cut_short && count > 1) return REAL(writev)(fd, parts, count / 2);
  errno = faults::plan.code;
  return -1;
}
ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) {
  if (!faults::fails(fd, "pwritev")) return REAL(pwritev)(fd, parts, count, offset);
  if (faults::plan.cut_short && count > 1) return REAL(pwritev)(fd, parts, count / 2, offset);
  errno = faults::plan.code;
  return -1;
}
ssize_t pwritev64(int fd, const iovec* parts, int count, off64_t offset) {
  return pwritev(fd, parts, count, static_cast<off_t>(offset));
}
int fsync(int fd) {
  if (!faults::fails(fd, "fsync")) return REAL(fsync)(fd);
  errno = faults::plan.code;
  return -1;
}
int fdatasync(int fd) {
  if (!faults::fails(fd, "fdatasync")) return REAL(fdatasync)(fd);
  errno = faults::plan.code;
  return -1;
}
}

namespace penstock {
namespace {
namespace write_fault_test {

constexpr std::uint64_t kCapacity = std::uint64_t{1} << 20;

/// Empty if it says where and why, and is of a kind that the agent survives or ends for in order.
std::string wrong_with(const Error& error) {
  if (error.what.find(plan.folder) == std::string::npos) return "no path in: " + error.what;
  bool named = error.what.find(std::strerror(plan.code)) != std::string::npos ||
               error.what.find(std::strerror(EIO)) != std::string::npos ||  // LMDB's word for a write cut short
               error.what.find("are in use") != std::string::npos;
  if (!named) return std::string("not a word of \"") + std::strerror(plan.code) + "\" in: " + error.what;
  bool kind = error.fault == Fault::broken || (error.fault == Fault::full && plan.code == ENOSPC);
  if (!kind) return "a fault of another kind: " + error.what;
  bool journal = error.what.rfind(plan.folder + "/queue/journal: cannot write frame", 0) == 0;
  if (plan.code == ENOSPC && journal && error.fault == Fault::broken) {
    return "no room in the journal is no reason to end: " + error.what;
  }
  return {};
}

/// A store's life with one fault in it; what is wrong with it, or nothing.
std::string life(const std::string& folder, std::uint64_t seed, std::uint64_t nth) {
  std::mt19937_64 random(seed);
  auto pick = [&](std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
  };
  SystemClock clock;
  Said said;
  plan = {};
  plan.folder = folder;
  plan.nth = nth;
  plan.code = pick(0, 1) == 0 ? ENOSPC : EIO;
  plan.lasts = pick(0, 1) == 0;
  plan.cut_short = plan.code == ENOSPC && pick(0, 2) == 0;
  plan.armed = true;
  const auto settings = crash_settings(folder + "/queue", kCapacity);
  std::string ended;
  for (int lives = 0; lives < 3 && ended.empty(); ++lives) {
    auto opened = Store::open(settings, clock);
    if (!opened) {
      if (auto wrong = wrong_with(opened.error()); !wrong.empty()) return "open: " + wrong;
      break;
    }
    auto& store = **opened;
    for (int i = 0; i < 25; ++i) {
      auto groups = next_groups(store, clock, [&] { return pick(0, 60); });
      auto done = store.commit(groups);
      if (!done) {
        if (auto wrong = wrong_with(done.error()); !wrong.empty()) return "commit: " + wrong;
        if (done.error().fault == Fault::broken) {
          ended = done.error().what;
          break;
        }
        if (i % 2 == 0) plan.lasts = false;  // the cause is gone: the same store must go on
        continue;
      }
      for (const auto& row : store.status().lanes) said.durable[row.name] = row.durable.value();
      if (auto more = store.prewrite_step(pick(1, 200'000)); !more && more.error().fault == Fault::broken) {
        return "prewrite_step: " + more.error().what;
      }
      if (auto refused = refuse_some(store, pick, [&](const std::string& line) { said.hear(line); }); !refused) {
        if (auto wrong = wrong_with(refused.error()); !wrong.empty()) return "dead letters: " + wrong;
        if (refused.error().fault == Fault::broken) {
          ended = refused.error().what;
          break;
        }
        continue;
      }
      if (pick(0, 2) == 0) continue;
      BatchLimits limits;
      limits.records = pick(1, 300);
      auto batch = store.read(limits);
      if (!batch) return "read: " + batch.error().what;
      for (const auto& [lane, sequence] : batch->after.delivered) said.delivered[lane] = sequence.value();
      store.delivered(batch->after);
    }
  }
  plan.armed = false;
  auto after =
      Store::open(settings, clock);  // an error of the disk makes the store suspect: it is looked at, and found whole
  if (!after) return "open when the fault was gone: " + after.error().what;
  const auto mended = (*after)->mended();
  if (mended && mended->outcome != Mended::Outcome::found_whole)
    return "open when the fault was gone: " + describe(*mended);
  after->reset();
  return broken_promise(folder + "/queue", kCapacity, said);
}

/// In a process of its own; `first` and `calls` say what failed and how many calls there were.
std::string apart(const std::string& folder, std::uint64_t seed, std::uint64_t nth, std::string& what) {
  int ends[2];
  if (::pipe(ends) != 0) return "no pipe";
  auto child = ::fork();
  if (child == 0) {
    auto wrong = life(folder, seed, nth);
    std::string kind =
        std::string(std::strerror(plan.code)) + (plan.lasts ? ", lasting" : "") + (plan.cut_short ? ", cut short" : "");
    auto text = plan.first + " (" + kind + ")\n" + wrong;
    bool told = ::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    std::_Exit(told ? 0 : 3);
  }
  ::close(ends[1]);
  std::string text;
  char chunk[4096];
  for (ssize_t got = 0; (got = ::read(ends[0], chunk, sizeof chunk)) > 0;)
    text.append(chunk, static_cast<std::size_t>(got));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) return "it died of signal " + std::to_string(WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) return "it ended with " + std::to_string(WEXITSTATUS(status));
  what = text.substr(0, text.find('\n'));
  return text.substr(text.find('\n') + 1);
}

TEST_CASE("whatever write or flush fails, no durable record is lost, the error says which, and it goes on",
          "[crash][store]") {
  const char* wanted = std::getenv("PENSTOCK_FAULTS");
  std::uint64_t cases = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 120;
  const char* fixed = std::getenv("PENSTOCK_SEED");
  std::uint64_t seed = fixed != nullptr ? std::strtoull(fixed, nullptr, 10) : std::random_device()();
  std::mt19937_64 random(seed);
  std::map<std::string, int> seen;
  int wrongs = 0;
  for (std::uint64_t i = 0; i < cases; ++i) {
    TempDir folder(std::filesystem::current_path());
    // Beginnings have many kinds of calls, the rest is long.
    auto nth = i % 3 == 0 ? 1 + i / 3 % 130 : std::uniform_int_distribution<std::uint64_t>(1, 420)(random);
    auto life_seed = random();
    std::string what;
    auto wrong = apart(folder.path().string(), life_seed, nth, what);
    seen[what.substr(0, what.find(" ("))] += 1;
    if (!wrong.empty()) {
      ++wrongs;
      FAIL_CHECK("call " << nth << ", seed " << life_seed << ", " << what << ": " << wrong);
    }
  }
  auto met = cases - static_cast<std::uint64_t>(seen[""]);
  WARN(cases << " lives, " << met << " faults of " << seen.size() - 1 << " kinds, " << wrongs << " wrong, seed "
             << seed);
  CHECK(met > cases / 2);
  CHECK(seen.size() > 8);
}

}  // namespace write_fault_test
}  // namespace
}  // namespace penstock
