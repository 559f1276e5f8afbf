#!/usr/bin/env python3
"""A disk that another program fills: the agent goes on, what gives way is counted and logged, and it ends when there is room.

  full_disk_test.py PENSTOCK

The state directory is a small tmpfs, so it needs root. Exit status 77: no tmpfs can be mounted here.
"""
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

CONFIG = """
[agent]
id = "gw-full"
state_directory = "{folder}/state"
[buffer]
capacity = "64MiB"
[kafka]
brokers = ["127.0.0.1:1"]
[http]
listen = "off"
[drivers.sim]
type = "simulator"
rate = 20000
"""


def wait_for(call, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not (value := call()):
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: waited {seconds} s in vain for {what}")
        time.sleep(0.05)
    return value


def main(program):
    disk = pathlib.Path(tempfile.mkdtemp(prefix="penstock-full-"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True, text=True)
    if mounted.returncode != 0:
        os.rmdir(disk)
        print(f"SKIPPED: no tmpfs can be mounted here: {mounted.stderr.strip()}")
        sys.exit(1 if os.environ.get("PENSTOCK_DEMAND_E2E") == "1" else 77)
    agent = None
    try:
        with tempfile.TemporaryDirectory() as beside:
            config, log = pathlib.Path(beside) / "full.toml", pathlib.Path(beside) / "log"
            config.write_text(CONFIG.format(folder=disk))
            with open(log, "wb") as out:
                agent = subprocess.Popen([program, "run", "-c", str(config)], stdin=subprocess.DEVNULL, stdout=out, stderr=out)

            def status():
                done = subprocess.run([program, "status", "--json", "-c", str(config)], capture_output=True, text=True, timeout=20)
                return json.loads(done.stdout) if done.returncode == 0 else None

            def evicted():
                assert agent.poll() is None, log.read_text()
                now = status()
                return now["store"]["given_up"].get("evicted", 0) if now else 0

            def durable():
                return status()["lanes"][0]["durable"]

            wait_for(status, "the agent to answer")
            wait_for(lambda: durable() > 10_000, "records on disk")
            with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
                while filler.write(bytes(4096)):
                    pass
            first = wait_for(evicted, f"eviction on the full disk; log: {log.read_text()}")
            wait_for(lambda: evicted() > first, "eviction to go on")
            now = durable()
            wait_for(lambda: durable() > now + 10_000, "the queue to take records while the disk is full")
            print(f"  ok: full: {evicted()} records given up, the oldest, and the queue takes new ones")

            os.remove(disk / "filler")
            now, given_up = durable(), evicted()
            wait_for(lambda: durable() > now + 100_000, "records once there is room again")
            # The commits under way when the room came may still have made room for themselves.
            settled = evicted()
            now = durable()
            wait_for(lambda: durable() > now + 50_000, "more records")
            if evicted() != settled:
                sys.exit(f"FAILED: still evicting with room on the disk: {settled} -> {evicted()}")
            print(f"  ok: room again: {settled - given_up} more given up at the turn, then none")

            agent.terminate()
            if agent.wait(20) != 0:
                sys.exit(f"FAILED: exit status {agent.returncode}: {log.read_text()}")
            told = sum(int(n) for n in re.findall(r"(\d+) records given up: evicted", log.read_text()))
            if told != settled:
                sys.exit(f"FAILED: the log tells of {told} records given up, the store of {settled}: {log.read_text()}")
            print(f"  ok: the log tells of all {told}; exit status 0")
    finally:
        if agent is not None and agent.poll() is None:
            agent.kill()
            agent.wait()
        subprocess.run(["umount", str(disk)], check=False)
        os.rmdir(disk)


if __name__ == "__main__":
    main(sys.argv[1])
