#include <unistd.h>

#include <fstream>
#include <sstream>

#include "buffer/database.h"
#include "buffer/frame.h"
#include "buffer/meta.h"
#include "tests/buffer/store_fixture.h"

namespace penstock {
namespace {
namespace store_open_test {

class OpenFixture : public StoreFixture {
 public:
  Error refused() {
    store.reset();
    auto opened = Store::open(settings, clock);
    if (opened) FAIL("opened");
    return opened.error();
  }
  static std::string contents(const std::filesystem::path& path) {
    std::ostringstream out;
    out << std::ifstream(path, std::ios::binary).rdbuf();
    return out.str();
  }
  static void write(const std::filesystem::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
  }
  std::filesystem::path file(const char* name) const { return settings.directory / name; }
  std::string manifest_with(const std::string& from, const std::string& to) {
    auto text = contents(file("manifest"));
    auto at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
  }
};

bool has(const Error& error, const std::string& part) { return error.what.find(part) != std::string::npos; }

TEST_CASE("a store of a newer format or another word size is refused and left as it is", "[store][open]") {
  OpenFixture f;
  f.open();
  f.put({"a"});
  f.store.reset();
  auto manifest = f.contents(f.file("manifest"));
  auto data = f.contents(f.file("data.mdb"));
  for (auto [from, to, part] : {std::tuple{"format = 2", "format = 3", "format 3, this program knows formats 1 and 2"},
                                std::tuple{"word_bits = ", "word_bits = 1", "-bit program cannot be opened by this"},
                                std::tuple{"page_bytes", "page_sizes", "no line \"page_bytes"}}) {
    auto changed = f.manifest_with(from, to);
    f.write(f.file("manifest"), changed);
    auto error = f.refused();
    CHECK(error.fault == Fault::rejected);
    CHECK(has(error, part));
    CHECK(has(error, f.file("manifest").string()));
    CHECK(f.contents(f.file("manifest")) == changed);
    CHECK(f.contents(f.file("data.mdb")) == data);
    f.write(f.file("manifest"), manifest);
  }
  f.open();
  CHECK(f.read_payloads() == std::vector<std::string>{"a"});
}

TEST_CASE("a data.mdb that is not ours is refused and left as it is", "[store][open]") {
  OpenFixture f;
  std::filesystem::create_directory(f.settings.directory);
  f.write(f.file("data.mdb"), "somebody else's");
  auto error = f.refused();
  CHECK(error.fault == Fault::rejected);
  CHECK(has(error, "data.mdb of 15 bytes but no manifest"));
  CHECK(f.contents(f.file("data.mdb")) == "somebody else's");
  CHECK_FALSE(std::filesystem::exists(f.file("manifest")));
}

TEST_CASE("a data.mdb of which nothing can be kept is moved aside, and the store begins anew", "[store][open]") {
  OpenFixture f;
  f.open();
  auto epoch = f.store->status().epoch;
  f.store.reset();
  auto data = f.contents(f.file("data.mdb"));
  std::fill(data.begin(), data.end(), '\x5a');
  f.write(f.file("data.mdb"), data);
  auto journal = f.contents(f.file("journal"));
  REQUIRE_FALSE(journal.empty());
  f.expect_damage = true;
  f.open();
  REQUIRE(f.store->mended());
  CHECK(f.store->mended()->outcome == Mended::Outcome::begun_anew);
  CHECK(f.contents(f.file("damaged.journal")) == journal);
  CHECK(f.store->mended()->kept_as == f.file("damaged.mdb").string());
  CHECK(f.contents(f.file("damaged.mdb")) == data);
  CHECK(f.store->status().epoch != epoch);
  f.put({"a"});
  f.expect_damage = false;
  f.open();
  CHECK(f.read_payloads() == std::vector<std::string>{"a"});
}

TEST_CASE("what a crash left of making a store is made again", "[store][open]") {
  OpenFixture f;
  f.open();
  f.store.reset();
  std::filesystem::rename(f.file("manifest"), f.file("manifest.new"));
  f.write(f.file("data.mdb"), "half a page");
  f.open();
  f.put({"a"});
  CHECK(f.read_payloads() == std::vector<std::string>{"a"});
  CHECK_FALSE(std::filesystem::exists(f.file("manifest.new")));
}

TEST_CASE("one store is open once", "[store][open]") {
  OpenFixture f;
  f.open();
  auto second = Store::open(f.settings, f.clock);
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().fault == Fault::rejected);
  CHECK(has(second.error(), "open in another process"));
  CHECK(has(second.error(), f.settings.directory.string()));
  f.put({"a"});
  f.reopen();
}

TEST_CASE("a directory that cannot be made, opened or written is refused with its name", "[store][open]") {
  OpenFixture f;
  f.settings.directory = f.directory.path() / "no" / "queue";
  CHECK(has(f.refused(), "no/queue: cannot make the directory: No such file or directory"));
  f.write(f.directory.path() / "file", "");
  f.settings.directory = f.directory.path() / "file";
  CHECK(has(f.refused(), "file: cannot open the directory: Not a directory"));

  f.settings.directory = f.directory.path() / "queue";
  std::filesystem::create_directory(f.settings.directory);
  std::filesystem::permissions(f.settings.directory, std::filesystem::perms(0555));
  std::filesystem::permissions(f.directory.path(), std::filesystem::perms(0755));
  bool root = ::geteuid() == 0;
  if (root) REQUIRE(::seteuid(65'534) == 0);
  auto error = f.refused();
  if (root) REQUIRE(::seteuid(0) == 0);
  CHECK(error.fault == Fault::rejected);
  CHECK(has(error, "queue: cannot write in the directory: Permission denied"));
}

TEST_CASE("a capacity that is too small or a record limit that is too large is refused", "[store][open]") {
  OpenFixture f;
  f.settings.capacity_bytes = (1 << 20) - 1;
  CHECK(has(f.refused(), "1048575 bytes is below the least, 1048576"));
  f.settings.capacity_bytes = 1 << 20;
  f.settings.max_record_bytes = (64 << 20) + 1;
  CHECK(has(f.refused(), "max_record_bytes 67108865 is above 67108864"));
  CHECK_FALSE(std::filesystem::exists(f.settings.directory));
}

TEST_CASE("the capacity may change between two opens, and the manifest says so", "[store][open]") {
  OpenFixture f;
  f.open();
  f.put_many(3'000, 500);
  f.settings.capacity_bytes = 32 << 20;
  f.reopen();
  CHECK(f.store->status().capacity_pages == 8'192 - 512);  // the journal keeps its 2 MiB
  CHECK(f.contents(f.file("manifest")).find("capacity = 31457280") != std::string::npos);
  f.settings.capacity_bytes = 1 << 20;
  f.reopen();
  f.put({"last"});
  CHECK(f.read().records.size() == 3'001);
}

TEST_CASE("of many runs the ones a checkpoint can name are kept, and all with undelivered records", "[store][open]") {
  OpenFixture f;
  auto a_run = [&](const std::string& payload) {
    f.reopen();
    f.put({payload});
  };
  for (int i = 0; i < 45; ++i) a_run("x");
  CHECK(f.store->history().runs.size() == 45);
  auto runs = f.store->history().runs;
  f.deliver();
  f.commit();
  a_run("y");
  auto kept = f.store->history().runs;
  CHECK(kept.size() == 34);  // the oldest goes with the next seal
  f.reopen();
  kept.pop_back();
  auto loaded = f.store->history().runs;
  REQUIRE(loaded.size() == 34);  // and the present one
  CHECK(loaded[0].run == runs[13].run);
  auto batch = f.read();
  CHECK(batch.after.runs.size() == kCheckpointRuns);
  CHECK(batch.after.runs.back().run == loaded[32].run);
}

TEST_CASE("a store from before there were journals is read and gets one", "[store][open]") {
  OpenFixture f;
  f.open();
  f.put_many(300, 50);
  f.store.reset();
  {  // as the first version left it
    auto environment = Environment::open(f.settings.directory, f.settings.capacity_bytes);
    REQUIRE(environment.ok());
    Transaction change(**environment, Transaction::Access::write);
    change.erase(meta_key("sealed"));
    change.put(meta_key("format"), std::string("\0\0\0\1", 4));
    REQUIRE(change.commit() == 0);
  }
  std::filesystem::remove(f.file("journal"));
  auto manifest = f.manifest_with("format = 2", "format = 1");
  f.write(f.file("manifest"), manifest.substr(0, manifest.find("journal_seed")));

  f.open();
  CHECK(f.read().records.size() == 300);
  f.put_many(100, 10);
  f.crash();
  CHECK(f.read().records.size() == 400);
  CHECK(f.contents(f.file("manifest")).find("format = 2\n") == 0);
  CHECK(std::filesystem::file_size(f.file("journal")) == 2 << 20);
}

TEST_CASE("a journal that is missing or cut off gets its size again, and the store goes on with what it has",
          "[store][open]") {
  for (bool missing : {true, false}) {
    OpenFixture f;
    f.open();
    f.put_many(20, 10);
    f.reopen();  // in data.mdb now
    f.put_many(50, 10);
    f.crash();
    CHECK_FALSE(f.store->status().journal_cut_off);
    f.crash();
    auto used = f.settings.directory;
    auto copy = f.directory.path() / "cut";
    std::filesystem::copy(used, copy);
    f.store.reset();
    f.settings.directory = copy;
    if (missing) {
      std::filesystem::remove(f.file("journal"));
    } else {
      std::filesystem::resize_file(f.file("journal"), 4 * kFrameAlignment);  // two frames of before, two of now
    }
    f.open();
    CHECK(f.store->status().journal_cut_off);
    CHECK(std::filesystem::file_size(f.file("journal")) == 2 << 20);
    CHECK(f.read().records.size() == (missing ? 20 : 40));
    f.put_many(10);
    f.crash();
    CHECK_FALSE(f.store->status().journal_cut_off);
    CHECK(f.read().records.size() == (missing ? 30 : 50));
  }
}

TEST_CASE("as many commits as the journal holds many times over survive a crash at any of them", "[store][open]") {
  OpenFixture f;
  f.settings.journal_bytes = 64 << 10;
  f.open();
  for (int life = 0; life < 20; ++life) {
    f.put_many(230, 10);
    f.crash();
    auto batch = f.read();
    REQUIRE(batch.records.size() == static_cast<std::size_t>(life + 1) * 230);
    REQUIRE(batch.gaps.empty());
    for (std::size_t i = 0; i < batch.records.size(); ++i) {
      if (batch.records[i].record.payload != f.payload(i + 1)) FAIL("record " << i + 1);
    }
  }
  CHECK(f.store->status().frames_lost == 0);
}

}  // namespace store_open_test
}  // namespace
}  // namespace penstock
