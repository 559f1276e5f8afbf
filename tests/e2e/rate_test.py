#!/usr/bin/env python3
"""An agent with `[kafka] rate_limit` sends a backlog that does not compress no faster than that, and not much slower; and it knows how much
it has sent.

  rate_test.py [--limit 65536] [--seconds 40]

The bytes are counted by a relay before the broker, which has no limit of its own. The backlog is what the limit moves in --seconds.
"""
import argparse
import random
import threading
import time

from harness import Kafka, Penstock, expect, need, run, stage, wait_until
from rows import Tally, config

WINDOW = 5  # seconds
MOST = 1.25  # times the limit in any window; and a burst of a second on top
LEAST = 0.7  # of the limit while there is a backlog
PAYLOAD = 2_000
TOPIC = "rate.test"


class Meter(threading.Thread):
    """What the relay has carried up, looked at all the time."""

    def __init__(self, kafka):
        super().__init__(daemon=True)
        self.kafka, self.over, self.error = kafka, threading.Event(), None
        self.seen = [(time.monotonic(), self.now()["up"])]

    def now(self):
        return self.kafka.tell("stats")["1"]

    def run(self):
        try:
            while not self.over.wait(0.1):  # the pace of looking, not a wait for a condition
                self.seen.append((time.monotonic(), self.now()["up"]))
        except Exception as error:
            self.error = error

    def stop(self):  # as a part of the stage too
        self.over.set()
        self.join(10)

    def most_in_window(self):
        """The most bytes in a window, and when it began."""
        most, first = (0, 0.0), 0
        for when, up in self.seen:
            while self.seen[first][0] < when - WINDOW:
                first += 1
            most = max(most, (up - self.seen[first][1], self.seen[first][0] - self.seen[0][0]))
        return most


def test(arguments):
    with stage() as (folder, parts):
        kafka = Kafka(folder, relay=True)
        parts.append(kafka)
        kafka.start()
        kafka.create_topic(TOPIC, 3)
        penstock = Penstock(folder, config(folder, "gw-rate", kafka.bootstrap, TOPIC, keys={"rate_limit": f"{arguments.limit}B/s"}))
        parts.append(penstock)
        chance, count = random.Random(7), int(arguments.limit * arguments.seconds / PAYLOAD)
        backlog = folder / "backlog.jsonl"
        # Each payload is of the printable characters that JSON takes as they are: about 6.5 bits a byte at best.
        letters = "".join(chr(c) for c in range(32, 127) if chr(c) not in '"\\')
        with open(backlog, "w") as out:
            out.writelines(f'{{"stream":"plant/{n % 24:02}","noise":"{"".join(chance.choices(letters, k=PAYLOAD))}"}}\n' for n in range(count))
        done = penstock.call("import", "-c", str(penstock.config), "--stream-field", "stream", str(backlog), seconds=300)
        expect(done.returncode == 0, f"a backlog of {count} records, {backlog.stat().st_size} bytes ({done.stderr.strip()})")

        meter = Meter(kafka)
        parts.append(meter)
        meter.start()
        begin = time.monotonic()
        penstock.start()

        def lane():
            return (penstock.status() or {"lanes": [{}]})["lanes"][0]
        wait_until(lambda: lane().get("backlog_records") == 0 and lane()["delivered"] >= count,
                   lambda: f"the backlog to drain; status {penstock.status()}; log {penstock.output()[-3000:]}", 60 + 3 * arguments.seconds, 0.2)
        seconds = time.monotonic() - begin
        meter.stop()
        expect(meter.error is None, f"the relay was looked at all the time ({meter.error})")

        carried, most = meter.now(), meter.most_in_window()
        up = carried["up"]
        print(f"  {count} records in {seconds:.1f} s: {up} bytes up, {up / seconds:.0f} B/s of {arguments.limit}; at most {most[0]} bytes in {WINDOW} s, "
              f"from {most[1]:.1f} s on; {penstock.status()['kafka']}")
        expect(up > 0.7 * arguments.limit * arguments.seconds, f"the backlog did not compress much: {up} bytes")
        allowed = MOST * WINDOW * arguments.limit + arguments.limit
        expect(most[0] <= allowed, f"never more than {allowed:.0f} bytes in {WINDOW} s: {most[0]}")
        least = up / arguments.limit - 1
        expect(seconds >= least, f"it took {least:.1f} s at least: {seconds:.1f} s")
        expect(up >= LEAST * arguments.limit * (seconds - 10), f"and, starting apart, no more than {up / arguments.limit / LEAST + 10:.1f} s")
        status = penstock.status()["kafka"]
        expect(status["failures"] == 0 and status["resumes"] == 1, f"no transaction failed: {status}")

        def same():
            told, counted = penstock.status()["kafka"], meter.now()
            return told["received_bytes"] == counted["down"] and counted["up"] <= told["sent_bytes"] <= 1.01 * counted["up"]
        wait_until(same, lambda: f"status to say what the relay has counted: {penstock.status()['kafka']}, {meter.now()}", 20)
        print(f"  ok: status says what the relay has counted: {meter.now()['up']} bytes sent, {meter.now()['down']} received")
        expect(penstock.terminate() == 0, "penstock ends with 0 after SIGTERM")
        tally = Tally(kafka.listeners["internal"], TOPIC, 0)
        expect(tally.records >= count and tally.twice == 0 and not tally.disordered, f"each record is there once, in order: {tally.records}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=64 << 10)
    parser.add_argument("--seconds", type=int, default=40)
    given = parser.parse_args()
    need("kcat", "java")
    run(lambda: test(given))
