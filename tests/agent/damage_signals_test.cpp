#include "agent/daemon/damage_signals.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "tests/catch.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace damage_signals_test {

std::string contents(const std::filesystem::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

TEST_CASE("a page of a mapped file that cannot be read ends the process with status 1 and a mark", "[store][damage]") {
  TempDir folder;
  auto text = folder.path() / "stderr";
  pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int err = ::open(text.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ::dup2(err, STDERR_FILENO);
    DamageSignals signals(folder.path());
    auto path = folder.path() / "mapped";
    int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (::ftruncate(file, 4096) != 0) ::_exit(90);
    auto* map = static_cast<volatile char*>(::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file, 0));
    if (::ftruncate(file, 0) != 0) ::_exit(91);
    char byte = *map;
    ::_exit(92 + (byte & 1));
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
  CHECK(contents(folder.path() / "suspect").find("SIGBUS") == 0);
  CHECK(contents(text).find("will be examined at the next start: SIGBUS") != std::string::npos);
}

}  // namespace damage_signals_test
}  // namespace
}  // namespace penstock
