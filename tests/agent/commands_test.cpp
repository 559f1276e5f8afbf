// The command line as the user sees it: the real program, its status, stdout and stderr.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "agent/version.h"
#include "config/generate.h"
#include "drivers/table.h"
#include "tests/catch.h"

namespace penstock {
namespace {
namespace commands_test {

/// The program lies beside this one.
std::filesystem::path program() { return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "penstock"; }

class CommandLine {
 public:
  CommandLine() {
    std::string name = (std::filesystem::temp_directory_path() / "penstock-commands-XXXXXX").string();
    folder = mkdtemp(name.data());
  }
  ~CommandLine() { std::filesystem::remove_all(folder); }

  /// Runs `penstock arguments`, bounded in time.
  void run(const std::string& arguments, const std::string& redirect = "") {
    auto line = "timeout 30 '" + program().string() + "' " + arguments + " >'" + (folder / "out").string() + "' 2>'" +
                (folder / "err").string() + "' </dev/null " + redirect;
    int code = std::system(line.c_str());
    status = WIFEXITED(code) ? WEXITSTATUS(code) : -1;
    out = content("out");
    err = content("err");
  }
  std::string write(const std::string& text) {
    std::ofstream(folder / "p.toml") << text;
    return (folder / "p.toml").string();
  }

  std::filesystem::path folder;
  int status = -1;
  std::string out, err;

 private:
  std::string content(const char* name) {
    std::ifstream in(folder / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
};

TEST_CASE("the version and the help are on stdout, with status 0") {
  CommandLine shell;
  shell.run("--version");
  CHECK(shell.status == 0);
  CHECK(shell.out == std::string(version()) + "\n");
  for (std::string command : {"", "check", "config", "config schema", "config example", "config reference"}) {
    INFO(command);
    shell.run(command + " --help");
    CHECK(shell.status == 0);
    CHECK(shell.out.find("Usage:") != std::string::npos);
    CHECK(shell.err.empty());
  }
}

TEST_CASE("a command line that cannot be understood ends with status 64 and says why on stderr") {
  CommandLine shell;
  for (std::string wrong :
       {"", "chek", "check --confg x", "check -c", "config", "config xml", "check extra", "--zebra"}) {
    INFO(wrong);
    shell.run(wrong);
    CHECK(shell.status == 64);
    CHECK(shell.out.empty());
    CHECK_FALSE(shell.err.empty());
  }
}

TEST_CASE("check ends with status 78 and every problem on stderr") {
  CommandLine shell;
  auto file = shell.write("[agent]\nid = \"g w\"\n[kafka]\nbrokers = []\n[drivers.d]\ntype = \"zebra\"\n");
  shell.run("check -c " + file);
  CHECK(shell.status == 78);
  CHECK(shell.out.empty());
  CHECK(shell.err.find(file + ":2:6: agent.id is \"g w\", expected letters") == 0);
  CHECK(shell.err.find(file + ":4:11: kafka.brokers is an empty list") != std::string::npos);
  CHECK(shell.err.find(file + ":6:8: drivers.d.type is \"zebra\"") != std::string::npos);
  shell.run("check --config /nonexistent/p.toml");
  CHECK(shell.status == 78);
  CHECK(shell.err == "/nonexistent/p.toml:1:1: the file cannot be read: No such file or directory\n");
}

TEST_CASE("check of the example is ok, and what it was understood as is on stdout") {
  CommandLine shell;
  auto file = shell.write(example_file(driver_kinds()));
  shell.run("check -c " + file);
  CHECK(shell.status == 0);
  CHECK(shell.out.find(file + ": ok\n") == 0);
  CHECK(shell.out.find("agent    gw-17, state in /var/lib/penstock\n") != std::string::npos);
  CHECK(shell.out.find("brokers  kafka-1:9092, kafka-2:9092\n") != std::string::npos);
  CHECK(shell.err.empty());
}

TEST_CASE("config prints what is generated, and status 1 when it cannot be written") {
  CommandLine shell;
  shell.run("config schema");
  CHECK(shell.status == 0);
  CHECK(shell.out == json_schema(driver_kinds()));
  shell.run("config example");
  CHECK(shell.out == example_file(driver_kinds()));
  shell.run("config reference");
  CHECK(shell.out == reference_page(driver_kinds()));
  shell.run("config reference", ">/dev/full");
  CHECK(shell.status == 1);
  CHECK(shell.err.find("stdout") != std::string::npos);
}

}  // namespace commands_test
}  // namespace
}  // namespace penstock
