#include "agent/daemon/damage_signals.h"

#include <signal.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>

#include "buffer/suspect.h"

namespace penstock {
namespace {

struct Prepared {
  std::filesystem::path store;
  std::string line;
};
// A handler can reach nothing else. Set before it is installed, taken away after it is removed.
const Prepared* prepared = nullptr;

constexpr int kSignals[] = {SIGBUS, SIGSEGV, SIGABRT};

const char* reason(int number) {
  if (number == SIGBUS) return "SIGBUS: a page of a mapped file cannot be read";
  return number == SIGSEGV ? "SIGSEGV" : "SIGABRT";
}

/// signal-safety(7): no memory is taken, no lock.
void on_signal(int number) {
  const char* why = reason(number);
  mark_suspect(prepared->store.c_str(), why);
  (void)!::write(STDERR_FILENO, prepared->line.data(), prepared->line.size());
  (void)!::write(STDERR_FILENO, why, std::strlen(why));
  (void)!::write(STDERR_FILENO, "\n", 1);
  if (number == SIGBUS) ::_exit(1);
  ::signal(number, SIG_DFL);
  ::raise(number);  // comes when the handler returns
}

}  // namespace

DamageSignals::DamageSignals(const std::filesystem::path& store) {
  auto made = std::make_unique<Prepared>();
  made->store = store;
  made->line = "the store " + store.string() + " may be damaged and will be examined at the next start: ";
  prepared = made.release();
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  for (int number : kSignals) ::sigaction(number, &action, nullptr);
}

DamageSignals::~DamageSignals() {
  for (int number : kSignals) ::signal(number, SIG_DFL);
  delete prepared;
  prepared = nullptr;
}

}  // namespace penstock
