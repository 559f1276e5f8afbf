// DamageSignals: what is left to do when reading the store's file kills the process: an unreadable sector of a mapped file
// is a SIGBUS, a pointer that rotted while the store was open may be a SIGSEGV or LMDB's abort().
//
// Each marks the store as suspect, so that the next start looks at all of it, and says so in one line on stderr. SIGBUS
// then ends the process with status 1, as `broken` does. The others take their usual course, core dump and all: they may
// just as well be a mistake of ours. One at a time in a process; made before any other thread.
#pragma once

#include <filesystem>

namespace penstock {

class DamageSignals {
 public:
  /// `store`: its directory, which may not be there yet.
  explicit DamageSignals(const std::filesystem::path& store);
  ~DamageSignals();
  DamageSignals(const DamageSignals&) = delete;
  DamageSignals& operator=(const DamageSignals&) = delete;
};

}  // namespace penstock
