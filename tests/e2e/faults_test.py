#!/usr/bin/env python3
"""Faults of a Kafka cluster, one after the other, each while rows come in: the queue keeps, the status says why, and afterwards each
row is in Kafka once.

  faults_test.py [FAULT...]       all of them unless named: min_insync, topic_deleted, rolling_restart, slow_broker, not_allowed

Three brokers. A disk that is too slow is told from outside only by a broker that does not answer: so slow_broker stops one (SIGSTOP)
for longer than every socket timeout.
"""
import sys
import time

from harness import Failed, Kafka, expect, need, run, stage, wait_until, wire
from rows import Tally, prove, start_agent

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
    fault.wait_told("Kafka takes nothing", lambda status: status.get("connected") is False and status.get("error"))
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


FAULTS = [min_insync, topic_deleted, rolling_restart, slow_broker, not_allowed]


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
