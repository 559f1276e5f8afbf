#!/usr/bin/python3
"""docs/examples/consumer.py, run as its page says: every record once, whatever is repeated, killed or held up.

  consumer_test.py [--records 6000] [--seed N]

Three members share a topic of four partitions. Producers that begin again behind what they know to be there, as at_least_once
does, repeat batches, in both styles of headers; a real agent sends at exactly_once. One member is killed and replaced, one is
stopped until its partitions are another's and then goes on as if nothing had been.
"""
import argparse
import collections
import contextlib
import json
import pathlib
import random
import signal
import sqlite3
import struct
import threading
import uuid

from harness import HERE, Failed, Kafka, Penstock, Process, expect, need, run, skip, stage, wait_until

try:
    import confluent_kafka
    import confluent_kafka.admin
except ImportError:
    skip("`python3-confluent-kafka` is not installed")

TOPIC, PARTITIONS = "readings", 4
CONSUMER = HERE.parents[1] / "docs" / "examples" / "consumer.py"
CONFIG = """
[agent]
id = "gw-real"
state_directory = "{folder}/state"
status_interval = "1h"
[kafka]
brokers = ["{bootstrap}"]
topic = "readings"
batch_interval = "50ms"
[http]
listen = "off"
[lanes.data]
[lanes.own]
priority = 1
[drivers.synthetic]
type = "simulator"
lane = "own"
"""


class RepeatingAgent:
    """What an agent at at_least_once may leave in Kafka: each life sends from behind what is known to be there, and each
    partition gets a prefix of it."""

    def __init__(self, name, style, records, chance):
        self.name, self.style, self.chance = name, style, chance
        self.epoch = uuid.UUID(int=chance.getrandbits(128)).hex
        self.home = [None] + [chance.randrange(PARTITIONS) for _ in range(records)]
        self.last, self.known, self.sent = records, 0, 0

    def life(self, producer):
        end = min(self.last, self.known + self.chance.randint(1, max(2, self.last // 5)))
        parts = collections.defaultdict(list)
        for sequence in range(self.known + 1, end + 1):
            parts[self.home[sequence]].append(sequence)
        first_lost = end + 1
        if self.chance.random() < 0.7:  # it dies before the end
            for partition, sequences in parts.items():
                kept = self.chance.randint(0, len(sequences))
                first_lost = min([first_lost, *sequences[kept:]])
                del sequences[kept:]
            self.known += self.chance.randint(0, first_lost - 1 - self.known)  # acknowledgements are lost, too
        else:
            self.known = end
        for partition, sequences in parts.items():
            for sequence in sequences:
                producer.produce(TOPIC, self.payload(sequence), partition=partition, headers=self.headers(sequence))
                self.sent += 1
        if producer.flush(60) != 0:
            raise Failed("the producer could not flush")

    def payload(self, sequence):
        return f'{{"of":"{self.name}","n":{sequence}}}'

    def headers(self, sequence):
        if self.style == "compact":
            agent, lane = self.name.encode(), b"telemetry"
            return [("penstock", bytes([1, len(agent)]) + agent + bytes.fromhex(self.epoch) + bytes([len(lane)]) + lane +
                     struct.pack(">QqB", sequence, 1_790_000_000_000_000 + sequence, 0))]
        return [("ce_specversion", b"1.0"), ("ce_id", f"{self.epoch}:telemetry:{sequence}".encode()),
                ("ce_source", f"/penstock/{self.name}/plant".encode()), ("ce_type", b"penstock.plant.message"),
                ("ce_time", b"2026-05-04T12:00:00.123456Z"), ("ce_subject", b"plant/x"),
                ("ce_sequence", f"{sequence:020}".encode()), ("ce_epoch", self.epoch.encode()), ("ce_lane", b"telemetry")]

    def checkpoint(self):
        return json.dumps({"version": 1, "agent": self.name, "epoch": self.epoch, "time": "2026-05-04T12:00:00.123456Z",
                           "delivered": {"telemetry": self.last}, "ledger": 0,
                           "runs": [{"run": self.epoch, "epoch": self.epoch, "first": {"telemetry": 1}}]})


def make_topics(bootstrap):
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": bootstrap})
    compact = {"cleanup.policy": "compact"}
    made = admin.create_topics([confluent_kafka.admin.NewTopic(TOPIC, PARTITIONS, 1),
                                confluent_kafka.admin.NewTopic("penstock.checkpoints", 16, 1, config=compact)])
    for one in made.values():
        one.result(30)


@contextlib.contextmanager
def locked(database):
    """Nobody else writes meanwhile."""
    with contextlib.closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        yield
        writer.execute("ROLLBACK")


def waits_for_lock(member):
    """It has records in hand: SQLite sleeps where it waits for a lock, Kafka's client does not. "0": this kernel does not tell."""
    with open(f"/proc/{member.child.pid}/wchan", encoding="ascii") as wchan:
        where = wchan.read()
    return "nanosleep" in where or where == "0"


def stops_at_the_lock(member):
    """Stops it with records in hand. Between two tries it has a lock for an instant: one that is stopped with it would keep everybody
    else out, so it goes on and is stopped again."""
    if not waits_for_lock(member):
        return False
    member.child.send_signal(signal.SIGSTOP)
    stat = pathlib.Path(f"/proc/{member.child.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the member to be stopped", 10)
    if any(line.split()[-4] == str(member.child.pid) for line in pathlib.Path("/proc/locks").read_text().splitlines()):
        member.child.send_signal(signal.SIGCONT)
        return False
    return True


def test(arguments):
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}: {arguments.records} records of each agent")
    with stage() as (folder, parts):
        kafka = Kafka(folder)
        parts.append(kafka)
        kafka.start()
        make_topics(kafka.bootstrap)
        database = folder / "readings.sqlite"

        def member(number):
            process = Process([str(CONSUMER), "--brokers", kafka.bootstrap, "--topic", TOPIC, "--database", str(database)],
                              folder / f"member-{number}.log")
            parts.append(process)
            return process.start()

        def ask(question, *values):
            with contextlib.closing(sqlite3.connect(database, timeout=60)) as reader:
                return reader.execute(question, values).fetchall()

        def rows():
            return database.exists() and bool(ask("SELECT name FROM sqlite_master WHERE name = 'last_taken'")) and \
                ask("SELECT count(*) FROM readings")[0][0]

        members = [member(number) for number in (1, 2, 3)]
        agents = [RepeatingAgent("gw-compact", "compact", arguments.records, chance),
                  RepeatingAgent("gw-events", "cloudevents", arguments.records, chance)]

        def produce(upto):
            producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
            for agent in agents:
                while agent.known < upto:
                    agent.life(producer)

        def told(what):
            return lambda: f"{what}: {rows()} rows; {[one.output()[-500:] for one in members]}"

        produce(arguments.records // 3)
        wait_until(lambda: rows() > arguments.records // 3, told("the members to take the first third"), 60)
        expect(all(one.alive() for one in members), "three members take records")

        # The real agent sends meanwhile.
        penstock = Penstock(folder, CONFIG.format(folder=folder, bootstrap=kafka.bootstrap))
        parts.append(penstock)
        history = folder / "history.jsonl"
        history.write_text("".join(json.dumps({"stream": f"meter/{n % 16}", "n": n}) + "\n" for n in range(arguments.records)))
        (folder / "state").mkdir()
        penstock.start()
        penstock.wait_ready()
        done = penstock.call("import", str(history), "--stream-column", "stream", "--lane", "data", "-c", str(penstock.config))
        expect(done.returncode == 0, f"{arguments.records} rows are imported into a real agent ({done.stderr[-300:]})")

        work = threading.Thread(target=produce, args=(arguments.records,), daemon=True)
        with locked(database):
            work.start()
            wait_until(lambda: stops_at_the_lock(members[1]), told("a member to have records in hand"), 60)  # for longer than its session lasts
        before = rows()
        wait_until(lambda: rows() > before, told("a member to take some more"), 60)
        members[0].kill()
        print(f"  one member stopped with records in hand, and one killed at {rows()} rows")
        members[0] = member(4)
        work.join(90)
        expect(not work.is_alive(), "the producers are done")
        repeating = sum(agent.last for agent in agents)

        def all_taken():
            return ask("SELECT count(*) FROM readings WHERE agent IN ('gw-compact', 'gw-events')")[0][0] >= repeating and \
                ask("SELECT count(*) FROM readings WHERE lane = 'data'")[0][0] >= arguments.records
        wait_until(all_taken, told("the others to take everything"), 60, 0.2)
        expect(penstock.terminate() == 0, "the agent ends in order")
        members[1].child.send_signal(signal.SIGCONT)

        looking = confluent_kafka.Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "looking"})
        ends = {n: looking.get_watermark_offsets(confluent_kafka.TopicPartition(TOPIC, n), 30)[1] for n in range(PARTITIONS)}
        looking.close()
        # A transaction's marker has an offset, too, and no message: of the agent's partitions the last is never taken.
        wait_until(lambda: all(next_offset >= ends[n] - 2 for n, next_offset in ask("SELECT partition, next FROM offsets")),
                   told(f"all partitions to be read to {ends}"), 60, 0.2)
        wait_until(lambda: "another member's" in members[1].output(), told("the stopped one to find that it was replaced"), 30)
        for one in members:
            expect(one.terminate(30) == 0, f"a member ends in order ({one.output()[-300:]})")

        sent = sum(agent.sent for agent in agents)
        expect(sent > repeating, f"the producers repeated {sent - repeating} of {repeating} records")
        found = ask("SELECT agent, epoch, lane, sequence, partition, value FROM readings ORDER BY rowid")
        times = collections.Counter(row[:4] for row in found)
        doubled = [name for name, count in times.items() if count > 1]
        expect(not doubled, f"0 of {len(times)} records taken twice ({len(doubled)}: {doubled[:3]})")
        for agent in agents:
            values = [row[5] for row in found if row[0] == agent.name]
            expect(sorted(values) == sorted(agent.payload(n).encode() for n in range(1, agent.last + 1)),
                   f"every record of {agent.name} once, as it was sent ({len(values)})")
        imported = [json.loads(row[5])["n"] for row in found if row[2] == "data"]
        expect(sorted(imported) == list(range(arguments.records)), f"every record of the real agent once ({len(imported)})")
        of_place = collections.defaultdict(list)
        for row in found:
            of_place[row[:3] + (row[4],)].append(row[3])
        expect(all(run == sorted(run) for run in of_place.values()), f"in order in each of {len(of_place)} (name, partition)")

        producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap})
        for agent in agents:
            producer.produce("penstock.checkpoints", agent.checkpoint(), key=agent.name)
        expect(producer.flush(30) == 0, "the checkpoints are written")
        verify = ["verify", "--brokers", kafka.bootstrap, "--topic", TOPIC]
        once = penstock.call(*verify, "--delivery", "at_least_once")
        print(once.stdout)
        expect(once.returncode == 0, f"penstock verify --delivery at_least_once exits 0 ({once.stderr.strip()[-500:]})")
        expect(penstock.call(*verify, "--agent", "gw-compact").returncode == 2, "without it the repeats are found: it exits 2")
        expect(penstock.call(*verify, "--agent", "gw-real").returncode == 0, "and of the agent at exactly_once it exits 0")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=6_000)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    need("kcat", "java")
    run(lambda: test(given))
