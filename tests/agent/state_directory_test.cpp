#include "agent/daemon/state_directory.h"

#include <fstream>

#include "tests/catch.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {
namespace {
namespace state_directory_test {

namespace fs = std::filesystem;

struct Machine {
  Machine() { fs::create_directories(data); }
  void wants(const std::string& lines) { std::ofstream(tables.wanted) << lines; }
  void has(const std::string& lines) { std::ofstream(tables.present) << lines; }

  TempDir folder;
  fs::path data = fs::canonical(folder.path()) / "my data";
  std::string escaped = fs::canonical(folder.path()).string() + "/my\\040data";
  MountTables tables{folder.path() / "fstab", folder.path() / "mounts"};
};

TEST_CASE("a state directory under a mount point of fstab is refused while nothing is mounted there", "[state]") {
  Machine machine;
  machine.wants("# comment\nUUID=0b1c / ext4 defaults 0 1\n\nLABEL=data " + machine.escaped +
                " ext4 noatime,nofail 0 2\n/dev/sdb1 none swap sw 0 0\n");
  machine.has("/dev/root / ext4 rw 0 0\n");
  auto state = machine.data / "penstock" / "state";
  CHECK(missing_mount(state, machine.tables) == machine.data);
  auto refused = prepare_state_directory(state, machine.tables);
  REQUIRE(!refused);
  INFO(refused.error().what);
  CHECK(refused.error().what.find(machine.data.string() + " is a file system of its own") != std::string::npos);
  CHECK(fs::is_empty(machine.data));

  machine.has("/dev/root / ext4 rw 0 0\n/dev/sda2 " + machine.escaped + " ext4 rw,noatime 0 0\n");
  CHECK(!missing_mount(state, machine.tables));
  CHECK(prepare_state_directory(state, machine.tables));
  CHECK(fs::is_directory(state));
}

TEST_CASE("only the nearest mount point counts, and names that merely begin alike do not", "[state]") {
  Machine machine;
  auto parent = machine.data.parent_path().string();
  machine.wants("a " + parent + " ext4 rw 0 0\nb " + machine.escaped + " ext4 rw 0 0\nc " + machine.escaped +
                "/penst ext4 rw 0 0\n");
  machine.has("b " + machine.escaped + " ext4 rw 0 0\n");
  CHECK(!missing_mount(machine.data / "penstock", machine.tables));
  CHECK(missing_mount(machine.data.parent_path() / "elsewhere", machine.tables) == machine.data.parent_path());
}

TEST_CASE("a machine without fstab mounts as it likes", "[state]") {
  Machine machine;
  CHECK(!missing_mount(machine.data / "penstock", machine.tables));
}

TEST_CASE("a mount point is known through symbolic links", "[state]") {
  Machine machine;
  fs::create_directory_symlink(machine.data, machine.folder.path() / "link");
  machine.wants("b " + machine.escaped + " ext4 rw 0 0\n");
  machine.has("");
  CHECK(missing_mount(machine.folder.path() / "link" / "penstock", machine.tables) == machine.data);
}

}  // namespace state_directory_test
}  // namespace
}  // namespace penstock
