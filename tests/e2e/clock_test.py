#!/usr/bin/python3
"""Brokers whose clock is off by two hours. Ahead: nobody minds. Behind: what happens now is in their future, and they refuse it, as
they do by default from an hour on (`message.timestamp.after.max.ms`): then all is kept, status says why, and it goes once they take it.

  clock_test.py
"""
import datetime
import json

from harness import Kafka, expect, need, run, skip, stage, wait_until
from rows import prove, start_agent

try:
    from confluent_kafka.admin import AdminClient, ConfigResource
except ImportError:
    skip("`python3-confluent-kafka` is not installed")

TWO_HOURS = 7200


def milliseconds(text):
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc).timestamp() * 1000


def ahead():
    with stage() as (folder, parts):
        kafka = Kafka(folder, clock=TWO_HOURS)
        parts.append(kafka)
        kafka.start()
        penstock, rows = start_agent(kafka, folder, parts, "gw-early", "clock.ahead")
        rows.give(500)
        rows.wait_drained(60)
        prove(kafka, penstock, rows, "clock.ahead")


def behind():
    with stage() as (folder, parts):
        kafka = Kafka(folder, clock=-TWO_HOURS)
        parts.append(kafka)
        kafka.start()
        penstock, rows = start_agent(kafka, folder, parts, "gw-late", "clock.behind")
        rows.give(500)

        def error():
            return (penstock.status() or {"kafka": {}})["kafka"].get("error", "")
        wait_until(lambda: "refuses even the present time" in error(), lambda: f"status to say that the clock is wrong; it says {error()!r}; "
                   f"log: {penstock.output()[-2000:]}", 60)
        print(f"  ok: status says why: {error()}")
        expect(penstock.backlog() >= 500, f"everything is kept: {penstock.backlog()}")
        letters = penstock.call("queue", "dead-letters", "--json", "--socket", rows.socket)
        expect(letters.returncode == 0 and not [json.loads(line) for line in letters.stdout.splitlines()],
               f"and nothing is set aside ({letters.stdout[:200]}{letters.stderr.strip()[-200:]})")
        broker = ConfigResource(ConfigResource.Type.BROKER, "1", set_config={"log.message.timestamp.after.max.ms": str(86_400_000)})
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.alter_configs([broker])[broker].result(30)
        print(f"  drained {rows.wait_drained(120):.1f} s after the brokers took it")
        # That they refused it once does not stay with the topic.
        rows.give(100)
        rows.wait_drained(60)
        rows_seen = [m for m in kafka.read("clock.behind") if m["headers"]["ce_subject"].startswith("plant/")]
        late = [m for m in rows_seen if json.loads(m["payload"])["n"] >= 500]
        expect(len(late) == 100 and all(abs(milliseconds(m["headers"]["ce_time"]) - m["ts"]) <= 1 for m in late),
               "and what comes then has the time of its event as Kafka's again")
        prove(kafka, penstock, rows, "clock.behind")


def test():
    ahead()
    behind()


if __name__ == "__main__":
    need("kcat", "java")
    run(test)
