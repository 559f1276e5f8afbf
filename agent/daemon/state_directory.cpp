#include "agent/daemon/state_directory.h"

#include <fmt/core.h>
#include <mntent.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <system_error>
#include <vector>

namespace penstock {
namespace {

namespace fs = std::filesystem;

fs::path real(const fs::path& path) {
  std::error_code error;
  auto canonical = fs::weakly_canonical(fs::absolute(path, error), error);
  return error ? path.lexically_normal() : canonical;
}

/// The mount points of a table, without what belongs to no directory: swap, or "none".
std::vector<fs::path> mount_points(const fs::path& table) {
  std::vector<fs::path> points;
  std::unique_ptr<std::FILE, decltype(&endmntent)> file(setmntent(table.c_str(), "re"), &endmntent);
  if (!file) return points;
  mntent entry{};
  std::array<char, 4096> text{};
  while (getmntent_r(file.get(), &entry, text.data(), text.size()) != nullptr) {
    if (entry.mnt_dir[0] == '/') points.push_back(real(entry.mnt_dir));
  }
  return points;
}

bool lies_under(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

}  // namespace

std::optional<fs::path> missing_mount(const fs::path& path, const MountTables& tables) {
  const auto place = real(path);
  std::optional<fs::path> nearest;
  for (auto& point : mount_points(tables.wanted)) {
    if (point == point.root_path() || !lies_under(place, point)) continue;
    if (!nearest || lies_under(point, *nearest)) nearest = std::move(point);
  }
  if (!nearest) return std::nullopt;
  auto present = mount_points(tables.present);
  if (std::find(present.begin(), present.end(), *nearest) != present.end()) return std::nullopt;
  return nearest;
}

std::optional<std::string> copy_on_write(const fs::path& path) {
  struct statfs found {};
  if (statfs(path.c_str(), &found) != 0) return std::nullopt;
  // linux/magic.h; bcachefs and ZFS name theirs in their own sources.
  switch (static_cast<std::uint32_t>(found.f_type)) {
    case 0x9123683E: return "btrfs";
    case 0x794C7630: return "overlay";
    case 0xCA451A4E: return "bcachefs";
    case 0x2FC12FC1: return "zfs";
    default: return std::nullopt;
  }
}

Result<void> prepare_state_directory(const fs::path& directory, const MountTables& tables) {
  if (auto missing = missing_mount(directory, tables)) {
    return rejected(
        fmt::format("state_directory {}: {} says that {} is a file system of its own, and nothing is mounted "
                    "there: mount it, or take the line out",
                    directory.string(), tables.wanted.string(), missing->string()));
  }
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    return rejected(fmt::format("state_directory {}: cannot be made: {}", directory.string(), error.message()));
  }
  if (access(directory.c_str(), W_OK | X_OK) != 0) {
    return rejected(fmt::format("state_directory {}: cannot be written to: {}", directory.string(),
                                std::generic_category().message(errno)));
  }
  return {};
}

}  // namespace penstock
