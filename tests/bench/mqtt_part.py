"""Mosquitto -> penstock run -> Kafka, QoS 1, 100 bytes, beside a bare Paho C++ callback that counts (bars: docs/benchmarks.md)."""
import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time

from kafka_part import RIG, cluster
from machine import Failed, Missing, Process, facts, first_line, folder_below, say, wait_for

BYTES = 100


class Mosquitto:
    def __init__(self, where):
        if not shutil.which("mosquitto"):
            raise Missing("no mosquitto here (Debian package mosquitto)")
        for _ in range(20):  # somebody else may take the port between our look and its bind
            self.port = random.randrange(20000, 32000)
            configuration = where / "mosquitto.conf"
            configuration.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n")
            self.process = Process(["mosquitto", "-c", configuration], where, "mosquitto")
            with contextlib.suppress(Failed):
                wait_for("connection to it", self.answers, 10, self.process)
                if self.process.alive():
                    return
        raise Failed(f"mosquitto does not start: {self.process.log()[-400:]}")

    def answers(self):
        with contextlib.suppress(OSError), contextlib.closing(socket.create_connection(("127.0.0.1", self.port), 1)):
            return True
        return False


class Penstock:
    """The daemon as it is shipped, its state in a folder of its own."""

    def __init__(self, options, where, brokers, port, name, low_latency=False):
        self.name, self.topic, self.where = name, f"bench-{name}", where / name
        self.where.mkdir()
        self.configuration = self.where / "penstock.toml"
        self.configuration.write_text("\n".join([
            "[agent]", f'id = "{name}"', f'state_directory = "{self.where}"',
            "[buffer]", 'capacity = "1GiB"', 'commit_interval = "1ms"' if low_latency else "",
            "[kafka]", f'brokers = ["{brokers}"]', f'topic = "{self.topic}"', 'headers = "compact"',
            'batch_interval = "1ms"' if low_latency else "",
            "[http]", 'listen = "off"',
            "[drivers.plant]", 'type = "mqtt"', f'url = "mqtt://127.0.0.1:{port}"', f'subscribe = [{{ filter = "{name}/#", qos = 1 }}]', ""]))
        self.command = [options.build / "penstock", "run", "-c", self.configuration]
        self.lives = 0
        self.start()

    def start(self):
        self.lives += 1
        self.process = Process(self.command, self.where, f"penstock-{self.lives}")
        wait_for("answer of penstock", self.status, 30, self.process)

    def status(self):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as link:
            link.settimeout(10)
            here = os.getcwd()
            try:
                os.chdir(self.where)  # a socket's path is short
                link.connect("control.sock")
            except OSError:
                return None
            finally:
                os.chdir(here)
            link.sendall(b'{"command": "status"}\n')
            with link.makefile("rb") as answer:
                return json.loads(answer.readline() or "null")

    def mqtt(self):
        """What the mqtt driver has taken so far."""
        return next(driver for driver in self.status()["drivers"] if driver["name"] == "plant")["records"]

    def wait_until_subscribed(self, options, port):
        """A first message, sent until it has come through: then the session stands."""
        def came():
            facts([options.build / "bench_mqtt", "publish", "127.0.0.1", port, f"{self.name}/warm", 1, BYTES], 30)
            with contextlib.suppress(Failed):
                return wait_for("message", lambda: self.mqtt() > 0, 1, self.process)
            return False
        wait_for("message through penstock", came, 30, self.process)

    def wait_for_messages(self, count, limit):
        """Until `count` messages of the driver were taken and everything is in Kafka; gives the times at which all of them were
        on disk, thus acknowledged, and in Kafka."""
        durable = []

        def done():
            status = self.status()
            if next(driver for driver in status["drivers"] if driver["name"] == "plant")["records"] < count:
                return False
            if not durable and all(lane["durable"] >= lane["last"] for lane in status["lanes"]):
                durable.append(clock())
            return all(lane["delivered"] >= lane["last"] for lane in status["lanes"])

        wait_for(f"{count:,} messages in Kafka", done, limit, self.process)
        return (durable or [clock()])[0], clock()


def clock():
    """As the bench programs read it."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def published(options, port, topic, count, rate=None):
    (fact,) = facts([options.build / "bench_mqtt", "publish", "127.0.0.1", port, topic, count, BYTES, *([rate] if rate else [])], 300)
    return fact


def bare(options, where, port, count):
    """Messages/s and CPU seconds of a bare counter, from the first publish to its last message."""
    counter = Process([options.build / "bench_mqtt", "count", "127.0.0.1", port, "bare/#", count], where, f"counter-{random.getrandbits(32)}")
    wait_for("subscription", lambda: '"ready"' in counter.log(), 30, counter)
    began = published(options, port, "bare/a", count)["began"]
    wait_for(f"{count:,} messages at the counter", lambda: not counter.alive(), 300)
    fact = next((line for line in map(json.loads, counter.log().splitlines()) if line.get("fact") == "counted"), None)
    if not fact or fact["count"] < count:
        raise Failed(f"the bare counter failed: {counter.log()[-400:]}")
    return count / (fact["last"] - began), fact["cpu"] / count * 1e6


def through(options, penstock, port, count):
    before, cpu = penstock.mqtt(), penstock.process.cpu_seconds()
    began = published(options, port, f"{penstock.name}/a", count)["began"]
    durable, delivered = penstock.wait_for_messages(before + count, 300)
    return count / (delivered - began), (penstock.process.cpu_seconds() - cpu) / count * 1e6, count / (durable - began)


def rates(options, table, where, brokers, broker):
    count, rounds = (10_000, 1) if options.smoke else (int(40_000 * options.seconds), 3)
    penstock = Penstock(options, where, brokers, broker.port, "rates")
    penstock.wait_until_subscribed(options, broker.port)
    idle = penstock.process.memory_mib("VmRSS"), penstock.process.memory_mib("RssAnon")
    ours, limit = [], []
    for number in range(rounds):
        say(f"mqtt: {count:,} messages through penstock and to a bare counter, {number + 1} of {rounds}")
        sides = [lambda: ours.append(through(options, penstock, broker.port, count)), lambda: limit.append(bare(options, where, broker.port, count))]
        random.shuffle(sides)
        for side in sides:
            side()
    load = penstock.process.memory_mib()
    found = facts([options.build / "bench_kafka", "count", brokers, penstock.topic], 120)[0]["count"]
    status = penstock.status()
    if found != sum(lane["delivered"] for lane in status["lanes"]):
        raise Failed(f"{status['lanes']} were delivered, a read_committed reader finds {found:,}")
    if penstock.process.stop() != 0:
        raise Failed(f"penstock ended with status {penstock.process.process.returncode}: {penstock.process.log()[-400:]}")
    ratio = statistics.median(mine[0] / bare_rate[0] for mine, bare_rate in zip(ours, limit))
    medians = [statistics.median(side[i] for side in sides) for i in (0, 1) for sides in (ours, limit)]
    yield {"fact": "mqtt", "count": count, "rounds": rounds, "ours": ours, "bare": limit, "found": found, "idle_mib": idle, "load_mib": load}
    version = first_line(["mosquitto", "-h"]).replace("mosquitto version ", "Mosquitto ")
    flatter = f"{version}; 2.0.11 ignores the in-flight window and flatters both" if "2.0.11" in version else version
    table.add("mqtt", "messages/s to Kafka, durable, exactly once, QoS 1, 100 B", medians[0], medians[1], ratio, (">=", 0.8), unit="/s",
              note=f"{flatter}; all of publisher, broker, penstock and Kafka on this machine; {found:,} records found in Kafka, as many as were delivered")
    table.add("mqtt", "  the same until on disk and acknowledged", statistics.median(mine[2] for mine in ours), medians[1],
              statistics.median(mine[2] / bare_rate[0] for mine, bare_rate in zip(ours, limit)), unit="/s")
    table.add("mqtt", "  CPU of penstock per million messages", medians[2], medians[3], bar=("<=", 5), unit="s", note="limit: the bare counter, which stores and sends nothing")
    table.add("mqtt", "RSS of penstock, idle", idle[0], bar=("<=", 12), unit="MiB", note=f"{idle[1]:.1f} MiB of it is its own, the rest pages of the program and its libraries")
    table.add("mqtt", "  peak under load", load, unit="MiB")


def backlog(options, table, where, brokers, broker, kafka):
    """Kafka is held while messages come, then let go: peak RSS on the way."""
    count = 20_000 if options.smoke else 5_000_000 if options.long else 500_000
    penstock = Penstock(options, where, brokers, broker.port, "backlog")
    penstock.wait_until_subscribed(options, broker.port)
    say(f"mqtt: {count:,} messages while Kafka is held")

    def rig(word):
        done = subprocess.run([sys.executable, RIG, word, kafka, "1"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=100)
        if done.returncode != 0:
            raise Failed(f"rig {word}: {done.stderr[-400:]}")

    rig("pause")
    try:
        before = penstock.mqtt()
        published(options, broker.port, f"{penstock.name}/a", count)
        wait_for(f"{count:,} messages in the queue", lambda: penstock.mqtt() >= before + count, 300, penstock.process)
        peak = penstock.process.memory_mib()
    finally:
        rig("continue")
    say("mqtt: draining them")
    began = clock()
    took = penstock.wait_for_messages(before + count, 300)[1] - began
    draining = penstock.process.memory_mib()
    if penstock.process.stop() != 0:
        raise Failed(f"penstock ended with status {penstock.process.process.returncode}: {penstock.process.log()[-400:]}")
    yield {"fact": "mqtt_backlog", "count": count, "peak_mib": peak, "draining_mib": draining, "drain_seconds": took}
    table.add("mqtt", f"  peak with a backlog of {count / 1e6:g} M, Kafka away", peak, bar=("<=", 24), unit="MiB")
    table.add("mqtt", "  peak after draining it", draining, bar=("<=", 48), unit="MiB")


def ages(options, table, where, brokers, broker):
    """Publisher to read_committed consumer at 10,000 messages a second."""
    rate, count = (1_000, 1_000) if options.smoke else (10_000, int(10_000 * min(options.seconds, 10)))
    for profile in ("default", "low_latency"):
        say(f"mqtt: {count:,} messages at {rate:,} a second, {profile} profile")
        penstock = Penstock(options, where, brokers, broker.port, f"ages-{profile.replace('_', '-')}", profile == "low_latency")
        penstock.wait_until_subscribed(options, broker.port)
        penstock.wait_for_messages(1, 30)
        tail = Process([options.build / "bench_kafka", "tail", brokers, penstock.topic, count], where, f"tail-{profile}")
        wait_for("reader at the topic's end", lambda: '"ready"' in tail.log(), 30, tail)
        published(options, broker.port, f"{penstock.name}/a", count, rate)
        wait_for("messages at the reader", lambda: not tail.alive(), 120)
        fact = next((line for line in map(json.loads, tail.log().splitlines()) if line.get("fact") == "tail"), None)
        if not fact:
            raise Failed(f"the reader failed: {tail.log()[-400:]}")
        penstock.process.stop()
        yield {**fact, "profile": profile, "rate": rate}
        table.add("mqtt", f"publisher to consumer at {rate:,}/s, exactly once, {profile}, p50", fact["p50_ms"], unit="ms",
                  note="commit_interval = 1 ms, batch_interval = 1 ms" if profile == "low_latency" else "commit_interval = 50 ms, batch_interval = 500 ms")
        table.add("mqtt", f"publisher to consumer at {rate:,}/s, exactly once, {profile}, p99", fact["p99_ms"],
                  bar=("<=", 100) if profile == "default" else None, unit="ms")


def run(options, table):
    """Yields the facts; adds the rows."""
    for program in ("bench_mqtt", "bench_kafka", "penstock"):
        if not (options.build / program).exists():
            raise Failed(f"{options.build / program} is not built")
    with folder_below(options.directory, "mqtt") as where:
        broker = Mosquitto(where)
        try:
            with cluster(where) as (brokers, kafka):
                yield from rates(options, table, where, brokers, broker)
                yield from ages(options, table, where, brokers, broker)
                yield from backlog(options, table, where, brokers, broker, kafka)
        finally:
            broker.process.kill()
