#!/usr/bin/env python3
"""A disk that another program fills: the agent goes on, what gives way is counted and logged, and it ends when there is room.

The state directory is a small tmpfs, so it needs root. Exit status 77: no tmpfs can be mounted here.
"""
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from gateway import Failed, Gateway, expect, main, wait_until

DISK = None  # the tmpfs
SIMULATOR = """
[drivers.sim]
type = "simulator"
rate = 20000
"""


def test_a_disk_that_another_program_fills_costs_the_oldest_records_and_the_log_tells_of_each(folder):
    gateway = Gateway(folder, SIMULATOR, listen="off", state=DISK / "state", capacity="64MiB",
                      buffer='journal_bytes = "1MiB"\ncompression_level = 0').up()

    def evicted():
        if not gateway.alive():
            raise Failed(f"the agent ended: {gateway.output()}")
        status = gateway.status()
        return status["store"]["given_up"].get("evicted", 0) if status else 0

    wait_until(lambda: gateway.durable() > 10_000, "records on disk", 30)
    with contextlib.suppress(OSError), open(DISK / "filler", "wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    first = wait_until(evicted, lambda: f"eviction on the full disk; log: {gateway.output()}", 30)
    wait_until(lambda: evicted() > first, "eviction to go on", 30)
    now = gateway.durable()
    wait_until(lambda: gateway.durable() > now + 10_000, "the queue to take records while the disk is full", 30)
    print(f"  ok: full: {evicted()} records given up, the oldest, and the queue takes new ones")

    os.remove(DISK / "filler")
    now, given_up = gateway.durable(), evicted()
    wait_until(lambda: gateway.durable() > now + 100_000, "records once there is room again", 30)
    # The commits under way when the room came may still have made room for themselves.
    settled = evicted()
    now = gateway.durable()
    wait_until(lambda: gateway.durable() > now + 50_000, "more records", 30)
    expect(evicted() == settled, f"room again: {settled - given_up} more given up at the turn, then none")

    expect(gateway.terminate(20) == 0, "exit status 0")
    told = sum(int(n) for n in re.findall(r"(\d+) records given up: evicted", gateway.output()))
    expect(told == settled, f"the log tells of {told} records given up, the store of {settled}")


if __name__ == "__main__":
    DISK = pathlib.Path(tempfile.mkdtemp(prefix="penstock-full-"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(DISK)], capture_output=True, text=True)
    if mounted.returncode != 0:
        os.rmdir(DISK)
        print(f"SKIPPED: no tmpfs can be mounted here: {mounted.stderr.strip()}")
        sys.exit(1 if os.environ.get("PENSTOCK_DEMAND_E2E") == "1" else 77)
    try:
        status = main(globals())
    finally:
        subprocess.run(["umount", str(DISK)], check=False)
        os.rmdir(DISK)
    sys.exit(status)
