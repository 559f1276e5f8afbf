#include "agent/queue/import_file.h"

#include <fstream>
#include <vector>

#include "tests/catch.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace import_file_test {

struct Folder {
  std::filesystem::path write(const std::string& name, const std::string& text, bool append = false) {
    auto path = dir.path() / name;
    std::ofstream(path, append ? std::ios::app : std::ios::trunc) << text;
    return path;
  }
  std::unique_ptr<ImportFile> open(const std::filesystem::path& path, const ImportFormat& format = {}) {
    auto file = ImportFile::open(path, format);
    if (!file) FAIL(file.error().what);
    return std::move(*file);
  }
  std::string refusal(const std::filesystem::path& path, const ImportFormat& format = {}) {
    auto file = ImportFile::open(path, format);
    return file ? "" : file.error().what;
  }
  TempDir dir;
};

ImportFile::Next next(ImportFile& file) {
  auto got = file.next();
  if (!got) FAIL(got.error().what);
  return *got;
}

/// Payloads, or what is wrong behind a "!".
std::vector<std::string> all(ImportFile& file) {
  std::vector<std::string> rows;
  while (true) {
    auto row = next(file);
    if (row.what == ImportFile::Next::What::end) return rows;
    rows.push_back(row.what == ImportFile::Next::What::bad ? "!" + row.problem : row.row.record.payload);
  }
}

using Rows = std::vector<std::string>;

TEST_CASE("rows of a CSV are records; byte order mark, blank lines and line ends do not matter") {
  Folder folder;
  auto path =
      folder.write("boiler.csv",
                   "\xEF\xBB\xBF"
                   "time,where,v\r\n1777896000,roof,1\n\n\"2026-05-04T12:00:01Z\",\"a\nb\",2\r\n\r\n1777896002,,3");
  ImportFormat format;
  format.fields.time = "time";
  auto file = folder.open(path, format);
  auto first = next(*file);
  CHECK(first.row.record.stream == "boiler");
  CHECK(first.row.record.driver == "import");
  CHECK(first.row.record.time == WallTime(std::chrono::seconds(1'777'896'000)));
  CHECK(first.row.record.payload == R"({"time":1777896000,"where":"roof","v":1})");
  CHECK(next(*file).row.record.time == WallTime(std::chrono::seconds(1'777'896'001)));
  CHECK(file->place().line == 6);
  CHECK(all(*file) == Rows{R"({"time":1777896002,"where":null,"v":3})"});
  CHECK(file->place().records == 3);
  CHECK(file->place().offset == file->size());

  format.fields.stream = "where";
  format.fields.key = "v";
  format.driver = "old";
  auto named = folder.open(path, format);
  auto row = next(*named).row.record;
  CHECK(row.stream == "roof");
  CHECK(row.key == "1");
  CHECK(row.driver == "old");
  next(*named);
  CHECK(next(*named).row.record.stream == "boiler");
}

TEST_CASE("a position between any two rows is gone on from, in a CSV and in JSON lines") {
  Folder folder;
  auto csv = folder.write("a.csv", "n,text\r\n0,\"x\ny\"\r\n1,\"\"\"\"\r\n\r\n2,z\n3,end");
  auto jsonl = folder.write("a.jsonl", "{\"n\":0}\r\n{\"n\":1}\n\n  \n{\"n\":2}\n{\"n\":3}");
  for (const auto& path : {csv, jsonl}) {
    auto whole = all(*folder.open(path));
    REQUIRE(whole.size() == 4);
    for (std::size_t cut = 0; cut <= 4; ++cut) {
      INFO(path.string() << " after " << cut);
      auto before = folder.open(path);
      for (std::size_t i = 0; i < cut; ++i) next(*before);
      auto position = before->position(before->place());
      auto after = folder.open(path);
      auto same = after->go_on(position);
      REQUIRE(same.ok());
      CHECK(*same);
      CHECK(after->place().records == cut);
      CHECK(after->place().line == before->place().line);
      CHECK(all(*after) == Rows(whole.begin() + static_cast<std::ptrdiff_t>(cut), whole.end()));
    }
  }
}

TEST_CASE("a file that has grown is gone on with, also when its last line had no end") {
  Folder folder;
  for (std::string end : {"\n", ""}) {
    auto path = folder.write("a.jsonl", "{\"n\":0}\n{\"n\":1}" + end);
    auto file = folder.open(path);
    all(*file);
    auto position = file->position(file->place());
    folder.write("a.jsonl", end.empty() ? "\r\n{\"n\":2}\n" : "{\"n\":2}\n", true);
    auto grown = folder.open(path);
    CHECK(*grown->go_on(position));
    CHECK(all(*grown) == Rows{"{\"n\":2}"});
  }
  auto path = folder.write("a.jsonl", "{\"n\":0}\n{\"n\":1}");
  auto file = folder.open(path);
  all(*file);
  auto position = file->position(file->place());
  folder.write("a.jsonl", "7}\n", true);
  auto refused = folder.open(path)->go_on(position);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().what == path.string() + ":2: this line was imported before it was complete");
}

TEST_CASE("another file under the same name is begun, one that was cut is refused") {
  Folder folder;
  auto path = folder.write("a.jsonl", "{\"n\":0}\n{\"n\":1}\n");
  auto file = folder.open(path);
  all(*file);
  auto position = file->position(file->place());
  folder.write("a.jsonl", "{\"m\":0}\n{\"m\":1}\n");
  auto other = folder.open(path);
  CHECK_FALSE(*other->go_on(position));
  // Where the new file ends is no position that was kept before, whatever the two have in common.
  folder.write("a.jsonl", "{\"n\":0}\n{\"n\":1}\n");
  auto again = folder.open(path);
  again->begin_again(position);
  CHECK(all(*again).size() == 2);
  CHECK(again->position(again->place()) != position);

  std::string head(5000, ' ');
  folder.write("a.jsonl", head + "\n{\"n\":0}\n{\"n\":1}\n");
  auto large = folder.open(path);
  CHECK(all(*large).size() == 2);
  position = large->position(large->place());
  folder.write("a.jsonl", head + "\n{\"n\":0}\n");
  auto cut = folder.open(path)->go_on(position);
  REQUIRE_FALSE(cut.ok());
  CHECK(cut.error().what.find("it was cut since") != std::string::npos);
  CHECK_FALSE(folder.open(path)->go_on("nonsense").ok());
  CHECK_FALSE(folder.open(path)->go_on("{\"next\":-1}").ok());
}

TEST_CASE("the name is that of the file, not of the way to it") {
  Folder folder;
  auto path = folder.write("a.jsonl", "{}\n");
  std::filesystem::create_symlink(path, folder.dir.path() / "link.jsonl");
  CHECK(folder.open(path)->name() == folder.open(folder.dir.path() / "link.jsonl")->name());
  CHECK(folder.open(path)->name() != folder.open(folder.write("b.jsonl", "{}\n"))->name());
}

TEST_CASE("a bad row is told with its line, and the ones behind it are read") {
  Folder folder;
  auto csv =
      folder.write("a.csv", "t,v\n1777896000,1\nnever,2\n1777896001,x\"y\n1777896002,3,4\n\"open,5\n1777896003,6\n");
  ImportFormat format;
  format.fields.time = "t";
  auto rows = all(*folder.open(csv, format));
  REQUIRE(rows.size() == 6);
  CHECK(rows[0] == R"({"t":1777896000,"v":1})");
  CHECK(rows[1].find("!" + csv.string() + ":3: \"never\" is not a time") == 0);
  CHECK(rows[2].find("!" + csv.string() + ":4: field 2: a quote inside") == 0);
  CHECK(rows[3] == "!" + csv.string() + ":5: 3 fields, the header names 2 columns");
  CHECK(rows[4] == "!" + csv.string() + ":6: field 1: the quote is not closed");
  CHECK(rows[5] == R"({"t":1777896003,"v":6})");

  auto lines = folder.write("a.jsonl", "{\"n\":0}\nnot json\n{\"n\":2}\n");
  CHECK(all(*folder.open(lines)) == Rows{"{\"n\":0}", "!" + lines.string() + ":2: not JSON", "{\"n\":2}"});
}

TEST_CASE("rows across every read of the file are whole, and what is too long is passed over in bounded memory") {
  Folder folder;
  std::string text = "n,fill\n";
  for (int n = 0; n < 3000; ++n)
    text += std::to_string(n) + ",\"" + std::string(static_cast<std::size_t>(n % 700), 'f') + "\n\"\n";
  CHECK(all(*folder.open(folder.write("a.csv", text))).size() == 3000);

  ImportFormat format;
  format.max_record_bytes = 1000;
  auto path = folder.write("a.jsonl", "{\"n\":0}\n{\"fill\":\"" + std::string(2000, 'f') + "\"}\n{\"fill\":\"" +
                                          std::string(3 << 20, 'f') + "\"}\n{\"n\":3}\n");
  auto rows = all(*folder.open(path, format));
  REQUIRE(rows.size() == 4);
  CHECK(rows[1].find(":2: a record of 2") != std::string::npos);
  CHECK(rows[2].find(":3: a line of more than") != std::string::npos);
  CHECK(rows[3] == "{\"n\":3}");
}

TEST_CASE("what cannot be imported is refused before anything is read") {
  Folder folder;
  CHECK(folder.refusal(folder.dir.path() / "none.csv").find("No such file") != std::string::npos);
  CHECK(
      folder.refusal(folder.dir.path(), {ImportFormat::Kind::csv, ',', {}, "", "", 1000}).find("not a regular file") !=
      std::string::npos);
  CHECK(folder.refusal(folder.write("a.txt", "x")).find("--format") != std::string::npos);
  CHECK(folder.refusal(folder.write("a.csv", "")).find("there is no header row") != std::string::npos);
  CHECK(folder.refusal(folder.write("a.csv", "a,a\n1,2\n")).find(":1: there are two columns \"a\"") !=
        std::string::npos);
  ImportFormat format;
  format.fields.time = "time";
  CHECK(
      folder.refusal(folder.write("a.csv", "t,v\n1,2\n"), format).find("there is no column \"time\"; there are t, v") !=
      std::string::npos);
  CHECK(all(*folder.open(folder.write("a.tsv", "a\tb\n1\t2,3\n"))) == Rows{R"({"a":1,"b":"2,3"})"});
  CHECK(all(*folder.open(folder.write("empty.jsonl", ""))).empty());
}

}  // namespace import_file_test
}  // namespace
}  // namespace penstock
