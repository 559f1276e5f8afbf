#!/usr/bin/python3
"""Awkward records among many: what Kafka takes arrives in order, the rest is a dead letter with its reason, and all is accounted for.

  awkward_test.py [--records 5000] [--seed N]

Among the records: one of 5 MB, one with a key of 1 MB, one of 1970, one of 2100, one of 2021, an empty one. The topic takes Kafka's usual
1,048,588 bytes at first; widened, it takes the dead letters by `penstock queue dead-letters --retry`. It refuses time stamps that are
older than a year.
"""
import argparse
import datetime
import json
import random

from harness import Kafka, Penstock, expect, need, run, skip, stage, wait_until

try:
    from confluent_kafka.admin import AdminClient, ConfigResource
except ImportError:
    skip("`python3-confluent-kafka` is not installed")

CONFIG = """
[agent]
id = "gw-awkward"
state_directory = "{folder}/state"
status_interval = "1h"
[buffer]
max_record_bytes = "8MiB"
[lanes.data]
[lanes.own]
priority = 1
[kafka]
brokers = ["{bootstrap}"]
topic = "of.{{lane}}"
key = "{{key}}"
batch_interval = "50ms"
[kafka.properties]
"compression.codec" = "none"
[http]
listen = "off"
[drivers.synthetic]
type = "simulator"
lane = "own"
"""


def lines_of(records, chance):
    """The lines of the file to import, and at which sequence which awkward one is."""
    names = ["large", "long key", "of 1970", "of 2100", "of 2021", "empty"]
    places = dict(zip(sorted(chance.sample(range(2, records), len(names))), chance.sample(names, len(names))))
    lines = []
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")  # older ones Kafka soon deletes
    for sequence in range(1, records + 1):
        # As `penstock queue export` writes: so a payload may be anything, an empty one too.
        line = {"penstock": 1, "stream": "meter/main", "driver": "import", "key": f"k{sequence % 7}", "time": now,
                "payload": f'{{"n":{sequence}}}'}
        what = places.get(sequence)
        if what == "large":
            line["payload"] = chance.choice("abc") * 5_000_000
        elif what == "long key":
            line["key"] = "k" * (1 << 20)
        elif what == "of 1970":
            line["time"] = "1970-01-01T00:00:01.500000Z"
        elif what == "of 2021":
            line["time"] = "2021-06-01T00:00:00.000000Z"
        elif what == "of 2100":
            line["time"] = "2100-01-01T00:00:00.000000Z"
        elif what == "empty":
            line["payload"] = ""
        lines.append(json.dumps(line))
    return lines, {what: sequence for sequence, what in places.items()}


def test(arguments):
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}: {arguments.records} records")
    with stage() as (folder, parts):
        kafka = Kafka(folder)
        parts.append(kafka)
        kafka.start()
        kafka.create_topic("of.data", 1)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        picky = ConfigResource(ConfigResource.Type.TOPIC, "of.data", set_config={"message.timestamp.before.max.ms": str(365 * 86_400_000)})
        admin.alter_configs([picky])[picky].result(30)
        penstock = Penstock(folder, CONFIG.format(folder=folder, bootstrap=kafka.bootstrap))
        parts.append(penstock)
        (folder / "state").mkdir()
        penstock.start()
        penstock.wait_ready()
        lines, at = lines_of(arguments.records, chance)
        print(f"  {at}")
        (folder / "history.jsonl").write_text("\n".join(lines) + "\n")
        place = ["-c", str(penstock.config)]
        done = penstock.call("import", str(folder / "history.jsonl"), "--lane", "data", *place)
        expect(done.returncode == 0, f"all is imported ({done.stderr.strip()[-500:]})")

        def drained(upto):
            status = penstock.status()
            return status and any(lane["name"] == "data" and lane["backlog_records"] == 0 and lane["last"] >= upto for lane in status["lanes"])

        wait_until(lambda: drained(arguments.records), lambda: f"the queue to drain; status {penstock.status()}; {penstock.output()[-2000:]}", 120)

        refused = {at["large"], at["long key"]}
        listed = penstock.call("queue", "dead-letters", "--json", *place)
        letters = [json.loads(line) for line in listed.stdout.splitlines()]
        expect({int(letter["id"].rsplit(":", 1)[1]) for letter in letters} == refused, f"dead letters are those too large for the topic: {refused}")
        for letter in letters:
            expect("large" in letter["reason"].lower(), f"and say why: {letter['reason'][:160]}")
            long = int(letter["id"].rsplit(":", 1)[1]) == at["long key"]
            expect(("key of 1048576 bytes" in letter["reason"]) == long, "of the one with the long key that it is the key")

        def arrived():
            return [(int(m["headers"]["ce_sequence"]), m) for m in kafka.read("of.data")]

        found = arrived()
        expected = [n for n in range(1, arguments.records + 1) if n not in refused]
        expect([sequence for sequence, _ in found] == expected, f"all {len(expected)} others arrived, once, in order")
        by_sequence = dict(found)
        for what, time in (("of 1970", "1970-01-01T00:00:01.500000Z"), ("of 2100", "2100-01-01T00:00:00.000000Z"),
                           ("of 2021", "2021-06-01T00:00:00.000000Z")):
            message = by_sequence[at[what]]
            expect(message["headers"]["ce_time"] == time and 1_700_000_000_000 < message["ts"] < 4_000_000_000_000,
                   f"the one {what} keeps its time in ce_time and has the time of sending as Kafka's: {message['ts']}")
        ordinary = [m for sequence, m in found if sequence not in at.values()]
        event = datetime.datetime.strptime(ordinary[0]["headers"]["ce_time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc).timestamp()
        expect(all(m["ts"] == event * 1000 for m in ordinary), "the ordinary ones, all of one instant, keep it as Kafka's time")
        expect(by_sequence[at["empty"]]["payload"] in ("", None), f"the empty one is empty: {by_sequence[at['empty']]['payload']!r}")

        def gaps():
            return [json.loads(m["payload"]) for m in kafka.read("penstock.gaps")]

        told = gaps()
        expect({n for gap in told for n in range(gap["first"], gap["last"] + 1)} == refused and {gap["cause"] for gap in told} == {"dead_letter"},
               f"gap records account for the dead letters, and for no other: {[(gap['first'], gap['last'], gap['cause']) for gap in told]}")

        def verified(when):
            verify = penstock.call("verify", "--brokers", kafka.bootstrap, "--topic", "^of\\..*")
            print(verify.stdout)
            expect(verify.returncode == 0, f"penstock verify exits 0 {when} ({verify.stderr.strip()[-500:]})")

        verified("with dead letters aside")

        wider = ConfigResource(ConfigResource.Type.TOPIC, "of.data", set_config={"max.message.bytes": "8500000"})
        admin.alter_configs([wider])[wider].result(30)
        ids = [letter["id"] for letter in letters]
        done = penstock.call("queue", "dead-letters", "--retry", *ids, *place)
        expect(done.returncode == 0, f"both are retried ({done.stdout.strip()} {done.stderr.strip()[-300:]})")
        last = arguments.records + len(ids)
        wait_until(lambda: drained(last), lambda: f"the retried ones to go; {penstock.output()[-2000:]}", 60)
        again = [(sequence, m) for sequence, m in arrived() if sequence > arguments.records]
        expect({m["headers"]["ce_retryof"] for _, m in again} == set(ids), "in the wider topic they arrive, and say whose retry they are")
        lengths = sorted((len(m["key"]), len(m["payload"])) for _, m in again)
        expect(lengths[0][1] == 5_000_000 and lengths[1][0] == 1 << 20, f"whole: (key, value) of {lengths}")
        left = penstock.call("queue", "dead-letters", "--json", *place).stdout.strip()
        expect(not left, f"no dead letter is left {left[:200]}")
        verified("with the retried ones there")
        expect(penstock.terminate() == 0, "the agent ends in order")
        print(f"{arguments.records} records, {len(at)} of them awkward: {len(expected)} in order, {len(refused)} set aside and retried, "
              f"0 lost, 0 twice; seed {seed}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=5_000)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    need("kcat", "java")
    run(lambda: test(given))
