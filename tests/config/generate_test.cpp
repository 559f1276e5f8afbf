// The schema, the example and the reference are what the reader of the file really takes.
#include "config/generate.h"

#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <string>

#include "tests/catch.h"
#include "tests/config/sample_driver.h"

namespace penstock {
namespace {
namespace generate_test {

using Json = nlohmann::json;

std::optional<std::string> any_variable(const std::string&) { return "x"; }

Json json_of(const Value& value) {
  switch (value.type) {
    case Value::Type::string: return value.written;
    case Value::Type::integer: return value.integer;
    case Value::Type::floating: return value.floating;
    case Value::Type::boolean: return value.boolean;
    case Value::Type::date: return "a date";
    case Value::Type::list: {
      Json list = Json::array();
      for (const auto& item : value.items) list.push_back(json_of(item));
      return list;
    }
    case Value::Type::table: break;
  }
  Json table = Json::object();
  for (const auto& member : value.members) table[member.name] = json_of(member.value);
  return table;
}

bool is_of(const Json& instance, const std::string& type) {
  if (type == "object") return instance.is_object();
  if (type == "array") return instance.is_array();
  if (type == "string") return instance.is_string();
  if (type == "boolean") return instance.is_boolean();
  if (type == "integer") return instance.is_number_integer();
  if (type == "number") return instance.is_number();
  FAIL("the schema has the type " << type << ", which this test does not know");
  return false;
}

/// As much of JSON Schema as ours uses; a word it does not know fails the test.
bool valid(const Json& instance, const Json& schema) {
  auto each = [&](const Json& list) {
    std::size_t count = 0;
    for (const auto& one : list) count += valid(instance, one) ? 1 : 0;
    return count;
  };
  for (const auto& [word, rule] : schema.items()) {
    if (word == "$schema" || word == "title" || word == "description" || word == "default") continue;
    if (word == "type") {
      bool right = false;
      for (const auto& type : rule.is_array() ? rule : Json::array({rule})) right = right || is_of(instance, type);
      if (!right) return false;
    } else if (word == "const") {
      if (instance != rule) return false;
    } else if (word == "enum") {
      if (std::find(rule.begin(), rule.end(), instance) == rule.end()) return false;
    } else if (word == "pattern") {
      if (instance.is_string() && !std::regex_search(instance.get<std::string>(), std::regex(rule.get<std::string>())))
        return false;
    } else if (word == "minimum") {
      if (instance.is_number() && instance.get<double>() < rule.get<double>()) return false;
    } else if (word == "maximum") {
      if (instance.is_number() && instance.get<double>() > rule.get<double>()) return false;
    } else if (word == "required") {
      for (const auto& name : rule) {
        if (!instance.contains(name.get<std::string>())) return false;
      }
    } else if (word == "items") {
      for (const auto& item : instance) {
        if (!valid(item, rule)) return false;
      }
    } else if (word == "properties") {
      for (const auto& [name, one] : rule.items()) {
        if (instance.contains(name) && !valid(instance[name], one)) return false;
      }
    } else if (word == "additionalProperties") {
      for (const auto& [name, one] : instance.items()) {
        if (schema.contains("properties") && schema["properties"].contains(name)) continue;
        if (rule.is_boolean() ? !rule.get<bool>() : !valid(one, rule)) return false;
      }
    } else if (word == "propertyNames") {
      for (const auto& [name, one] : instance.items()) {
        if (!valid(name, rule)) return false;
      }
    } else if (word == "anyOf") {
      if (each(rule) == 0) return false;
    } else if (word == "oneOf") {
      if (each(rule) != 1) return false;
    } else {
      FAIL("the schema has the word " << word << ", which this test does not know");
    }
  }
  return true;
}

bool valid_text(const std::string& text) {
  auto parsed = parse_toml(text, any_variable);
  REQUIRE(parsed.problems.empty());
  return valid(json_of(parsed.root), Json::parse(json_schema(sample::kinds())));
}

/// `#key = value` and `#[table]` without their `#`.
std::string with_everything(const std::string& example) {
  std::string out, line;
  std::istringstream in(example);
  while (std::getline(in, line)) {
    bool off = line.size() > 1 && line[0] == '#' && line[1] != ' ';
    out += (off ? line.substr(1) : line) + "\n";
  }
  return out;
}

TEST_CASE("the example is a right configuration, with its defaults and with everything in it") {
  auto example = example_file(sample::kinds());
  auto loaded = load_text(example, {}, sample::kinds(), any_variable);
  INFO(example);
  CHECK(loaded.report().empty());
  auto whole = load_text(with_everything(example), {}, sample::kinds(), any_variable);
  CHECK(whole.report().empty());
  CHECK(whole.settings.drivers.size() == 2);
  CHECK(whole.settings.lanes.size() == 2);
}

TEST_CASE("what the example comments out is the default") {
  auto example = example_file({{"thing", "a sample", sample::point_keys()}});
  std::vector<DriverKind> kinds = {{"thing", "a sample", Keys<sample::Point>().key("name", &sample::Point::name, "n")}};
  auto one = load_text(example_file(kinds), {}, kinds, any_variable);
  auto whole = load_text(with_everything(example_file(kinds)), {}, kinds, any_variable);
  REQUIRE(one.report() + whole.report() == "");
  CHECK(one.settings.agent == whole.settings.agent);
  CHECK(one.settings.buffer == whole.settings.buffer);
  CHECK(one.settings.http == whole.settings.http);
  CHECK(one.settings.drivers == whole.settings.drivers);
  whole.settings.kafka.properties.clear();  // an example, no default
  CHECK(one.settings.kafka == whole.settings.kafka);
}

TEST_CASE("the schema takes the example, with its defaults and with everything in it") {
  auto example = example_file(sample::kinds());
  CHECK(valid_text(example));
  CHECK(valid_text(with_everything(example)));
}

TEST_CASE("the schema refuses what the reader refuses") {
  const std::string least = "[agent]\nid = \"gw\"\n[kafka]\nbrokers = [\"k:9092\"]\n[drivers.d]\ntype = \"thing\"\n";
  REQUIRE(valid_text(least));
  for (std::string wrong : {"zebra = 1",
                            "type2 = \"x\"",
                            "enabled = 1",
                            "count = \"3\"",
                            "count = 1.5",
                            "factor = 3.0",
                            "interval = 5",
                            "interval = \"5 s\"",
                            "memory = \"1GB\"",
                            "limit = \"5KiB\"",
                            "share = \"x%\"",
                            "mode = \"slow\"",
                            "tags = \"a\"",
                            "labels = { a = [] }",
                            "password = 5",
                            "password = { fil = \"x\" }",
                            "points = [{}]",
                            "points = [{ name = \"a\", address = 100 }]",
                            "on_busy = \"stop\"",
                            "[drivers.\"a b\"]\ntype = \"thing\"",
                            "[drivers.e]\ntype = \"other\"",
                            "[drivers.e]\nlane = \"telemetry\"",
                            "[buffer]\ncapacity = 5",
                            "[lanes.alarms]\npriority = -1",
                            "[zebra]"}) {
    INFO(wrong);
    CHECK_FALSE(load_text(least + wrong, {}, sample::kinds(), any_variable).ok());
    CHECK_FALSE(valid_text(least + wrong));
  }
  CHECK_FALSE(valid_text("[agent]\nid = \"gw\"\n"));
  CHECK(valid_text(least + "interval = \"${INTERVAL}\"\nmemory = \"${N}KiB\"\n"));
}

TEST_CASE("the reference names every key of every section and driver with its default") {
  auto page = reference_page(sample::kinds());
  for (const auto& section : sections()) {
    CHECK(page.find("## [" + section.name) != std::string::npos);
    for (const auto& key : section.keys.keys) {
      INFO(section.name << "." << key.name);
      CHECK(page.find("| `" + key.name + "` |") != std::string::npos);
      CHECK(page.find(key.doc) != std::string::npos);
    }
  }
  CHECK(page.find("### type = \"thing\"") != std::string::npos);
  CHECK(page.find("| `count` | a whole number of things | `3` | how many |") != std::string::npos);
  CHECK(page.find("| `limit` | a rate such as \"256KiB/s\" | none | bytes a second |") != std::string::npos);
  CHECK(page.find("| `name` | a string | required | its name |") != std::string::npos);
}

}  // namespace generate_test
}  // namespace
}  // namespace penstock
