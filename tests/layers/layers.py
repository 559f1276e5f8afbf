#!/usr/bin/env python3
"""Reads every #include of the tree and says which breaks the rules of the house.

usage: layers.py ROOT      status 0: no problem; 1: each problem on a line of its own, file:line: what is wrong

The rules (arrows point down only: agent -> drivers -> config -> buffer):
 - a room includes only itself and the rooms below it, by paths from the root;
 - a driver (drivers/NAME.* or drivers/NAME/) includes itself, what all drivers share, config, and of buffer only its
   vocabulary; never another driver. drivers/table.* is the one place that knows them all;
 - a third-party header is seen by .cpp files of its own room only, never by a header, unless it is one of forward
   declarations (..._fwd.hpp);
 - tests include Catch2 by tests/catch.h only; nothing outside tests includes tests.
"""
import os
import re
import sys

BELOW = {
    "buffer": ["buffer"],
    "config": ["config", "buffer"],
    "drivers": ["drivers", "config", "buffer"],
    "agent": ["agent", "drivers", "config", "buffer"],
}
VOCABULARY = ["buffer/record.h", "buffer/result.h", "buffer/clock.h", "buffer/identity.h", "buffer/descriptor.h"]
SHARED_BY_DRIVERS = ["drivers/driver.h", "drivers/table.h", "drivers/polled.h", "drivers/lines/csv.h",
                     "drivers/lines/times.h", "drivers/lines/utf8.h"]

# Third-party headers by how their name begins, and the folders whose .cpp files may see them.
THIRD_PARTY = {
    "lmdb.h": ["buffer"],
    "zstd.h": ["buffer"],
    "zdict.h": ["buffer"],
    "xxhash.h": ["buffer"],
    "toml++/": ["config"],
    "nlohmann/": ["config", "drivers", "agent"],
    "librdkafka/": ["agent/kafka"],
    "zlib.h": ["agent/kafka"],
    "mqtt/": ["drivers/mqtt"],
    "MQTT": ["drivers/mqtt"],
    "openssl/": ["drivers/mqtt"],
    "CLI/": ["agent/commands"],
    "microhttpd.h": ["agent/daemon"],
    "prometheus/": ["agent/daemon"],
    "systemd/": ["agent/daemon"],
    "spdlog/": ["agent", "drivers"],
    "fmt/": ["buffer", "config", "drivers", "agent"],
}
# The system's own: the C++ and C libraries, POSIX and the kernel.
SYSTEM_FOLDERS = ["sys/", "linux/", "net/", "netinet/", "arpa/", "asm/"]
SYSTEM = set("""assert.h ctype.h dirent.h dlfcn.h endian.h errno.h fcntl.h fnmatch.h glob.h grp.h ifaddrs.h inttypes.h limits.h
malloc.h math.h mntent.h netdb.h poll.h pthread.h pty.h pwd.h sched.h semaphore.h setjmp.h signal.h spawn.h stddef.h stdint.h stdio.h
stdlib.h string.h strings.h syslog.h termios.h time.h ucontext.h unistd.h utime.h""".split())

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:<([^>]+)>|"([^"]+)")')


def under(path, folder):
    return path == folder or path.startswith(folder + "/")


def driver_of(path):
    """The driver a file of drivers/ belongs to; None for what all drivers share and for the table."""
    if path in SHARED_BY_DRIVERS or path == "drivers/table.cpp" or path[:-4] + ".h" in SHARED_BY_DRIVERS:
        return None
    return path.split("/")[1].split(".")[0]


def problem_of_own(path, included, root):
    room = path.split("/")[0]
    target = included.split("/")[0]
    if not os.path.isfile(os.path.join(root, included)):
        return f'"{included}" is not a path from the root (third-party and system headers go in <>)'
    if room == "tests":
        return None
    if target not in BELOW[room]:
        return f'"{included}": {room}/ includes only {", ".join(x + "/" for x in BELOW[room])}'
    if room == "drivers" and driver_of(path) is not None:
        if target == "buffer" and included not in VOCABULARY:
            return f'"{included}": a driver sees of buffer/ only {", ".join(VOCABULARY)}'
        if target == "drivers" and included not in SHARED_BY_DRIVERS and driver_of(included) != driver_of(path):
            return f'"{included}": a driver does not include another driver'
    return None


def problem_of_system(path, included):
    room = path.split("/")[0]
    if included.startswith("catch2/"):
        return None if path == "tests/catch.h" else f"<{included}>: Catch2 is included by tests/catch.h only"
    if room == "tests":
        return None
    if ("." not in included and "/" not in included) or included in SYSTEM:
        return None
    if any(included.startswith(folder) for folder in SYSTEM_FOLDERS):
        return None
    for begin, folders in THIRD_PARTY.items():
        if included.startswith(begin):
            if not path.endswith(".cpp") and not included.endswith("_fwd.hpp"):
                return f"<{included}>: a third-party header is never included by a header"
            if not any(under(path, folder) for folder in folders):
                return f"<{included}>: is seen by files of {', '.join(x + '/' for x in folders)} only"
            return None
    return f"<{included}>: nobody owns this header; give it a room in tests/layers/layers.py"


def problems(root):
    found, files = [], 0
    for room in ("agent", "buffer", "config", "drivers", "tests"):
        for folder, _, names in sorted(os.walk(os.path.join(root, room))):
            for name in sorted(names):
                if not name.endswith((".cpp", ".h")):
                    continue
                files += 1
                path = os.path.relpath(os.path.join(folder, name), root)
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    for number, line in enumerate(file, 1):
                        match = INCLUDE.match(line)
                        if not match:
                            continue
                        if match.group(1):
                            problem = problem_of_system(path, match.group(1))
                        else:
                            problem = problem_of_own(path, match.group(2), root)
                        if problem:
                            found.append(f"{path}:{number}: {problem}")
    return found, files


def main():
    root = sys.argv[1]
    found, files = problems(root)
    for line in found:
        print(line)
    if files == 0:
        print(f"{root}: no source files here")
        return 1
    print(f"{files} files read, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
