#!/usr/bin/env python3
"""Power cuts below the file system: a store on ext4 on a disk that records its writes and flushes (block_recorder).

  power_cut_device.py BUILD [--states 600] [--seed N]

In four runs stores of 1 and 16 MiB are written by processes that end in an orderly way or as if killed. Then, state by
state, a disk that holds what was flushed before a random cut, and of the rest random blocks, torn sectors or a prefix
(block_replay), is mounted: ext4 plays its journal back, the store is opened and must keep all that was reported by then, take
three commits and keep them, too (store_check). At the end of each run states in which the last flush before the cut
never happened: there something must be missing, else this test sees nothing.

Needs root, /dev/fuse, loop devices and mkfs.ext4. Exit status 77: not here. It runs in a mount namespace of its own, so
nothing stays mounted whatever happens; loop devices go with their mounts.
"""
import argparse
import collections
import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from loop_device import call, enter_namespace, mounted, skip, unmount

PART = "powercut-device"
DISK_BYTES = 160 << 20  # the store leaves 64 MiB free when it pre-writes
RUNS = [(1 << 20, 4096), (16 << 20, 4096), (1 << 20, 1024), (16 << 20, 1024)]  # the store's capacity, the block size of ext4
WITHOUT_FLUSH = 25  # states per run to show that a missing flush is seen


@contextlib.contextmanager
def recorded_disk(build, folder, log):
    """Gives the folder with the files `disk` and `said`."""
    folder.mkdir()
    recorder = subprocess.Popen([build / "block_recorder", folder, str(DISK_BYTES), log], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not (folder / "disk").exists():
            if recorder.poll() is not None or time.monotonic() > deadline:
                skip(PART, "FUSE cannot be mounted here")
            time.sleep(0.01)
        yield folder
    finally:
        with contextlib.suppress(RuntimeError):
            unmount(folder)
        try:
            recorder.wait(10)
        except subprocess.TimeoutExpired:
            recorder.kill()
            recorder.wait()


def record(build, work, capacity, block, chance):
    log = work / "recording"
    with recorded_disk(build, work / "fuse", log) as fuse:
        call("mkfs.ext4", "-q", "-b", block, "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", fuse / "disk")
        at = work / "written"
        at.mkdir()
        with mounted(fuse / "disk", at, direct_io=True):
            os.sync()
            with open(fuse / "said", "w") as said:
                said.write("begin\n")
            for _ in range(4):
                with open(fuse / "said", "w") as said:
                    done = subprocess.run([build / "store_writer", at / "store", str(chance.getrandbits(63)), str(capacity),
                                           str(chance.randint(20, 120))], stdin=subprocess.DEVNULL, stdout=said, timeout=300)
                if done.returncode != 0:
                    raise RuntimeError(f"store_writer ended with {done.returncode}")
    return log


def replay(build, work, log, capacity, count, seed, *options):
    """Yields what each cut was, and what was wrong with the store after it, or None."""
    images, at = work / "images", work / "looked-at"
    for folder in (images, at):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    words = [build / "block_replay", log, images, str(count), str(seed), *options]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as states:
        for cut in iter(lambda: states.stdout.readline().rstrip("\n"), ""):
            said = list(iter(lambda: states.stdout.readline().rstrip("\n"), ""))
            yield cut, look_at(build, images / "disk", at, capacity, said)
            print(file=states.stdin, flush=True)
    if states.returncode != 0:
        raise RuntimeError(f"block_replay ended with {states.returncode}")


def look_at(build, image, at, capacity, said):
    try:
        with mounted(image, at, direct_io=False):
            done = subprocess.run([build / "store_check", at / "store", str(capacity), *said], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=120)
    except RuntimeError as failure:
        return f"{failure}"
    if done.returncode == 0 and done.stdout == "ok\n":
        return None
    return done.stdout.strip() or f"store_check ended with {done.returncode}: {done.stderr.strip()}"


def main(build, wanted, seed):
    chance = random.Random(seed)
    print(f"seed {seed}", flush=True)
    failures, seen, states = [], collections.Counter(), 0
    with tempfile.TemporaryDirectory(prefix="power-cut-device-", dir=build) as folder:
        for number, (capacity, block) in enumerate(RUNS):
            begun = time.monotonic()
            work = pathlib.Path(folder) / str(number)
            work.mkdir()
            log = record(build, work, capacity, block, chance)
            title = f"run {number + 1} of {len(RUNS)}, a store of {capacity >> 20} MiB, ext4 with blocks of {block}"
            wrong = 0
            for cut, problem in replay(build, work, log, capacity, wanted // len(RUNS), chance.getrandbits(63)):
                states += 1
                if problem is not None:
                    wrong += 1
                    print(f"FAILED: {title}, cut {cut}: {problem}", flush=True)
                    failures.append(problem)
            missed = [problem for _, problem in replay(build, work, log, capacity, WITHOUT_FLUSH, chance.getrandbits(63),
                                                       "without-last-flush") if problem is not None]
            print(f"{title}: {log.stat().st_size >> 20} MiB recorded, {wanted // len(RUNS)} states, {wrong} wrong; without the "
                  f"last flush {len(missed)} of {WITHOUT_FLUSH} wrong, such as \"{missed[0] if missed else '-'}\"; "
                  f"{time.monotonic() - begun:.0f} s", flush=True)
            seen["missed"] += len(missed)
            if wrong:
                kept = build / f"power-cut-device-recording-{seed}-{number}"
                shutil.copy(log, kept)
                print(f"the recording is kept: {kept}", flush=True)
            shutil.rmtree(work)
    if seen["missed"] == 0:
        failures.append("no state without its last flush was found to be wrong")
        print(f"FAILED: {failures[-1]}")
    print(f"{states} states, {len(failures)} wrong, seed {seed}")
    return 1 if failures or states < wanted // len(RUNS) * len(RUNS) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--states", type=int, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    given = parser.parse_args()
    if not os.path.exists("/dev/fuse"):
        skip(PART, "there is no /dev/fuse")
    if not (given.build / "block_recorder").exists():
        skip(PART, f"{given.build}/block_recorder is not built: it needs libfuse3-dev")
    enter_namespace(PART)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of everything that cleans up
    sys.exit(main(given.build, given.states, given.seed))
