#!/usr/bin/env python3
"""The link is away for longer than the transaction timeout, in the middle of a transaction: nobody else waits for long, nothing is
lost, and what was on its way lands too late and changes nothing.

The transaction timeout is 10 s, and this broker looks for overdue transactions every 0.5 s (Kafka's default is 10 s): so long, and
no longer, may a read_committed reader of the partition be held up.
"""
import subprocess
import threading
import time

from harness import Kafka, expect, need, run, stage, wait_until
from rows import prove, start_agent

TRANSACTION_TIMEOUT, LOOKED_FOR_EVERY, SLACK = 10, 0.5, 2.0
TOPIC = "blackout"


class Reader:
    """kcat, past the bad link, read_committed: when it saw what."""

    def __init__(self, bootstrap):
        self.seen = {}
        self.child = subprocess.Popen(["kcat", "-C", "-b", bootstrap, "-t", TOPIC, "-o", "beginning", "-q", "-u", "-f", "%s\\n",
                                       "-X", "isolation.level=read_committed"], stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.child.stdout:
            self.seen.setdefault(line.rstrip("\n"), time.monotonic())

    def stop(self):
        self.child.kill()
        self.child.wait()


def test():
    with stage() as (folder, parts):
        kafka = Kafka(folder, relay=True)
        parts.append(kafka)
        kafka.start()
        # A transaction in many requests, so that some of its records are there for seconds before it is committed.
        penstock, rows = start_agent(kafka, folder, parts, "gw-blackout", TOPIC, partitions=1, batch_size=100_000)
        rows.give(500)
        rows.wait_drained()
        before = penstock.status()["kafka"]
        reader = Reader(kafka.listeners["internal"])
        parts.append(reader)
        wait_until(lambda: len(reader.seen) >= 500, "the reader to read", 30)

        # So slow that a transaction takes some seconds: the link goes in the middle of one.
        kafka.tell("rate 60000")
        rows.give(8000)
        decided = time.monotonic()

        def open_transaction():
            nonlocal decided
            asked = time.monotonic()
            end, stable = kafka.end(TOPIC, 0), kafka.end(TOPIC, 0, committed=True)
            if end is not None and stable is not None and end > stable + 100:
                return end, stable
            decided = asked  # nothing was held up at this instant
            return None
        end, stable = wait_until(open_transaction, "records of an open transaction", 30, 0.02)
        kafka.tell("black-hole")
        dark = time.monotonic()
        subprocess.run(["kcat", "-P", "-b", kafka.listeners["internal"], "-t", TOPIC, "-p", "0"], input="of another producer", text=True, check=True,
                       timeout=20)
        wait_until(lambda: kafka.end(TOPIC, 0) > end, "the other producer's record to be there", 10)
        expect(kafka.end(TOPIC, 0, committed=True) == stable, f"records {stable} to {end} are of a transaction that is open")

        wait_until(lambda: "of another producer" in reader.seen, "the other producer's record to be read", 60)
        held = reader.seen["of another producer"] - decided
        bound = TRANSACTION_TIMEOUT + LOOKED_FOR_EVERY
        expect(TRANSACTION_TIMEOUT / 2 < held <= bound + SLACK, f"a read_committed reader was held up for {held:.1f} s, timeout and "
               f"interval are {bound} s")
        wait_until(lambda: time.monotonic() > dark + TRANSACTION_TIMEOUT + 4, "the rest of the blackout", 30, 0.5)
        kafka.tell("clear")  # what was on its way arrives now
        print(f"  drained {rows.wait_drained():.1f} s after the link came back")
        after = penstock.status()["kafka"]
        expect(after["resumes"] > before["resumes"], f"the agent asked Kafka where it stands: {after['resumes'] - before['resumes']} times")
        expect(penstock.alive() and after["connected"], "it recovered by itself")
        prove(kafka, penstock, rows, TOPIC, foreign=1)


if __name__ == "__main__":
    need("kcat", "java")
    run(test)
