// What the documents show is what the program takes: the checked-in example, the reference page, and every ```toml block
// of README.md and docs/*.md that is a whole configuration, which is one with an [agent] table.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "config/generate.h"
#include "drivers/table.h"
#include "tests/catch.h"

namespace penstock {
namespace {
namespace documents_test {

const std::filesystem::path kRoot = PENSTOCK_SOURCE_DIR;

std::optional<std::string> any_variable(const std::string&) { return "x"; }

std::string content(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  INFO("reading " << path);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

TEST_CASE("docs/configuration.md is what `penstock config reference` prints") {
  INFO("penstock config reference >docs/configuration.md");
  CHECK(content(kRoot / "docs/configuration.md") == reference_page(driver_kinds()));
}

TEST_CASE("config/penstock.example.toml is what `penstock config example` prints") {
  INFO("penstock config example >config/penstock.example.toml");
  CHECK(content(kRoot / "config/penstock.example.toml") == example_file(driver_kinds()));
}

TEST_CASE("the example is right, and with everything in it that it comments out too") {
  auto example = example_file(driver_kinds());
  CHECK(load_text(example, {}, driver_kinds(), any_variable).report().empty());
  std::string whole;
  for (std::size_t at = 0; at < example.size();) {
    auto end = example.find('\n', at);
    bool off = example[at] == '#' && example[at + 1] != ' ';
    whole += example.substr(at + (off ? 1 : 0), end - at - (off ? 1 : 0)) + "\n";
    at = end + 1;
  }
  auto loaded = load_text(whole, {}, driver_kinds(), any_variable);
  CHECK(loaded.report().empty());
  CHECK(loaded.settings.drivers.size() == driver_kinds().size());
}

TEST_CASE("every whole configuration in the documents is right") {
  std::vector<std::filesystem::path> pages = {kRoot / "README.md"};
  for (const auto& entry : std::filesystem::directory_iterator(kRoot / "docs")) {
    if (entry.path().extension() == ".md") pages.push_back(entry.path());
  }
  std::size_t found = 0;
  for (const auto& page : pages) {
    auto text = content(page);
    const std::string open = "```toml\n";
    for (auto at = text.find(open); at != std::string::npos; at = text.find(open, at)) {
      at += open.size();
      auto block = text.substr(at, text.find("```", at) - at);
      if (block.find("[agent]") == std::string::npos) continue;
      ++found;
      INFO(page << "\n" << block);
      CHECK(load_text(block, {}, driver_kinds(), any_variable).report().empty());
    }
  }
  CHECK(found > 0);
}

TEST_CASE("every key and every kind of driver has its documentation") {
  auto documented = [](const std::vector<Key>& keys) {
    for (const auto& key : keys) {
      INFO(key.name);
      CHECK_FALSE(key.doc.empty());
    }
  };
  for (const auto& section : sections()) documented(section.keys.keys);
  for (const auto& kind : driver_kinds()) {
    INFO(kind.name);
    CHECK_FALSE(kind.summary.empty());
    documented(kind.keys.keys);
    CHECK(find_driver_type(kind.name) != nullptr);
  }
}

}  // namespace documents_test
}  // namespace
}  // namespace penstock
