#include "buffer/suspect.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>

namespace penstock {

void mark_suspect(const char* store_directory, const char* why) noexcept {
  int directory = ::open(store_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return;
  int file = ::openat(directory, kSuspectName, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (file >= 0) {
    (void)!::write(file, why, std::strlen(why));
    (void)!::write(file, "\n", 1);
    (void)::fsync(file);
    (void)::close(file);
    (void)::fsync(directory);
  }
  (void)::close(directory);
}

}  // namespace penstock
