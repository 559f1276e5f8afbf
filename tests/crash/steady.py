#!/usr/bin/env python3
"""A full store that goes on for long, on an ext4 of its own: what it costs the disk, and what it holds (steady_store).

  steady.py BUILD [--records 20000000] [--steps 20] [--capacity 256] [--image-in FOLDER] [--seed N]

Each step has a part of the records; the capacity is in MiB. The disk's image lies in memory, /dev/shm, where there is room
for it: the loop device counts the same writes and flushes, and nobody waits for them. Else it lies in BUILD.

Needs root, loop devices and mkfs.ext4. Exit status 77: not here.
"""
import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from loop_device import enter_namespace, small_disk

PART = "steady"
MEMORY = pathlib.Path("/dev/shm")


def image_folder(given, disk_mebibytes):
    if given.image_in:
        return given.image_in
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2 * disk_mebibytes << 20:
        return MEMORY
    return given.build


def main(given):
    # More than the store has: what the file system wants, and what the store leaves to others.
    disk_mebibytes = given.capacity + given.capacity // 4 + 128
    failed = 0
    for who in ("nobody", "a-link"):
        with tempfile.TemporaryDirectory(prefix="steady-", dir=image_folder(given, disk_mebibytes)) as folder, \
                small_disk(pathlib.Path(folder), disk_mebibytes, "-b", 4096) as disk:
            words = [given.build / "steady_store", disk, who, given.capacity, given.records, given.steps, given.seed]
            done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, timeout=4 * 3600)
        if done.returncode != 0:
            failed += 1
            print(f"FAILED: {who}: steady_store ended with {done.returncode}, seed {given.seed}", flush=True)
    print(f"2 times {given.records} records through a full store of {given.capacity} MiB, {failed} failed, seed {given.seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--records", type=int, default=20_000_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--capacity", type=int, default=256)
    parser.add_argument("--image-in", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("PENSTOCK_SEED", 1)))
    arguments = parser.parse_args()
    enter_namespace(PART)
    # By way of everything that cleans up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    sys.exit(main(arguments))
