#include "drivers/lines/csv.h"

#include "tests/catch.h"

namespace penstock {
namespace {
namespace csv_test {

std::vector<std::string> fields(const CsvRow& row) {
  std::vector<std::string> texts;
  for (const auto& field : row.fields) texts.push_back((field.quoted ? "q:" : "") + field.text);
  return texts;
}

std::vector<std::vector<std::string>> rows(std::string_view text, char separator = ',') {
  std::vector<std::vector<std::string>> all;
  while (!text.empty()) {
    auto row = read_csv_row(text, true, separator);
    if (!row) FAIL(row.error().what);
    REQUIRE(*row);
    all.push_back(fields(**row));
    REQUIRE((*row)->bytes > 0);
    text.remove_prefix((*row)->bytes);
  }
  return all;
}

std::string object(const std::string& text) {
  auto header_row = read_csv_row(text, true);
  auto header = CsvHeader::of(**header_row);
  if (!header) return "header: " + header.error().what;
  auto row = read_csv_row(std::string_view(text).substr((*header_row)->bytes), true);
  auto object = header->object(**row);
  return object ? *object : object.error().what;
}

using Rows = std::vector<std::vector<std::string>>;

TEST_CASE("rows end in LF, CRLF or the end of the file") {
  CHECK(rows("a,b\nc,d\r\ne,f") == Rows{{"a", "b"}, {"c", "d"}, {"e", "f"}});
  CHECK(rows("a,b\r\n") == Rows{{"a", "b"}});
  CHECK(rows("a,b\r") == Rows{{"a", "b"}});
  CHECK(rows(",\n,") == Rows{{"", ""}, {"", ""}});
  CHECK(rows("a\rb\n") == Rows{{"a\rb"}});
  CHECK(rows("a;b,c;\"d\"\n", ';') == Rows{{"a", "b,c", "q:d"}});
}

TEST_CASE("a quoted field holds separators, line ends and quotes") {
  CHECK(rows("\"a,\"\"b\"\"\",\"\"\n\"c\r\nd\",\"e\"") == Rows{{"q:a,\"b\"", "q:"}, {"q:c\r\nd", "q:e"}});
  auto row = read_csv_row("\"1\n2\n3\",x\nnext", true);
  REQUIRE((row.ok() && *row));
  CHECK((*row)->lines == 3);
  CHECK((*row)->bytes == 10);
}

TEST_CASE("a blank line is told from an empty quoted field") {
  CHECK((*read_csv_row("\n", true))->blank());
  CHECK((*read_csv_row("\r\nx", true))->blank());
  CHECK_FALSE((*read_csv_row("\"\"\n", true))->blank());
  CHECK_FALSE((*read_csv_row(",\n", true))->blank());
}

TEST_CASE("a row that is cut anywhere is waited for, and is the same row when the rest is there") {
  std::string text = "plain,\"quoted \"\"x\"\"\r\nline\",7\r\n";
  auto whole = fields(**read_csv_row(text, false));
  CHECK(whole.size() == 3);
  for (std::size_t cut = 0; cut < text.size(); ++cut) {
    auto part = read_csv_row(std::string_view(text).substr(0, cut), false);
    INFO(cut);
    REQUIRE(part.ok());
    CHECK_FALSE(part->has_value());
  }
}

TEST_CASE("quotes that are not RFC 4180's are mistakes, each told with its field") {
  CHECK(read_csv_row("a,5\" pipe\n", true).error().what.find("field 2: a quote inside") == 0);
  CHECK(read_csv_row("a,\"b\"c\n", true).error().what == "field 2: text behind the closing quote");
  CHECK(read_csv_row("a,\"b\nc", true).error().what == "field 2: the quote is not closed");
}

TEST_CASE("a row becomes an object: numbers digit by digit, empty is null, quoted is text") {
  CHECK(object("t,n,s,e,q\n1.50,-0.1e+7,on,,\"5\"\n") == R"({"t":1.50,"n":-0.1e+7,"s":"on","e":null,"q":"5"})");
  CHECK(object("a,b,c,d,e,f\n007,+1,1.,.5,0x1,1e\n") == R"({"a":"007","b":"+1","c":"1.","d":".5","e":"0x1","f":"1e"})");
  CHECK(object("a,b,c\n-,true,123456789012345678901234567890\n") ==
        R"({"a":"-","b":"true","c":123456789012345678901234567890})");
}

TEST_CASE("names and text are escaped; what is not UTF-8, and another count of fields, is refused") {
  CHECK(object("\"a\"\"b\\\"\n\"x\ny\t\x01\"\n") == "{\"a\\\"b\\\\\":\"x\\u000ay\\u0009\\u0001\"}");
  CHECK(object("temp\n21 \xc2\xb0\x43\n") == "{\"temp\":\"21 \xc2\xb0\x43\"}");
  CHECK(object("temp\n21 \xb0\x43\n") == "column \"temp\" is not UTF-8");
  CHECK(object("a,b\n1\n") == "1 fields, the header names 2 columns");
  CHECK(object("a,,b\n1,2,3\n") == "header: column 2 has no name");
  CHECK(object("a,b,a\n1,2,3\n") == "header: there are two columns \"a\"");
}

}  // namespace csv_test
}  // namespace
}  // namespace penstock
