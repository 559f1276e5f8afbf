// The configuration reader: any bytes give settings or problems with a place, and never part of a secret.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/config.h"
#include "tests/config/sample_driver.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace penstock;
  static const auto kKinds = sample::kinds();
  FileFacts facts;
  facts.directory = "/nonexistent";
  facts.readable_by_all = true;
  auto loaded = load_text({reinterpret_cast<const char*>(data), size}, facts, kKinds, [](const std::string& name) {
    return name == "PW" ? std::optional<std::string>("the secret itself") : std::nullopt;
  });
  auto report = loaded.report();
  // Unless the file itself has it, in what is no secret.
  std::string_view file(reinterpret_cast<const char*>(data), size);
  bool known = file.find("the secret itself") != std::string_view::npos;
  if (!known && report.find("the secret itself") != std::string::npos) std::abort();
  if (loaded.ok() != loaded.problems.empty()) std::abort();
  // Right means usable: what the rest of the program relies on.
  if (loaded.ok()) {
    const auto& settings = loaded.settings;
    if (settings.agent.id.empty() || settings.kafka.brokers.empty() || settings.drivers.empty()) std::abort();
    for (const auto& driver : settings.drivers) {
      if (driver.settings.as<sample::Settings>() == nullptr) std::abort();
    }
  }
  return 0;
}
