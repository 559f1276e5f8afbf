#include "buffer/salvage.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <set>
#include <sstream>

#include "buffer/block.h"
#include "buffer/database.h"
#include "buffer/mend_child.h"
#include "buffer/meta.h"
#include "buffer/page_check.h"
#include "buffer/row_check.h"
#include "buffer/suspect.h"
#include "tests/buffer/store_fixture.h"

namespace penstock {
namespace {
namespace salvage_test {

namespace fs = std::filesystem;

class Fixture : public StoreFixture {
 public:
  Fixture() { expect_damage = true; }

  fs::path file(const char* name) const { return settings.directory / name; }
  static std::string contents(const fs::path& path) {
    std::ostringstream out;
    out << std::ifstream(path, std::ios::binary).rdbuf();
    return out.str();
  }
  static void write(const fs::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }
  std::size_t page_bytes() const { return system_page_bytes(); }

  /// 300 records in several runs, the first 60 delivered and deleted; a state; closed.
  void fill() {
    open();
    for (int i = 0; i < 10; ++i) {
      put_many(30);
      reopen();
    }
    BatchLimits limits;
    limits.records = 60;
    deliver(limits);
    Group remembered = group({});
    remembered.changes.push_back({"position", "17"});
    commit({remembered});
    commit();
    store.reset();
  }
  /// The page of the newest tree's root, from which everything hangs.
  std::uint64_t root() const {
    auto bytes = contents(file("data.mdb"));
    auto one = parse_meta_page(bytes.substr(0, page_bytes()), 0);
    auto other = parse_meta_page(bytes.substr(page_bytes(), page_bytes()), 1);
    REQUIRE(one);
    REQUIRE(other);
    return one->snapshot > other->snapshot ? one->main.root : other->main.root;
  }
  void zero(std::uint64_t page) const {
    auto bytes = contents(file("data.mdb"));
    bytes.replace(page * page_bytes(), page_bytes(), page_bytes(), '\0');
    write(file("data.mdb"), bytes);
  }
  void flip(std::size_t byte, int bit) const {
    std::fstream data(file("data.mdb"), std::ios::in | std::ios::out | std::ios::binary);
    data.seekg(static_cast<std::streamoff>(byte));
    char value = static_cast<char>(data.get() ^ 1 << bit);
    data.seekp(static_cast<std::streamoff>(byte));
    data.put(value);
  }
  const Mended& mended() {
    REQUIRE(store->mended());
    return *store->mended();
  }
  /// Everything from `first` to 300 comes, once and in order.
  void check_all_from(std::uint64_t first) {
    std::uint64_t next = first;
    for (const auto& stored : read().records) {
      if (stored.sequence != Sequence(next)) FAIL("expected " << next << ", found " << stored.sequence.value());
      if (stored.record.payload != payload(next)) FAIL(next << " is not what was put");
      ++next;
    }
    CHECK(next == 301);
  }
};

/// A file of which some pages cannot be read.
class WornPages final : public PageSource {
 public:
  WornPages(const Descriptor& file, std::size_t page_bytes) : pages_(file, page_bytes) {}
  std::size_t page_bytes() const override { return pages_.page_bytes(); }
  std::uint64_t count() const override { return pages_.count(); }
  bool read(std::uint64_t page, char* into) const override { return worn.count(page) == 0 && pages_.read(page, into); }

  std::set<std::uint64_t> worn;

 private:
  FilePages pages_;
};

TEST_CASE("a zeroed root costs no record, and the damaged file is kept aside", "[store][damage][salvage]") {
  Fixture f;
  f.fill();
  f.zero(f.root());
  auto damaged = Fixture::contents(f.file("data.mdb"));
  f.open();
  CHECK(f.mended().outcome == Mended::Outcome::salvaged);
  CHECK(f.mended().records == 240);
  CHECK(f.mended().lost == 0);
  CHECK(f.mended().kept_as == f.file("damaged.mdb").string());
  auto kept = Fixture::contents(f.file("damaged.mdb"));
  CHECK(kept == damaged.substr(0, kept.size()));
  CHECK(damaged.find_first_not_of('\0', kept.size()) == std::string::npos);
  CHECK_FALSE(fs::exists(f.file("salvaged")));
  f.check_all_from(61);
  f.open();
  CHECK_FALSE(f.store->mended());
  f.put({"next"});
  CHECK(f.read().records.back().sequence == Sequence(301));
}

TEST_CASE("what was remembered, delivered and given up outlives a lost meta page", "[store][damage][salvage]") {
  Fixture f;
  f.fill();
  f.open();
  Group refused = f.group({});
  refused.refusal = Refusal{Cause::refused, 7};
  f.commit({refused});
  auto epoch = f.store->status().epoch;
  auto runs = f.store->history().runs.size();
  f.store.reset();
  for (std::uint64_t page : {0, 1}) {
    CAPTURE(page);
    auto before = Fixture::contents(f.file("data.mdb"));
    f.zero(page);
    f.open();
    CHECK(f.mended().newest_may_be_missing);
    CHECK(f.store->state("plant", "position").operator*() == std::optional<std::string>("17"));
    CHECK(f.lane().delivered == Sequence(60));
    CHECK(f.lane().last == Sequence(300));
    CHECK(f.store->status().epoch == epoch);
    CHECK(f.store->history().runs.size() == runs + 1);  // and the present one
    f.read();
    f.commit();
    auto batch = f.read();
    REQUIRE(batch.gaps.size() == 1);
    CHECK(batch.gaps[0].count == 7);
    f.check_all_from(61);
    f.store.reset();
    Fixture::write(f.file("data.mdb"), before);
  }
}

TEST_CASE("an unreadable page costs what it held, and the ledger says so", "[store][damage][salvage]") {
  Fixture f;
  f.settings.max_record_bytes = 1 << 20;
  f.open();
  for (int i = 0; i < 10; ++i) {
    std::vector<std::string> big;
    for (int n = 0; n < 3; ++n)
      big.push_back(std::string(900, static_cast<char>('a' + i)));  // raw, in a page of its own
    f.put(big);
    f.reopen();
  }
  f.store.reset();
  Descriptor data(::open(f.file("data.mdb").c_str(), O_RDONLY | O_CLOEXEC));
  WornPages pages(data, f.page_bytes());
  std::string page(f.page_bytes(), '\0');
  for (std::uint64_t i = 2; i < pages.count() && pages.worn.size() < 2; ++i) {
    REQUIRE(pages.read(i, page.data()));
    bool whole = page.find("PSBK") == kPageHeaderBytes && page[kPageHeaderBytes + 88] == 10;
    if (whole) pages.worn.insert(i);  // the block that begins with 10
  }
  REQUIRE(pages.worn.size() == 1);
  CHECK(check_pages(pages).damage.empty());
  CHECK(check_pages(pages, Depth::all).damage.find("cannot be read") != std::string::npos);

  SalvageSettings with;
  with.directory = f.directory.path() / "salvaged";
  with.capacity_bytes = 8 << 20;
  fs::create_directory(with.directory);
  bool nothing = false;
  auto salvaged = salvage(pages, with, &nothing);
  if (!salvaged) FAIL(salvaged.error().what);
  CHECK(salvaged->unreadable_pages == 1);
  CHECK(salvaged->lost == 3);
  CHECK(salvaged->records == 27);
  CHECK_FALSE(salvaged->newest_may_be_missing);
  fs::rename(with.directory / "data.mdb", f.file("data.mdb"));
  f.open();
  CHECK_FALSE(f.store->mended());
  auto batch = f.read();
  CHECK(batch.records.size() == 27);
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].cause == Cause::damaged);
  CHECK(batch.gaps[0].first == Sequence(10));
  CHECK(batch.gaps[0].last == Sequence(12));
}

TEST_CASE("an older page of small rows in a block's place does not turn back what was remembered",
          "[store][damage][salvage]") {
  Fixture f;
  auto remember = [&](const std::string& what) {
    f.open();
    Group group = f.group({});
    for (int i = 0; i < 3; ++i) group.records.push_back(Fixture::record(std::string(900, 'x')));
    group.changes.push_back({"position", what});
    f.commit({group});
    f.store.reset();
    return Fixture::contents(f.file("data.mdb"));
  };
  auto older = remember("older");
  auto old_root = f.root();
  std::string newest;
  std::size_t block = 0;
  for (int i = 0; block == 0 && i < 20; ++i) {  // until the newest root lies behind a block, and is met second
    newest = remember("newest");
    for (std::size_t page = 2; page < f.root() && block == 0; ++page) {
      if (newest.compare(page * f.page_bytes() + kPageHeaderBytes, 4, "PSBK") == 0) block = page * f.page_bytes();
    }
  }
  REQUIRE(block != 0);
  newest.replace(block, f.page_bytes(), older.substr(old_root * f.page_bytes(), f.page_bytes()));
  Fixture::write(f.file("data.mdb"), newest);
  mark_suspect(f.settings.directory.c_str(), "test");
  f.open();
  CHECK(f.mended().outcome == Mended::Outcome::salvaged);
  auto state = f.store->state("plant", "position");
  REQUIRE(state);
  CHECK(*state == std::optional<std::string>("newest"));
}

TEST_CASE("a fragment's key that turned within its order is damage, and hides no record", "[store][damage][salvage]") {
  Fixture f;
  f.open();
  std::string noise;
  std::uint32_t seed = 1;
  for (int i = 0; i < 20'000; ++i) noise += static_cast<char>((seed = seed * 1'664'525 + 1'013'904'223) >> 24);
  f.put({"before", noise});
  f.store.reset();
  auto bytes = Fixture::contents(f.file("data.mdb"));
  auto root = f.root() * f.page_bytes();
  auto leaf = std::string_view(bytes).substr(root, f.page_bytes());
  auto nodes = strict_nodes(leaf, f.root(), PageKind::leaf);
  REQUIRE(nodes);
  auto last = nodes->back().key;
  REQUIRE(last.size() == 13);
  f.flip(root + static_cast<std::size_t>(last.data() - leaf.data()) + 10, 0);  // of sequence 2
  f.open();
  CHECK(f.mended().why == "a block's key is out of place");
  CHECK(f.mended().lost == 0);
  CHECK(f.read_payloads() == std::vector<std::string>{"before", noise});
}

TEST_CASE("what was never committed is not taken for what was lost", "[store][damage][salvage]") {
  Fixture f;
  f.open();
  f.put({"kept"});
  f.store.reset();
  auto saved = f.directory.path() / "saved";
  fs::copy(f.settings.directory, saved);
  auto block_pages = [&](const std::string& bytes) {  // of the block that begins with 2
    std::vector<std::size_t> pages;
    for (std::size_t at = 0; at < bytes.size(); at += f.page_bytes()) {
      auto block = std::string_view(bytes).substr(at + kPageHeaderBytes, kBlockHeaderBytes);
      if (block.substr(0, 4) == "PSBK" && block[88] == 2) pages.push_back(at);
    }
    return pages;
  };
  auto put_large = [&](char what) {
    f.open();
    f.put(std::vector<std::string>(3, std::string(900, what)));
    f.store.reset();
    return Fixture::contents(f.file("data.mdb"));
  };
  auto ghosts = put_large('g');  // a life that this store did not have: as if its commit had been cut off
  fs::remove_all(f.settings.directory);
  fs::copy(saved, f.settings.directory);
  auto real = put_large('r');
  REQUIRE(block_pages(ghosts).size() == 1);
  REQUIRE(block_pages(real).size() == 1);
  auto ghost = ghosts.substr(block_pages(ghosts)[0], f.page_bytes());
  real.replace(block_pages(real)[0], f.page_bytes(), f.page_bytes(), '\0');
  Fixture::write(f.file("data.mdb"), real + ghost);
  mark_suspect(f.settings.directory.c_str(), "test");
  f.open();
  CHECK_FALSE(f.mended().newest_may_be_missing);
  f.read();  // the store finds out by reading what is missing at the end
  f.commit();
  auto batch = f.read();
  CHECK(f.payloads(batch) == std::vector<std::string>{"kept"});
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].first == Sequence(2));
  CHECK(batch.gaps[0].last == Sequence(4));
}

TEST_CASE("no bit of the tree or of a small row turns without being noticed", "[store][damage][salvage]") {
  Fixture f;
  f.fill();
  auto original = Fixture::contents(f.file("data.mdb"));
  std::uint64_t page = f.root();
  if (original[page * f.page_bytes() + kPageWord + 2] == 1) {  // a branch: down to the leaf with the small rows
    auto nodes =
        strict_nodes(std::string_view(original).substr(page * f.page_bytes(), f.page_bytes()), page, PageKind::branch);
    REQUIRE(nodes);
    page = nodes->front().child;
  }
  auto leaf = original.substr(page * f.page_bytes(), f.page_bytes());
  auto nodes = strict_nodes(leaf, page, PageKind::leaf);
  REQUIRE(nodes);
  std::size_t rows = 0;
  for (const auto& node : *nodes) {
    if (!is_small_row(node.key)) continue;
    ++rows;
    auto begin = static_cast<std::size_t>(node.key.data() - leaf.data()) - 8;
    for (std::size_t i = begin; i < begin + 8 + node.key.size() + node.value.size(); ++i) {
      Fixture::write(f.file("data.mdb"), original);
      f.flip(page * f.page_bytes() + i, static_cast<int>(i % 8));
      Descriptor data(::open(f.file("data.mdb").c_str(), O_RDONLY | O_CLOEXEC));
      if (check_pages(FilePages(data, f.page_bytes())).damage.empty()) {
        FAIL("byte " << i - begin << " of row " << node.key.substr(1) << " turned and nothing was noticed");
      }
    }
  }
  CHECK(rows >= 8);
  f.open();
  CHECK(f.mended().outcome == Mended::Outcome::salvaged);
  f.check_all_from(61);
}

/// Mends the damaged store again and again, each time killed one step later, until a life comes to the end: after each
/// cut `check` looks at what the next open made of it. How many cuts there were.
int cut_at_every_step(Fixture& f, const std::function<void()>& check) {
  auto saved = f.directory.path() / "saved";
  fs::copy(f.settings.directory, saved);
  for (int cut = 1;; ++cut) {
    CAPTURE(cut);
    fs::remove_all(f.settings.directory);
    fs::copy(saved, f.settings.directory);
    pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      int steps = 0;
      f.settings.progress = [&] {
        if (++steps == cut) ::_exit(7);
      };
      auto opened = Store::open(f.settings, f.clock);
      ::_exit(opened && (*opened)->mended() ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 0) return cut - 1;
    REQUIRE(WEXITSTATUS(status) == 7);
    f.open();
    check();
    f.store.reset();
  }
}

TEST_CASE("a switch that is cut anywhere is taken up again, and no record is lost", "[store][damage][salvage]") {
  Fixture f;
  f.fill();
  f.zero(f.root());
  Fixture::write(f.file("damaged.mdb"), "of an earlier time");
  int cuts = cut_at_every_step(f, [&] {
    f.check_all_from(61);
    CHECK(f.lane().delivered == Sequence(60));
    CHECK_FALSE(fs::exists(f.file("salvaged")));
    CHECK(Fixture::contents(f.file("damaged.mdb")).size() > f.page_bytes());
  });
  CHECK(cuts >= 10);
}

TEST_CASE("beginning anew that is cut anywhere ends with an empty store and the file aside",
          "[store][damage][salvage]") {
  Fixture f;
  f.fill();
  Fixture::write(f.file("data.mdb"), std::string(20'000, 'x'));
  const std::string journal(65'536, 'j');
  Fixture::write(f.file("journal"), journal);
  int cuts = cut_at_every_step(f, [&] {
    CHECK(f.read().empty());
    bool kept = Fixture::contents(f.file("damaged.journal")) == journal;
    CHECK(kept);
    CHECK(Fixture::contents(f.file("damaged.mdb")) == std::string(20'000, 'x'));
  });
  CHECK(cuts >= 5);
}

TEST_CASE("what is in the journal outlives the loss of all of data.mdb", "[store][damage][salvage]") {
  Fixture f;
  f.open();
  f.put({"sealed"});
  f.store.reset();
  f.open();
  f.deliver();
  f.put({"a", "b"});
  auto saved = f.directory.path() / "saved";
  fs::copy(f.settings.directory, saved);  // as a killed process leaves it
  f.store.reset();
  for (bool missing : {false, true}) {
    CAPTURE(missing);
    fs::remove_all(f.settings.directory);
    fs::copy(saved, f.settings.directory);
    Fixture::write(f.file("data.mdb"), std::string(20'000, 'x'));
    if (missing) fs::remove(f.file("data.mdb"));
    f.open();
    CHECK(f.mended().outcome == Mended::Outcome::salvaged);
    CHECK(f.mended().new_epoch);
    CHECK(f.lane().delivered == Sequence(1));
    CHECK(f.read_payloads() == std::vector<std::string>{"a", "b"});
    f.put({"c"});
    CHECK(f.read().records.back().sequence == Sequence(4));
    f.store.reset();
  }
}

TEST_CASE("how far a lane goes is known from the journal when the page that says so is lost",
          "[store][damage][salvage]") {
  Fixture f;
  f.open();
  // Each run that has something undelivered is a row, between that of the lane's marks and that of what the journal need not
  // say any more: so many that these two lie in different pages.
  for (int i = 0; i < 130; ++i) {
    f.put_many(1);
    f.reopen();
  }
  f.put_many(170);
  REQUIRE(f.store->set_aside(Lane{0}, Sequence(1), "refused"));  // all small rows are in LMDB now, the records are not
  auto saved = f.directory.path() / "saved";
  fs::copy(f.settings.directory, saved);  // as a killed process leaves it
  f.store.reset();
  fs::remove_all(f.settings.directory);
  fs::copy(saved, f.settings.directory);
  auto bytes = Fixture::contents(f.file("data.mdb"));
  int lost = 0;
  for (std::size_t page = 2 * f.page_bytes(); page < bytes.size(); page += f.page_bytes()) {
    const auto text = std::string_view(bytes).substr(page, f.page_bytes());
    if (text.find(marks_key(Lane{0})) == std::string_view::npos) continue;
    if (text.find(meta_key("sealed")) != std::string_view::npos) continue;
    bytes.replace(page, f.page_bytes(), f.page_bytes(), '\0');
    ++lost;
  }
  REQUIRE(lost > 0);
  Fixture::write(f.file("data.mdb"), bytes);
  mark_suspect(f.settings.directory.c_str(), "test");
  f.open();
  CHECK(f.mended().outcome == Mended::Outcome::salvaged);
  CHECK(f.lane().last == Sequence(300));
  f.check_all_from(2);
}

TEST_CASE("of a journal with a damaged frame salvage loses that frame's rows, and no other's",
          "[store][damage][salvage]") {
  Fixture f;
  f.open();
  auto remember = [&](const std::string& name, const std::string& value) {
    Group group = f.group({});
    group.changes.push_back({name, value});
    f.commit({group});
  };
  remember("position", "17");  // frames 1, 2, 3
  remember("other", "lost");
  remember("position two", "18");
  auto saved = f.directory.path() / "saved";
  fs::copy(f.settings.directory, saved);  // as a killed process leaves it
  f.store.reset();
  fs::remove_all(f.settings.directory);
  fs::copy(saved, f.settings.directory);
  f.damage_frame(2);
  mark_suspect(f.settings.directory.c_str(), "test");
  f.zero(f.root());
  f.open();
  CHECK(f.mended().outcome == Mended::Outcome::salvaged);
  auto value = [&](const char* name) { return f.store->state("plant", name)->value_or("none"); };
  CHECK(value("position") == "17");
  CHECK(value("other") == "none");
  CHECK(value("position two") == "18");
}

TEST_CASE("a mark on a whole store is looked into and taken away", "[store][damage][salvage]") {
  Fixture f;
  f.fill();
  mark_suspect(f.settings.directory.c_str(), "SIGSEGV");
  auto data = Fixture::contents(f.file("data.mdb"));
  f.open();
  CHECK(f.mended().outcome == Mended::Outcome::found_whole);
  CHECK(f.mended().why == "SIGSEGV");
  CHECK_FALSE(fs::exists(f.file("suspect")));
  CHECK_FALSE(fs::exists(f.file("damaged.mdb")));
  f.check_all_from(61);
  f.open();
  CHECK_FALSE(f.store->mended());
}

TEST_CASE("a file of a later LMDB is refused and left as it is", "[store][damage][salvage]") {
  Fixture f;
  f.fill();
  for (std::size_t page : {0u, 1u}) {  // version 1 becomes 3
    f.flip(page * f.page_bytes() + kPageHeaderBytes + 4, 1);
  }
  auto data = Fixture::contents(f.file("data.mdb"));
  auto opened = Store::open(f.settings, f.clock);
  REQUIRE_FALSE(opened.ok());
  CHECK(opened.error().fault == Fault::rejected);
  CHECK(opened.error().what.find("newer LMDB") != std::string::npos);
  CHECK(Fixture::contents(f.file("data.mdb")) == data);
  CHECK_FALSE(fs::exists(f.file("damaged.mdb")));
}

TEST_CASE("of a child that crashes, hangs or finds fault one is told which", "[store][damage][salvage]") {
  auto said = [](const std::function<std::string()>& work, double limit = 60) {
    auto text = run_in_child(work, limit, {});
    if (!text) FAIL(text.error().what);
    return *text;
  };
  CHECK(said([] { return std::string(); }).empty());
  CHECK(said([] { return std::string("the tree is bent"); }) == "the tree is bent");
  CHECK(said([]() -> std::string { ::raise(SIGKILL), ::_exit(0); }).find("signal 9") != std::string::npos);
  auto hang = said(
      []() -> std::string {
        for (;;) ::pause();
      },
      0.05);
  CHECK(hang.find("did not come to an end") != std::string::npos);
}

}  // namespace salvage_test
}  // namespace
}  // namespace penstock
