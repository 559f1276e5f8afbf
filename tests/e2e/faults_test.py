#!/usr/bin/env python3
"""Faults of a Kafka cluster, one after the other, each while rows come in: the queue keeps, the status says why, and afterwards each
row is in Kafka once.

  faults_test.py [FAULT...]       all of them unless named: min_insync, topic_deleted, rolling_restart, slow_broker, not_allowed, one_lane

Three brokers. A disk that is too slow is told from outside only by a broker that does not answer: so slow_broker stops one (SIGSTOP)
for longer than every socket timeout.
"""
import json
import re
import sys
import time

from harness import Failed, Kafka, Penstock, expect, need, run, stage, wait_until, wire
from rows import IMPATIENT, Rows, Tally, config, prove, start_agent

SOCKET_TIMEOUT = 9.9  # of the agent's librdkafka: 100 ms less than its transaction_timeout


class Fault:
    """One of them: an agent, its topic, and rows that have already arrived."""

    def __init__(self, kafka, folder, parts, name, **properties):
        self.kafka, self.topic = kafka, f"faults.{name}"
        self.penstock, self.rows = start_agent(kafka, folder, parts, f"gw-{name}", self.topic, **properties)
        self.rows.give(500)
        self.rows.wait_drained()

    def kafka_status(self):
        return (self.penstock.status() or {"kafka": {}})["kafka"]

    def wait_told(self, what, told, seconds=60):
        """Until told(status of kafka), which may be empty while there is none."""
        wait_until(lambda: told(self.kafka_status()), lambda: f"{what}; it says {self.kafka_status()}; log: {self.penstock.output()[-2000:]}", seconds)
        status = self.kafka_status()
        print(f"  ok: told: {what}: {status.get('error') or status.get('doing')} {status.get('topics')}")

    def kept(self, least):
        expect(self.penstock.backlog() >= least, f"the queue keeps at least {least}: {self.penstock.backlog()}")

    def over(self):
        print(f"  drained {self.rows.wait_drained():.1f} s after the fault was over")
        prove(self.kafka, self.penstock, self.rows, self.topic)


def min_insync(kafka, folder, parts):
    fault = Fault(kafka, folder, parts, "min-insync")
    kafka.terminate(2)
    kafka.terminate(3)
    in_sync = [copies for _, _, copies in kafka.metadata([fault.topic])[1][fault.topic].values()]
    expect(in_sync == [[1]] * 3, f"one replica is in sync, of two that must be: {in_sync}")
    fault.rows.give(500)
    fault.wait_told("which partitions have too few replicas in sync", lambda status: status.get("connected") is False and re.search(
        rf"not acknowledged: {re.escape(fault.topic)}-\d: 1 of 3 replicas in sync, .*min\.insync\.replicas", status.get("error", "")))
    fault.kept(500)
    kafka.restart(2)
    kafka.restart(3)
    kafka.wait_in_sync()
    fault.over()


def topic_deleted(kafka, folder, parts):
    fault = Fault(kafka, folder, parts, "topic-deleted")
    wire.delete_topic(kafka.ports[1], fault.topic)
    wait_until(lambda: fault.topic not in kafka.metadata()[1], "the topic to be gone", 20)
    fault.rows.give(500)
    fault.wait_told("the topic that is missing", lambda status: fault.topic in status.get("topics", {}) or fault.topic in status.get("error", ""))
    fault.kept(500)
    kafka.create_topic(fault.topic, 3)
    print(f"  drained {fault.rows.wait_drained():.1f} s after the topic was there again")
    expect(fault.penstock.terminate() == 0, "penstock ends with 0 after SIGTERM")
    # What was in the deleted topic went with it, and nothing brings it back; verify says so.
    tally = Tally(kafka.listeners["internal"], fault.topic, fault.rows.count)
    expect(tally.lost == list(range(500)), f"the rows from before went with the topic, and no others: {len(tally.lost)}")
    expect(not tally.repeated and tally.twice == 0 and not tally.disordered and not tally.foreign, "each of the others is there once, in order")


def rolling_restart(kafka, folder, parts):
    fault = Fault(kafka, folder, parts, "rolling-restart")
    fault.rows.start(10_000, 20)
    for n in kafka.ports:
        kafka.terminate(n)
        kafka.restart(n)
        kafka.wait_in_sync()
    fault.rows.join(60)
    fault.over()


def slow_broker(kafka, folder, parts):
    fault = Fault(kafka, folder, parts, "slow-broker")
    leader = kafka.metadata([fault.topic])[1][fault.topic][0][0]
    fault.rows.start(5_000, SOCKET_TIMEOUT + 2)
    kafka.pause(leader)
    try:
        wait_until(lambda: len(kafka.metadata()[0]) == 2, "the other brokers to go on without it", 20)
        until = time.monotonic() + SOCKET_TIMEOUT + 2
        wait_until(lambda: time.monotonic() > until, "longer than a socket timeout", 30)
    finally:
        kafka.go_on(leader)
    kafka.wait_in_sync()
    fault.rows.join(60)
    fault.over()


def not_allowed(kafka, folder, parts):
    """By its client certificate the agent is CN=agent."""
    tls, user = kafka.folder / "tls", "CN=agent"

    def allow(kind, name, **how):
        wire.allow(kafka.ports[1], user, kind, name, **how)

    def take_back(kind, name):
        if wire.take_back(kafka.ports[1], user, kind, name) != 1:
            raise Failed(f"there was no rule for {user} about {name}")
    topic, transactions = "faults.not-allowed", "penstock-gw-not-allowed"
    allow("topic", topic)
    allow("topic", "penstock.", prefix=True)
    allow("transactional-id", transactions)
    fault = Fault(kafka, folder, parts, "not-allowed", listener="mtls", broker_address_family='"v4"', security_protocol='"ssl"',
                  ssl_ca_location=f'"{tls}/ca.pem"', ssl_certificate_location=f'"{tls}/agent.crt"', ssl_key_location=f'"{tls}/agent.key"')
    for kind, name in (("topic", topic), ("transactional-id", transactions)):
        take_back(kind, name)
        fault.rows.give(500)
        fault.wait_told(f"it is not allowed to use {name}", lambda status: "uthoriz" in status.get("error", "") + str(status.get("topics")))
        fault.kept(500)
        allow(kind, name)
        print(f"  drained {fault.rows.wait_drained():.1f} s after it was allowed again")
    fault.over()


def one_lane(kafka, folder, parts):
    """Of two lanes one goes to a topic that the agent sees and may not write to: the other one goes on."""
    tls, user, name, closed = kafka.folder / "tls", "CN=agent", "gw-one-lane", "faults.lane.closed"
    for kind, resource, how in (("topic", "faults.lane.telemetry", {}), ("topic", "penstock.", {"prefix": True}),
                                ("transactional-id", f"penstock-{name}", {}), ("topic", closed, {"operation": wire.DESCRIBE})):
        wire.allow(kafka.ports[1], user, kind, resource, **how)
    for topic in ("faults.lane.telemetry", closed):
        kafka.create_topic(topic, 3)

    def text(**keys):
        return config(folder, name, kafka.listeners["mtls"], "faults.lane.{lane}", keys={**IMPATIENT, **keys}, broker_address_family='"v4"',
                      security_protocol='"ssl"', ssl_ca_location=f'"{tls}/ca.pem"', ssl_certificate_location=f'"{tls}/agent.crt"',
                      ssl_key_location=f'"{tls}/agent.key"') + "[lanes.telemetry]\npriority = 1\n[lanes.closed]\n"
    penstock = Penstock(folder, text(), name=name)
    parts.append(penstock)
    penstock.start()
    penstock.wait_ready()
    rows = Rows(penstock)
    parts.append(rows)

    def lane(which):
        return next(lane for lane in penstock.status()["lanes"] if lane["name"] == which)

    def bring(first, count):
        """So many records into the lane that waits."""
        file = folder / f"closed-{first}.jsonl"
        file.write_text("".join(f'{{"n":{n}}}\n' for n in range(first, first + count)))
        done = penstock.call("import", "--socket", rows.socket, "--lane", "closed", str(file))
        expect(done.returncode == 0, f"{count} records for {closed} are stored ({done.stderr.strip()[-300:]})")

    bring(0, 20)
    for turn in range(3):
        rows.give(200)
        wait_until(lambda: lane("telemetry")["backlog_records"] == 0, lambda: f"the other lane to go on; status {penstock.status()}; "
                   f"log: {penstock.output()[-2000:]}", 60)
    status = penstock.status()["kafka"]
    expect(lane("closed")["backlog_records"] == 20, f"the lane of {closed} waits: {lane('closed')}")
    expect("uthoriz" in status["topics"].get(closed, ""), f"and status names the topic and says why: {status['topics']}")
    wire.allow(kafka.ports[1], user, "topic", closed)
    wait_until(lambda: lane("closed")["backlog_records"] == 0, lambda: f"the lane to go on once it is allowed; status {penstock.status()}", 60)

    wire.take_back(kafka.ports[1], user, "topic", closed)
    wire.allow(kafka.ports[1], user, "topic", closed, operation=wire.DESCRIBE)
    expect(penstock.terminate() == 0, "penstock ends with 0 after SIGTERM")
    penstock.config.write_text(text(on_topic_error="dead_letter"))
    penstock.start()
    penstock.wait_ready()
    bring(20, 5)
    wait_until(lambda: lane("closed")["backlog_records"] == 0, lambda: f"the records to be set aside; status {penstock.status()}; "
               f"log: {penstock.output()[-2000:]}", 60)
    place = ["-c", str(penstock.config)]
    letters = [json.loads(line) for line in penstock.call("queue", "dead-letters", "--json", *place).stdout.splitlines()]
    expect(len(letters) == 5 and all(closed in letter["reason"] for letter in letters),
           f"with on_topic_error = dead_letter they are dead letters that name the topic: {[letter['reason'] for letter in letters[:1]]}")
    wire.allow(kafka.ports[1], user, "topic", closed)
    done = penstock.call("queue", "dead-letters", "--retry", *[letter["id"] for letter in letters], *place)
    expect(done.returncode == 0, f"they are retried ({done.stderr.strip()[-300:]})")
    wait_until(lambda: lane("closed")["backlog_records"] == 0 and lane("closed")["last"] == 30, lambda: f"the retried ones to go; "
               f"status {penstock.status()}", 60)
    wait_until(lambda: len(kafka.read(closed)) == 25, lambda: f"all 25 to be there: {len(kafka.read(closed))}", 30)
    prove(kafka, penstock, rows, "faults.lane.telemetry", verified="^faults\\.lane\\..*")


FAULTS = [min_insync, topic_deleted, rolling_restart, slow_broker, not_allowed, one_lane]


def test(wanted):
    with stage() as (folder, parts):
        kafka = Kafka(folder, brokers=3, secure=True, properties=["auto.create.topics.enable=false"])
        parts.append(kafka)
        kafka.start()
        for fault in FAULTS:
            if wanted and fault.__name__ not in wanted:
                continue
            begin = time.monotonic()
            print(fault.__name__, flush=True)
            fault(kafka, folder, parts)
            print(f"  {fault.__name__}: {time.monotonic() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - {fault.__name__ for fault in FAULTS}
    if unknown:
        sys.exit(__doc__)
    need("kcat", "java", "openssl")
    run(lambda: test(sys.argv[1:]))
