#include "tests/bench/measure.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

namespace penstock::bench {
namespace {

double read_clock(clockid_t id) {
  timespec time{};
  clock_gettime(id, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

double now() { return read_clock(CLOCK_MONOTONIC); }

double cpu() { return read_clock(CLOCK_PROCESS_CPUTIME_ID); }

double memory_mib(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(field + ":", 0) == 0) return std::strtod(line.c_str() + field.size() + 1, nullptr) / 1024;
  }
  give_up("/proc/self/status has no " + field);
}

double peak_rss_mib() { return memory_mib("VmHWM"); }

double percentile(std::vector<double> values, double which) {
  if (values.empty()) return 0;
  auto at = static_cast<std::size_t>(which * static_cast<double>(values.size() - 1) + 0.5);
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return values[at];
}

double median(std::vector<double> values) { return percentile(std::move(values), 0.5); }

void fact(const std::string& name, const nlohmann::json& values) {
  nlohmann::json line = {{"fact", name}};
  line.update(values);
  fmt::print("{}\n", line.dump());
  std::fflush(stdout);
}

void progress(const std::string& what) { fmt::print(stderr, "  {}\n", what); }

void give_up(const std::string& what) {
  fmt::print(stderr, "bench: {}\n", what);
  std::exit(1);
}

std::optional<DeviceCounters> device_counters(const std::filesystem::path& folder) {
  struct stat about {};
  if (stat(folder.c_str(), &about) != 0) return std::nullopt;
  std::ifstream file(fmt::format("/sys/dev/block/{}:{}/stat", major(about.st_dev), minor(about.st_dev)));
  std::vector<std::uint64_t> fields;
  for (std::uint64_t field; file >> field;) fields.push_back(field);
  if (fields.size() < 7) return std::nullopt;
  return DeviceCounters{fields[6] * 512, fields.size() > 15 ? fields[15] : 0};
}

void sync_filesystem(const std::filesystem::path& folder) {
  int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0 || syncfs(descriptor) != 0) give_up(fmt::format("cannot sync {}", folder.string()));
  close(descriptor);
}

void forget_cached(const std::filesystem::path& file) {
  int descriptor = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  fdatasync(descriptor);
  posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  close(descriptor);
}

}  // namespace penstock::bench
