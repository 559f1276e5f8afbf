// What the bench measures with: clocks, CPU, medians, the counters of a block device; and facts, the one form in which
// a bench program says what it saw.
//
// Plain functions, any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace penstock::bench {

/// Seconds on the monotonic clock.
double now();
/// CPU seconds of this process, all threads, user and system.
double cpu();
/// A size of /proc/self/status (proc_pid_status(5)), such as VmRSS, in MiB.
double memory_mib(const std::string& field);
/// Highest resident set of this process so far, in MiB (VmHWM).
double peak_rss_mib();

/// 0 for an empty vector.
double percentile(std::vector<double> values, double which);
double median(std::vector<double> values);

/// Prints {"fact": name, ...values} as one line on stdout.
void fact(const std::string& name, const nlohmann::json& values);
/// Says on stderr what is being done.
void progress(const std::string& what);
/// Says what went wrong and ends the process with status 1.
[[noreturn]] void give_up(const std::string& what);

/// What the kernel counted for the block device below a folder (Documentation/block/stat.rst).
struct DeviceCounters {
  std::uint64_t bytes_written = 0;
  std::uint64_t flushes = 0;
};
/// Nothing if the folder lies on no block device (tmpfs, overlay).
std::optional<DeviceCounters> device_counters(const std::filesystem::path& folder);
/// syncfs(2) on the folder's filesystem: after it the counters hold everything.
void sync_filesystem(const std::filesystem::path& folder);
/// Puts the file out of the page cache.
void forget_cached(const std::filesystem::path& file);

}  // namespace penstock::bench
