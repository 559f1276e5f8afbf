// The state directory before anything is written to it: is it the one that is meant, and is it a good place.
//
// Any thread. Nothing is written outside the directory; a crash leaves an empty directory at most.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "buffer/result.h"

namespace penstock {

/// Which file systems there should be and which there are: fstab(5), proc(5).
struct MountTables {
  std::filesystem::path wanted = "/etc/fstab", present = "/proc/self/mounts";
};

/// The mount point of fstab under which `path` lies, the nearest one, if nothing is mounted there: what is written to
/// `path` now would lie hidden on another disk as soon as it is. Nothing also if fstab cannot be read.
std::optional<std::filesystem::path> missing_mount(const std::filesystem::path& path, const MountTables& tables = {});

/// The name of the file system of `path` if it is one that copies what is overwritten. Nothing also if it cannot be told.
std::optional<std::string> copy_on_write(const std::filesystem::path& path);

/// Makes the directory where it is missing. `rejected`: why it cannot be used; then nothing was touched.
Result<void> prepare_state_directory(const std::filesystem::path& directory, const MountTables& tables = {});

}  // namespace penstock
