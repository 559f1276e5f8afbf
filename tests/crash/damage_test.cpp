// Damages a store in one way after another and looks at what the next lives make of it.
//
// PENSTOCK_DAMAGES says how many random damages (220 in ctest, thousands in a soak), PENSTOCK_SEED repeats a run, and with
// it PENSTOCK_TRIAL does one trial of it only. PENSTOCK_STRIDE says at which bytes of a small store's files something
// happens to each of them: every so many (1 in a soak).
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iomanip>
#include <map>
#include <sstream>

#include "tests/catch.h"
#include "tests/crash/damaged_lives.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace damage_test {

namespace fs = std::filesystem;
using namespace damage;

constexpr std::size_t kPage = 4096;

// --- the damages

std::string contents(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}
void replace(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

/// The last page that holds anything but zeros: behind it lies what was written beforehand.
std::size_t used_pages(const std::string& bytes) {
  auto last = bytes.find_last_not_of('\0');
  return last == std::string::npos ? 1 : last / kPage + 1;
}
std::size_t some_page(const std::string& bytes, Random& random) {
  return static_cast<std::size_t>(pick(random, 2, used_pages(bytes) - 1));
}
char some_byte(Random& random) { return static_cast<char>(pick(random, 1, 255)); }
bool has_flags(const std::string& bytes, std::size_t page, int flags) {
  return (bytes[page * kPage + 10] & 0xf) == flags;
}
void fill(std::string& bytes, std::size_t page, Random& random) {
  for (std::size_t i = 0; i < kPage; ++i) bytes[page * kPage + i] = static_cast<char>(random());
}
/// A page of those that have the flags (1 branch, 2 leaf).
std::size_t page_with(const std::string& bytes, int flags, Random& random) {
  std::vector<std::size_t> pages;
  for (std::size_t page = 2; page < used_pages(bytes); ++page) {
    if (has_flags(bytes, page, flags)) pages.push_back(page);
  }
  REQUIRE(!pages.empty());
  return pages[static_cast<std::size_t>(pick(random, 0, pages.size() - 1))];
}

struct Kind {
  std::string name, file;
  bool one_page = true;  // at least 99 % of the records come through
  bool may_refuse = false;
  bool may_end_early = false;  // the newest commit may be gone without a word: its frame may never have been whole
  std::function<void(std::string& bytes, Random& random)> damage;
};

std::vector<Kind> kinds() {
  auto at = [](Random& random, std::size_t size) { return static_cast<std::size_t>(pick(random, 0, size - 1)); };
  std::vector<Kind> list;
  list.push_back({"one bit", "data.mdb", true, false, false, [=](auto& bytes, auto& random) {
                    auto& byte = bytes[at(random, used_pages(bytes) * kPage)];
                    byte = static_cast<char>(byte ^ 1 << pick(random, 0, 7));
                  }});
  list.push_back({"byte in a page header", "data.mdb", true, false, false, [=](auto& bytes, auto& random) {
                    auto& byte = bytes[some_page(bytes, random) * kPage + at(random, 16)];
                    byte = static_cast<char>(byte ^ some_byte(random));
                  }});
  list.push_back({"byte in a leaf or branch", "data.mdb", true, false, false, [=](auto& bytes, auto& random) {
                    auto page = page_with(bytes, pick(random, 0, 3) == 0 ? 1 : 2, random);
                    auto& byte = bytes[page * kPage + at(random, kPage)];
                    byte = static_cast<char>(byte ^ some_byte(random));
                  }});
  list.push_back({"zeroed page", "data.mdb", true, false, false, [](auto& bytes, auto& random) {
                    auto page = some_page(bytes, random);
                    bytes.replace(page * kPage, kPage, kPage, '\0');
                  }});
  list.push_back({"page of random bytes", "data.mdb", true, false, false,
                  [](auto& bytes, auto& random) { fill(bytes, some_page(bytes, random), random); }});
  list.push_back({"zeroed leaf or branch", "data.mdb", true, false, false, [](auto& bytes, auto& random) {
                    auto page = page_with(bytes, pick(random, 0, 3) == 0 ? 1 : 2, random);
                    bytes.replace(page * kPage, kPage, kPage, '\0');
                  }});
  list.push_back({"byte in a meta page", "data.mdb", true, false, false, [=](auto& bytes, auto& random) {
                    auto& byte = bytes[pick(random, 0, 1) * kPage + at(random, 152)];
                    byte = static_cast<char>(byte ^ some_byte(random));
                  }});
  list.push_back({"zeroed meta page", "data.mdb", true, false, false,
                  [](auto& bytes, auto& random) { bytes.replace(pick(random, 0, 1) * kPage, kPage, kPage, '\0'); }});
  list.push_back({"page in another's place", "data.mdb", true, false, false, [](auto& bytes, auto& random) {
                    auto page = bytes.substr(some_page(bytes, random) * kPage, kPage);
                    bytes.replace(some_page(bytes, random) * kPage, kPage, page);
                  }});
  list.push_back({"cut off", "data.mdb", false, false, false,
                  [=](auto& bytes, auto& random) { bytes.resize(at(random, bytes.size())); }});
  list.push_back({"up to 20 pages zeroed", "data.mdb", false, false, false, [](auto& bytes, auto& random) {
                    for (auto n = pick(random, 2, 20); n > 0; --n) {
                      bytes.replace(some_page(bytes, random) * kPage, kPage, kPage, '\0');
                    }
                  }});
  list.push_back({"another file", "data.mdb", false, false, false, [](auto& bytes, auto& random) {
                    bytes.resize(pick(random, 1, 40'000));
                    for (auto& byte : bytes) byte = static_cast<char>(random());
                  }});
  list.push_back({"byte in lock.mdb", "lock.mdb", true, false, false, [=](auto& bytes, auto& random) {
                    if (bytes.empty()) return;
                    bytes[at(random, bytes.size())] = some_byte(random);
                  }});
  list.push_back({"byte in the manifest", "manifest", true, true, false, [=](auto& bytes, auto& random) {
                    auto& byte = bytes[at(random, bytes.size())];
                    byte = static_cast<char>(byte ^ some_byte(random));
                  }});
  list.push_back({"byte in the journal", "journal", true, false, true, [=](auto& bytes, auto& random) {
                    auto& byte = bytes[at(random, used_pages(bytes) * kPage)];
                    byte = static_cast<char>(byte ^ some_byte(random));
                  }});
  list.push_back({"journal page of random bytes", "journal", true, false, true,
                  [=](auto& bytes, auto& random) { fill(bytes, at(random, used_pages(bytes)), random); }});
  return list;
}

struct Row {
  int trials = 0, clean = 0, mended = 0, anew = 0, refused = 0, again = 0;
  double least = 100, sum = 0;
};

std::string table(const std::vector<Kind>& kinds, const std::map<std::string, Row>& rows) {
  std::ostringstream out;
  out << std::left << std::setw(28) << "damage" << std::right;
  for (const char* column : {"all", "open", "mend", "anew", "refus", "again", "min%", "mean%"}) {
    out << std::setw(6) << column;
  }
  out << std::fixed << std::setprecision(1) << '\n';
  for (const auto& kind : kinds) {
    auto found = rows.find(kind.name);
    if (found == rows.end()) continue;
    const auto& row = found->second;
    out << std::left << std::setw(28) << kind.name << std::right;
    for (int count : {row.trials, row.clean, row.mended, row.anew, row.refused, row.again})
      out << std::setw(6) << count;
    out << std::setw(6) << row.least << std::setw(6) << row.sum / row.trials << '\n';
  }
  return out.str();
}

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST_CASE("no damage crashes a life, delivers wrong data or loses a record without a word", "[crash][store][damage]") {
  const auto seed = number_from("PENSTOCK_SEED", std::random_device()());
  const auto only = number_from("PENSTOCK_TRIAL", 0);
  const auto damages = std::max(only, number_from("PENSTOCK_DAMAGES", 220));
  CAPTURE(seed);
  TempDir folder(fs::current_path());
  auto original = folder.path() / "original", copy = folder.path() / "copy";
  Random making(seed);
  auto truth = make_store(folder.path() / "work", original, making);
  auto list = kinds();
  std::erase_if(list, [&](const Kind& kind) { return !fs::exists(original / kind.file); });

  std::map<std::string, Row> rows;
  for (std::uint64_t trial = 1; trial <= damages; ++trial) {
    if (only != 0 && trial != only) continue;
    const auto& kind = list[trial % list.size()];
    Random random(seed * 1'000'003 + trial);
    fs::remove_all(copy);
    fs::copy(original, copy);
    auto bytes = contents(copy / kind.file);
    kind.damage(bytes, random);
    replace(copy / kind.file, bytes);

    CAPTURE(trial, kind.name);
    auto outcome = live_on(truth, kind.may_end_early, settings_of(copy));
    if (!outcome.failure.empty()) FAIL(outcome.failure << "; it said: " << outcome.says);
    auto& row = rows[kind.name];
    ++row.trials;
    row.again += outcome.lives - 1;
    row.mended += outcome.mended ? 1 : 0;
    row.anew += outcome.anew ? 1 : 0;
    row.refused += outcome.refused ? 1 : 0;
    row.clean += outcome.mended || outcome.anew || outcome.refused ? 0 : 1;
    if (outcome.refused) {
      if (!kind.may_refuse) FAIL("refused: " << outcome.says);
      if (outcome.says.size() < 30) FAIL("a refusal that says nothing: " << outcome.says);
    }
    double percent = 100.0 * static_cast<double>(outcome.back) / static_cast<double>(truth.waiting());
    if (outcome.refused) percent = 100;  // it lies there untouched
    row.least = std::min(row.least, percent);
    row.sum += percent;
    if (kind.one_page && percent < 99) {
      FAIL(outcome.back << " of " << truth.waiting() << " records came through, " << outcome.told
                        << " are in the ledger; it said: " << outcome.says);
    }
  }
  WARN(damages << " damages to " << truth.waiting() << " records, seed " << seed << '\n' << table(list, rows));
  CHECK(!rows.empty());
}

TEST_CASE("a small store may be cut off, or have a byte turned, at any byte of any file", "[crash][store][damage]") {
  const auto stride = std::max<std::uint64_t>(1, number_from("PENSTOCK_STRIDE", 997));
  std::random_device random;
  TempDir folder("/dev/shm");
  auto original = folder.path() / "original", copy = folder.path() / "copy";
  auto truth = make_small_store(folder.path() / "work", original);

  std::ostringstream told;
  for (const std::string file : {"data.mdb", "lock.mdb", "journal", "manifest"}) {
    const auto bytes = contents(original / file);
    // Behind the last byte that is not zero all are alike: one page of them stands for the rest.
    const auto end = std::min(bytes.size(), used_pages(bytes) * kPage + kPage);
    const auto step = std::min<std::uint64_t>(stride, end / 20 + 1);  // a small file deserves some, too
    const auto from = random() % step;
    int trials = 0, mended = 0, anew = 0, refused = 0;
    for (const bool cut : {true, false}) {
      for (std::uint64_t at = from; at < end; at += step) {
        fs::remove_all(copy);
        fs::copy(original, copy);
        auto damaged = bytes;
        if (cut) {
          damaged.resize(static_cast<std::size_t>(at));
        } else {
          auto& byte = damaged[static_cast<std::size_t>(at)];
          byte = static_cast<char>(~byte);
        }
        replace(copy / file, damaged);
        INFO(file << (cut ? " cut off at byte " : " with all bits turned of byte ") << at);
        auto outcome = live_on(truth, file == "journal", settings_of(copy, 1));
        if (!outcome.failure.empty()) FAIL(outcome.failure << "; it said: " << outcome.says);
        if (outcome.refused && (file != "manifest" || outcome.says.size() < 30)) FAIL("refused: " << outcome.says);
        ++trials;
        mended += outcome.mended ? 1 : 0;
        anew += outcome.anew ? 1 : 0;
        refused += outcome.refused ? 1 : 0;
      }
    }
    told << file << ": " << trials << " damages, " << mended << " mended, " << anew << " begun anew, " << refused
         << " refused\n";
    CHECK(trials > 0);
  }
  WARN("every " << stride << " bytes:\n" << told.str());
}

}  // namespace damage_test
}  // namespace
}  // namespace penstock
