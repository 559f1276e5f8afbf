#!/usr/bin/env python3
"""A backlog over a slow link that breaks now and then: exactly once, in little memory, and not much slower than without the breaks.

  link_test.py [--records 6000] [--seed N] [--least 0.6]

The link has a round trip of 300 ms and carries 64 KiB a second each way. Two agents as they are shipped bring in the same backlog over
it, one after the other: the first without a cut, which is the measure; for the second all connections are reset in each second with
probability 0.02, drawn from the seed, and once for certain in the middle of a transaction. With --least its records a second must be
that part of the measure, which says something only when there are enough records for some cuts.
"""
import argparse
import random
import time

from harness import Kafka, Penstock, expect, need, run, stage, wait_until
from rows import Rows, config, prove

ROUND_TRIP_MS, BYTES_A_SECOND, CUTS_A_SECOND = 300, 64 << 10, 0.02
PARTITIONS = 3
MOST_MEMORY_MIB = 48
LEAST_BYTES_A_SECOND = 4 << 10  # of records as they lie in the file: slower than that is a failure


class Agent:
    """One with a backlog, and without a life so far."""

    def __init__(self, kafka, folder, parts, name, records):
        self.kafka, self.topic = kafka, f"link.{name}"
        kafka.create_topic(self.topic, PARTITIONS)
        self.penstock = Penstock(folder, config(folder, name, kafka.bootstrap, self.topic, keys={}), name=name)
        parts.append(self.penstock)
        self.rows = Rows(self.penstock)
        self.rows.add(records)
        done = self.penstock.call("import", "-c", str(self.penstock.config), "--stream-field", "stream", str(self.rows.file), seconds=300)
        expect(done.returncode == 0, f"{name}: a backlog of {records} records, {self.rows.file.stat().st_size} bytes ({done.stderr.strip()})")

    def link(self):
        """What the relay has carried and cut so far."""
        return self.kafka.tell("stats")["1"]

    def cut_a_transaction(self):
        """Looks at the brokers, past the link: records of it are there before the cut, and undecided after it."""
        def done():
            for partition in range(PARTITIONS):
                end, stable = self.kafka.end(self.topic, partition), self.kafka.end(self.topic, partition, committed=True)
                if end is None or stable is None or end == stable:
                    continue
                self.kafka.tell("cut")
                if self.kafka.end(self.topic, partition, committed=True) == stable:
                    return f"records {stable} to {end} of partition {partition}"
            return None
        print(f"  cut in the middle of a transaction: {wait_until(done, 'records of an open transaction', 60, 0.02)}", flush=True)

    def drain(self, seed=None):
        """Brings it all in, with cuts if there is a seed; records a second."""
        self.kafka.tell("clear")
        self.kafka.tell(f"delay {ROUND_TRIP_MS}")
        self.kafka.tell(f"rate {BYTES_A_SECOND}")
        before, begin = self.link(), time.monotonic()
        self.penstock.start()
        if seed is not None:
            self.kafka.tell(f"chaos {CUTS_A_SECOND} {seed}")
            self.cut_a_transaction()
        limit = 60 + self.rows.file.stat().st_size / LEAST_BYTES_A_SECOND
        told = begin

        def delivered():
            nonlocal told
            lane = self.lane()
            if time.monotonic() - told > 30:
                told = time.monotonic()
                print(f"  {told - begin:6.0f} s: {lane}", flush=True)
            return lane.get("delivered", 0) >= self.rows.count and lane["delivered"] == lane["durable"]
        wait_until(delivered, lambda: f"the backlog to drain; status {self.penstock.status()}; log {self.penstock.output()[-3000:]}", limit, 0.2)
        seconds = time.monotonic() - begin
        carried = {name: value - before[name] for name, value in self.link().items()}
        self.kafka.tell("clear")
        status, memory = self.penstock.status()["kafka"], self.penstock.peak_memory_mib()
        print(f"  {self.rows.count} records in {seconds:.1f} s: {self.rows.count / seconds:.0f} records/s; {carried['times_cut']} cuts; {carried['up']} bytes up, "
              f"{carried['down']} down, {carried['up'] / self.rows.count:.1f} up a record; {carried['accepted']} connections, {status['resumes']} resumes, "
              f"{status['failures']} failures; {memory:.1f} MiB")
        expect(memory < MOST_MEMORY_MIB, f"never more than {MOST_MEMORY_MIB} MiB of memory: {memory:.1f}")
        if seed is None:
            expect(carried["times_cut"] == 0, "the measure is without cuts")
        else:
            expect(carried["times_cut"] > 0, "connections were cut")
        self.cuts = carried["times_cut"]
        return self.rows.count / seconds

    def lane(self):
        return {lane["name"]: lane for lane in (self.penstock.status() or {"lanes": []})["lanes"]}.get("telemetry", {})

    def prove(self):
        prove(self.kafka, self.penstock, self.rows, self.topic)


def test(arguments):
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}")
    with stage() as (folder, parts):
        kafka = Kafka(folder, relay=True, seconds=3600)
        parts.append(kafka)
        kafka.start()
        measure = Agent(kafka, folder, parts, "steady", arguments.records)
        steady = measure.drain()
        measure.prove()
        agent = Agent(kafka, folder, parts, "cut", arguments.records)
        with_cuts = agent.drain(seed)
        agent.prove()
        print(f"  {arguments.records} records: {steady:.0f} records/s without cuts, {with_cuts:.0f} with {agent.cuts} cuts: a ratio of {with_cuts / steady:.2f}; "
              f"seed {seed}")
        expect(with_cuts >= arguments.least * steady, f"at least {arguments.least} of the measure: {with_cuts / steady:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=6_000)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--least", type=float, default=0)
    given = parser.parse_args()
    need("kcat", "java")
    run(lambda: test(given))
