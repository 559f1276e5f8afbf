"""Records whose content is known to the last byte, and the count of what became of them in Kafka.

Rows come through `penstock import`, which takes each row once, whoever is killed meanwhile: so what must be in Kafka is known
exactly, once each, and not only at least once as with MQTT's QoS 1.
"""
import collections
import hashlib
import pathlib
import re
import subprocess
import threading
import time

from harness import Failed, Penstock, expect, wait_until

STREAMS = 24
CONFIG = """
[agent]
id = "{agent}"
state_directory = "{state}"
[buffer]
capacity = "512MiB"
when_full = "block"
[kafka]
brokers = [{brokers}]
topic = "{topic}"
{kafka}
[kafka.properties]
{properties}
[http]
listen = "off"
[drivers.board]
type = "simulator"
rate = 20
limit = 20
"""


# Of one that is soon through with what goes wrong; an agent as it is shipped has none of it.
IMPATIENT = {"batch_interval": "100ms", "transaction_timeout": "10s"}


def config(folder, agent, bootstrap, topic, keys=IMPATIENT, **properties):
    """Of an agent whose records go to `topic`; `keys`: more of [kafka]; and librdkafka's properties. The state directory is made."""
    state = folder / f"state-{agent}"
    state.mkdir(exist_ok=True)
    if keys:
        properties = {"reconnect_backoff_max_ms": '"1000"', **properties}
    return CONFIG.format(agent=agent, state=state, topic=topic, brokers=", ".join(f'"{broker}"' for broker in bootstrap.split(",")),
                         kafka="\n".join(f'{name} = "{value}"' for name, value in keys.items()),
                         properties="\n".join(f'"{name.replace("_", ".")}" = {value}' for name, value in properties.items()))


def start_agent(kafka, folder, parts, name, topic, listener="client", partitions=3, **properties):
    """A running agent of that name, whose topic is there, and its rows."""
    kafka.create_topic(topic, partitions)
    penstock = Penstock(folder, config(folder, name, kafka.listeners[listener], topic, **properties), name=name)
    parts.append(penstock)
    penstock.start()
    penstock.wait_ready()
    rows = Rows(penstock)
    parts.append(rows)
    return penstock, rows


def row(n):
    """Of some length, and not too easy to compress."""
    return f'{{"stream":"plant/{n % STREAMS:02}","n":{n},"pad":"{hashlib.sha512(b"%d" % n).hexdigest()[:n % 128]}"}}'


class Rows:
    """Rows 0, 1, 2... of one agent: a file that grows, and the imports that bring it in."""

    def __init__(self, penstock):
        self.penstock = penstock
        self.file = penstock.config.with_suffix(".jsonl")
        self.file.touch()
        self.socket = str(pathlib.Path(re.search(r'state_directory = "(.*)"', penstock.config.read_text())[1]) / "control.sock")
        self.count = self.stored = 0
        self.error = ""
        self.thread = None
        self.given_up = threading.Event()

    def add(self, count):
        with open(self.file, "a") as out:
            out.writelines(row(n) + "\n" for n in range(self.count, self.count + count))
        self.count += count

    def bring_in(self):
        """One import of what is new, through the running agent; whether all is stored now."""
        try:
            done = self.penstock.call("import", "--socket", self.socket, "--stream-field", "stream", str(self.file), seconds=600)
        except subprocess.TimeoutExpired:
            self.error = "an import hangs"
            return False
        self.error = done.stderr
        for name, earlier in re.findall(r"(\d+) records imported(?: after (\d+) earlier)?", done.stdout):
            self.stored = int(name) + int(earlier or 0)
        return done.returncode == 0 and self.stored == self.count

    def give(self, count):
        """`count` more rows, stored when this returns."""
        self.add(count)
        wait_until(self.bring_in, lambda: f"{count} rows to be stored: {self.error}; the agent's log: {self.penstock.output()[-2000:]}", 60)

    def start(self, total, seconds):
        """A thread that brings in rows evenly, so that there are `total` after `seconds`, and then ends when all are stored."""
        def work():
            begin, first = time.monotonic(), self.count
            while not self.given_up.is_set():
                due = min(total, first + int((total - first) * (time.monotonic() - begin) / seconds))
                self.add(max(0, due - self.count))
                if self.bring_in() and self.count == total:
                    return
                self.given_up.wait(0.3)  # the pace of the source, not a wait for a condition
        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def join(self, seconds):
        self.thread.join(seconds)
        if self.thread.is_alive():
            raise Failed(f"{self.stored} of {self.count} rows stored after {seconds} s more: {self.error}; "
                         f"the agent's log: {self.penstock.output()[-2000:]}")

    def stop(self):  # as a part of the stage
        self.given_up.set()

    def wait_drained(self, seconds=120):
        """Until the agent says that Kafka has all; how long it took."""
        begin = time.monotonic()

        def drained():
            status = self.penstock.status()
            return status and sum(lane["backlog_records"] for lane in status["lanes"]) == 0 and \
                sum(lane["last"] for lane in status["lanes"]) >= self.count
        wait_until(drained, lambda: f"the queue to drain; status {self.penstock.status()}; log: {self.penstock.output()[-3000:]}", seconds, 0.2)
        return time.monotonic() - begin


class Tally:
    """What a read_committed reader that is not ours finds in a topic. `skips`: one who skips repeats, as at_least_once demands."""

    def __init__(self, bootstrap, topic, count, skips=False, seconds=600):
        self.rows = bytearray(count)
        self.foreign, self.disordered = [], []
        self.records = self.twice = self.skipped = 0
        names, last = collections.defaultdict(set), collections.defaultdict(int)
        reader = subprocess.Popen(["kcat", "-C", "-b", bootstrap, "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p\\t%h\\t%s\\n",
                                   "-X", "isolation.level=read_committed"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        watch = threading.Timer(seconds, reader.kill)
        watch.start()
        for line in reader.stdout:
            partition, headers, payload = line.rstrip("\n").split("\t")
            name = re.search(r"ce_id=([^,]*)", headers)
            if not name:
                self.foreign.append(payload)
                continue
            lane, _, sequence = name[1].rpartition(":")
            sequence = int(sequence)
            if skips and sequence <= last[partition, lane]:
                self.skipped += 1
                continue
            self.records += 1
            self.twice += sequence in names[lane]
            names[lane].add(sequence)
            if sequence <= last[partition, lane]:
                self.disordered.append((partition, name[1]))
            last[partition, lane] = sequence
            found = re.match(r'{"stream":"plant/\d\d","n":(\d+),', payload)
            if not found:
                continue
            n = int(found[1])
            if n < count and payload == row(n):
                self.rows[n] = min(255, self.rows[n] + 1)
            else:
                self.foreign.append(payload)
        watch.cancel()
        if reader.wait() != 0:
            raise Failed(f"kcat: {reader.stderr.read()}")
        self.lost = [n for n, times in enumerate(self.rows) if times == 0]
        self.repeated = [n for n, times in enumerate(self.rows) if times > 1]


def some(found):
    return f"{len(found)}: {found[:3]} ... {found[-1]}" if found else "none"


def prove(kafka, penstock, rows, topic, foreign=0, verified=None, delivery="exactly_once"):
    """Two readers that know nothing of each other: each row is in Kafka once, in order. Ends the agent before. `verified`: the
    topics that `penstock verify` needs to see all that the agent has sent, unless it is this one. Gives what was skipped."""
    status = penstock.status()
    expect(status is not None and status["kafka"]["forks"] == 0, "the store never forked")
    expect(penstock.terminate() == 0, "penstock ends with 0 after SIGTERM")
    verified = penstock.call("verify", "--brokers", kafka.listeners["internal"], "--topic", verified or topic, "--agent", status["agent"],
                             "--delivery", delivery, "--timeout", "600", seconds=700)
    print("  " + verified.stdout.strip().replace("\n", "\n  "))
    tally = Tally(kafka.listeners["internal"], topic, rows.count, skips=delivery == "at_least_once")
    expect(not tally.lost, f"0 of {rows.count} rows lost by content ({some(tally.lost)})")
    expect(not tally.repeated, f"0 of {rows.count} rows twice by content ({some(tally.repeated)})")
    expect(tally.twice == 0, f"0 of {tally.records} records twice by (epoch, lane, sequence) ({tally.twice})")
    expect(not tally.disordered, f"in order in each partition ({some(tally.disordered)})")
    expect(len(tally.foreign) == foreign, f"nothing else in the topic ({some(tally.foreign)})")
    expect(verified.returncode == 0, f"penstock verify exits 0 ({verified.stderr.strip()[-500:]})")
    return tally.skipped
