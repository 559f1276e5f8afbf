#include "buffer/mend_child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "buffer/block.h"
#include "buffer/database.h"
#include "buffer/descriptor.h"

namespace penstock {
namespace {

constexpr double kLeastSeconds = 30, kSecondsPerMiB = 1;
constexpr std::size_t kMostText = 512;  // fits in a pipe without a reader

double now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

std::string walk(const std::filesystem::path& directory, std::uint64_t capacity_bytes) {
  auto environment = Environment::open(directory, capacity_bytes);
  if (!environment) return environment.error().what;
  Transaction snapshot(**environment, Transaction::Access::read);
  Cursor cursor(snapshot);
  // Every byte of every value is read; what is wrong within a block is the store's to find and to give up.
  for (bool more = cursor.seek(std::string(1, '\0')); more; more = cursor.next())
    (void)check_block(cursor.value()).ok();
  return snapshot.code() == 0 ? std::string() : text_of(snapshot.code());
}

/// Nothing that the agent has installed shall run in the child.
[[noreturn]] void be_the_child(int pipe, const std::function<std::string()>& work) {
  for (int number : {SIGBUS, SIGSEGV, SIGABRT, SIGFPE, SIGILL, SIGTERM, SIGINT, SIGHUP}) ::signal(number, SIG_DFL);
  rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  std::string text = work();
  text.resize(std::min(text.size(), kMostText));
  (void)!::write(pipe, text.data(), text.size());
  ::_exit(text.empty() ? 0 : 1);
}

}  // namespace

Result<std::string> run_in_child(const std::function<std::string()>& work, double limit_seconds,
                                 const std::function<void()>& progress) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return rejected(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  Descriptor out(ends[0]), in(ends[1]);
  pid_t child = ::fork();
  if (child < 0) return rejected(fmt::format("cannot make a process: {}", std::strerror(errno)));
  if (child == 0) be_the_child(in.get(), work);
  in.reset();

  const double end = now() + limit_seconds;
  timespec nap{0, 1'000'000};
  int status = 0;
  for (;;) {
    pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child) break;
    if (ended < 0 && errno != EINTR)
      return rejected(fmt::format("cannot wait for a process: {}", std::strerror(errno)));
    if (now() > end) {
      ::kill(child, SIGKILL);
      while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
      return fmt::format("LMDB did not come to an end within {:.0f} s", limit_seconds);
    }
    ::nanosleep(&nap, nullptr);
    nap.tv_nsec = std::min(nap.tv_nsec * 2, 100'000'000L);
    if (progress) progress();
  }
  if (WIFSIGNALED(status))
    return fmt::format("LMDB died of signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  if (WEXITSTATUS(status) == 0) return std::string();
  std::string text(kMostText, '\0');
  auto length = ::read(out.get(), text.data(), text.size());
  text.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  return text.empty() ? fmt::format("LMDB ended with status {}", WEXITSTATUS(status)) : text;
}

Result<std::string> walk_in_child(const std::filesystem::path& directory, std::uint64_t capacity_bytes,
                                  std::uint64_t file_bytes, const std::function<void()>& progress) {
  double limit = kLeastSeconds + kSecondsPerMiB * static_cast<double>(file_bytes) / (1 << 20);
  return run_in_child([&] { return walk(directory, capacity_bytes); }, limit, progress);
}

}  // namespace penstock
