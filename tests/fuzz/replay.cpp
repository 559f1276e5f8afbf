// Drives a fuzz target without libFuzzer: every seed of a folder, every beginning of it, and it with each byte changed.
// The same inputs in the same order each time; at most 20 seconds. Status 1 when there is no seed to run.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {
namespace replay {

using Bytes = std::vector<std::uint8_t>;

// A copy of exactly the right size, so that AddressSanitizer sees a read past the end.
void run(Bytes bytes) {
  bytes.shrink_to_fit();
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

std::vector<Bytes> seeds_of(const char* folder) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.is_regular_file(error)) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Bytes> seeds;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return seeds;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER_OF_SEEDS\n", argv[0]);
    return 64;
  }
  const auto seeds = seeds_of(argv[1]);
  if (seeds.empty()) {
    std::fprintf(stderr, "%s: there are no seeds in %s\n", argv[0], argv[1]);
    return 1;
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::size_t runs = 0;
  auto in_time = [&] { return std::chrono::steady_clock::now() < end; };
  run({});
  for (const auto& seed : seeds) {
    run(seed);
    ++runs;
  }
  for (const auto& seed : seeds) {
    for (std::size_t size = 0; size < seed.size() && in_time(); ++size, ++runs)
      run(Bytes(seed.begin(), seed.begin() + static_cast<std::ptrdiff_t>(size)));
    for (std::size_t at = 0; at < seed.size(); ++at) {
      for (std::uint8_t change : {0x01, 0x80, 0xff}) {
        if (!in_time()) break;
        Bytes bytes = seed;
        bytes[at] = static_cast<std::uint8_t>(bytes[at] ^ change);
        run(std::move(bytes));
        ++runs;
      }
    }
  }
  std::printf("%zu seeds, %zu inputs%s\n", seeds.size(), runs, in_time() ? "" : " (stopped by the time limit)");
  return 0;
}

}  // namespace replay
}  // namespace

int main(int argc, char** argv) { return replay::main(argc, argv); }
