#!/usr/bin/env python3
"""A store on a full disk: a small ext4 of its own for each policy, filled to the last block (full_disk_store).

  full_disk.py BUILD [--transactions 500] [--seed N]

Needs root, loop devices and mkfs.ext4. Exit status 77: not here.
"""
import argparse
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile

from loop_device import enter_namespace, small_disk

PART = "full-disk"
DISK_MEBIBYTES = 24


def main(build, transactions, seed):
    failed = 0
    for policy in ("evict_oldest", "reject_newest", "block"):
        with tempfile.TemporaryDirectory(prefix="full-disk-", dir=build) as folder, \
                small_disk(pathlib.Path(folder), DISK_MEBIBYTES) as disk:
            done = subprocess.run([build / "full_disk_store", disk, policy, str(transactions), str(seed)],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=7200)
        print(done.stdout, end="", flush=True)
        if done.returncode != 0:
            failed += 1
            print(f"FAILED: {policy}: full_disk_store ended with {done.returncode}, seed {seed}: {done.stderr.strip()}", flush=True)
    print(f"3 policies, {failed} failed, seed {seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--transactions", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("PENSTOCK_SEED", random.SystemRandom().getrandbits(32))))
    given = parser.parse_args()
    enter_namespace(PART)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of everything that cleans up
    sys.exit(main(given.build, given.transactions, given.seed))
