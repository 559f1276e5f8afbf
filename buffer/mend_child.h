// A walk over a store by LMDB itself, in a child process: if LMDB crashes or hangs there, this process does not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "buffer/result.h"

namespace penstock {

/// What went wrong in the child, or nothing (empty). The store must not be open here. The limit is 30 s and 1 s for every
/// MiB. `rejected`: no child can be made.
Result<std::string> walk_in_child(const std::filesystem::path& directory, std::uint64_t capacity_bytes,
                                  std::uint64_t file_bytes, const std::function<void()>& progress);

/// Runs `work` in a child: its text, or what became of the child. Apart so that a test can make it crash and hang.
Result<std::string> run_in_child(const std::function<std::string()>& work, double limit_seconds,
                                 const std::function<void()>& progress);

}  // namespace penstock
