#include <filesystem>
#include <fstream>
#include <sstream>

#include "config/config.h"
#include "tests/catch.h"
#include "tests/config/sample_driver.h"

namespace penstock {
namespace {
namespace load_test {

using namespace std::chrono_literals;

/// The least that is right.
constexpr const char* kLeast = R"([agent]
id = "gw"
[kafka]
brokers = ["k:9092"]
[drivers.d]
type = "thing"
)";

std::optional<std::string> no_variables(const std::string&) { return std::nullopt; }

Loaded read(const std::string& text, const Variables& environment = no_variables) {
  return load_text(text, {}, sample::kinds(), environment);
}

const sample::Settings& sample_of(const Loaded& loaded, std::size_t driver = 0) {
  return *loaded.settings.drivers.at(driver).settings.as<sample::Settings>();
}

/// A folder of its own, taken away at the end.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "penstock-config-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path write(const std::string& name, const std::string& text, unsigned mode) const {
    std::ofstream(path / name) << text;
    std::filesystem::permissions(path / name, static_cast<std::filesystem::perms>(mode));
    return path / name;
  }
  std::filesystem::path path;
};

TEST_CASE("a file that says the least gets every default") {
  auto loaded = read(kLeast);
  CHECK(loaded.report().empty());
  REQUIRE(loaded.ok());
  Settings expected;
  expected.agent.id = "gw";
  expected.kafka.brokers = {"k:9092"};
  expected.drivers = {
      {expected.agent.id, "d", "thing", "telemetry", OnBusy::wait, AnySettings::of(sample::Settings{})}};
  CHECK(loaded.settings == expected);
}

TEST_CASE("every section and key of a file arrives in its settings") {
  auto loaded = read(R"(
[agent]
id = "gw-17"
state_directory = "/data"
status_interval = "30s"
[buffer]
capacity = "2GiB"
journal_bytes = "32MiB"
commit_interval = "20ms"
commit_bytes = "64KiB"
intake_bytes = "8MiB"
max_record_bytes = "2MiB"
when_full = "block"
compression_level = 3
[lanes.telemetry]
priority = 5
[lanes.alarms]
[kafka]
brokers = ["a:1", "[::1]:9092"]
delivery = "exactly_once"
topic = "t.{lane}"
key = "{key}"
headers = "compact"
timestamp = "send"
batch_interval = "1s"
batch_bytes = "1MiB"
batch_records = 100
rate_limit = "256KiB/s"
transaction_timeout = "1m"
duplicate_watch = "2m"
max_topics = 7
on_topic_error = "dead_letter"
[kafka.properties]
"security.protocol" = "ssl"
linger.ms = 5
socket.keepalive.enable = true
[http]
listen = "off"
[drivers.d]
type = "thing"
lane = "alarms"
on_busy = "drop"
)");
  CHECK(loaded.report().empty());
  Settings expected;
  expected.agent = {"gw-17", "/data", 30s};
  expected.buffer = {2ull << 30, 32 << 20, 20ms, 64 << 10, 8 << 20, 2 << 20, WhenFull::block, 3};
  expected.lanes = {{"telemetry", 5}, {"alarms", 0}};
  expected.kafka = {{"a:1", "[::1]:9092"},
                    Delivery::exactly_once,
                    "t.{lane}",
                    "{key}",
                    HeaderStyle::compact,
                    TimestampStyle::send,
                    1s,
                    1 << 20,
                    100,
                    256 << 10,
                    60s,
                    2min,
                    7,
                    OnTopicError::dead_letter,
                    {{"security.protocol", "ssl"}, {"linger.ms", "5"}, {"socket.keepalive.enable", "true"}}};
  expected.http.listen = "off";
  expected.drivers = {{expected.agent.id, "d", "thing", "alarms", OnBusy::drop, AnySettings::of(sample::Settings{})}};
  CHECK(loaded.settings.agent == expected.agent);
  CHECK(loaded.settings.buffer == expected.buffer);
  CHECK(loaded.settings.lanes == expected.lanes);
  CHECK(loaded.settings.kafka == expected.kafka);
  CHECK(loaded.settings.http == expected.http);
  CHECK(loaded.settings.drivers == expected.drivers);
}

TEST_CASE("every type of key arrives in a driver's settings") {
  auto loaded = read(std::string(kLeast) + R"(
device = "/dev/x"
enabled = false
count = 65535
factor = 2
interval = "1m"
memory = "1KiB"
limit = "2KiB/s"
share = "12.5%"
mode = "careful"
tags = ["x", "y"]
labels = { one = "1", "t.w.o" = "2" }
password = "pass"
points = [{ name = "p", address = 9 }, { name = "q" }]
count2 = 1
)");
  // One wrong key does not keep the others from being read.
  CHECK(loaded.problems.size() == 1);
  sample::Settings expected{"/dev/x",
                            false,
                            65535,
                            2.0,
                            60s,
                            1024,
                            2048,
                            12.5,
                            sample::Mode::careful,
                            {"x", "y"},
                            {{"one", "1"}, {"t.w.o", "2"}},
                            Secret("pass"),
                            {{"p", 9}, {"q", 0}}};
  CHECK(sample_of(loaded) == expected);
}

TEST_CASE("${NAME} takes an environment variable in any string, and $$ is a $") {
  auto environment = [](const std::string& name) -> std::optional<std::string> {
    if (name == "GATEWAY") return "gw-9";
    if (name == "EMPTY") return "";
    return std::nullopt;
  };
  auto loaded = read(R"([agent]
id = "${GATEWAY}${EMPTY}"
[kafka]
brokers = ["${GATEWAY}:1"]
[drivers.d]
type = "thing"
tags = ["$$x", "$share/g/${GATEWAY}/+", "$", "a$", "$${GATEWAY}"]
)",
                     environment);
  CHECK(loaded.report().empty());
  CHECK(loaded.settings.agent.id == "gw-9");
  CHECK(loaded.settings.kafka.brokers == std::vector<std::string>{"gw-9:1"});
  CHECK(sample_of(loaded).tags == std::vector<std::string>{"$x", "$share/g/gw-9/+", "$", "a$", "${GATEWAY}"});
}

TEST_CASE("a secret comes from a file, without the line feed at its end") {
  Folder folder;
  folder.write("pw", "from file\n", 0600);
  auto file = folder.write("p.toml",
                           std::string(kLeast) +
                               "password = { file = \"pw\" }\n[kafka.properties]\n"
                               "sasl.password = { file = \"" +
                               (folder.path / "pw").string() + "\" }\n",
                           0644);
  auto loaded = load(file, sample::kinds(), no_variables);
  CHECK(loaded.report().empty());
  CHECK(sample_of(loaded).password.reveal() == "from file");
  CHECK(loaded.settings.kafka.properties.at("sasl.password") == "from file");
}

TEST_CASE("a secret that everybody can read earns a warning, not a problem") {
  Folder folder;
  folder.write("pw", "x", 0644);
  std::string text =
      std::string(kLeast) +
      "password = \"hunter2\"\n[drivers.e]\ntype = \"thing\"\npassword = { file = \"pw\" }\n"
      "[drivers.f]\ntype = \"thing\"\npassword = \"${PW}\"\n[kafka.properties]\nsasl.password = \"hunter2\"\n";
  auto variable = [](const std::string&) { return std::optional<std::string>("hunter2"); };
  auto open = load(folder.write("open.toml", text, 0644), sample::kinds(), variable);
  CHECK(open.ok());
  REQUIRE(open.warnings.size() == 3);
  CHECK(open.warnings[0] == Problem{{7, 12}, "drivers.d.password is a secret in a file that everybody can read"});
  CHECK(open.warnings[1] == Problem{{10, 21}, "drivers.e.password is in the file \"pw\", which everybody can read"});
  CHECK(open.warnings[2] ==
        Problem{{15, 17}, "kafka.properties.\"sasl.password\" is a secret in a file that everybody can read"});
  CHECK(open.report().find("hunter2") == std::string::npos);
  auto closed = load(folder.write("closed.toml", text, 0640), sample::kinds(), variable);
  CHECK(closed.warnings.size() == 1);  // the secret's own file
}

TEST_CASE("a file that cannot be read is a problem of its own") {
  Folder folder;
  CHECK(load(folder.path / "none.toml", sample::kinds()).report() ==
        (folder.path / "none.toml").string() + ":1:1: the file cannot be read: No such file or directory\n");
  CHECK(load(folder.path, sample::kinds()).report() ==
        folder.path.string() + ":1:1: the file cannot be read: it is a directory\n");
}

TEST_CASE("two readings of the same file are equal, and a changed driver key is seen") {
  auto one = read(kLeast), same = read(kLeast), other = read(std::string(kLeast) + "count = 4\n");
  CHECK(one.settings == same.settings);
  CHECK_FALSE(one.settings.drivers[0] == other.settings.drivers[0]);
  CHECK(one.settings.kafka == other.settings.kafka);
}

TEST_CASE("a printed secret is three stars") {
  std::ostringstream out;
  out << Secret("hunter2") << Secret();
  CHECK(out.str() == "***");
}

}  // namespace load_test
}  // namespace
}  // namespace penstock
