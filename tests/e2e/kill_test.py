#!/usr/bin/env python3
"""MQTT to Kafka while penstock is killed and Kafka comes and goes: 0 lost, 0 twice, in order.

  kill_test.py [--messages 50000] [--kills 20] [--stops 2] [--kafka 4|3.9] [--zookeeper] [--seed N]

A publisher sends QoS 1 messages through Mosquitto; penstock is killed with SIGKILL at random instants, Kafka as often as
--stops says. Then everything may drain, and three readers must agree: `penstock verify`, and kcat by content and by name.
"""
import argparse
import collections
import random
import re

from harness import Kafka, Mosquitto, Penstock, expect, need, run, stage, wait_until

RECEIVE_MAXIMUM = 1000

CONFIG = """
[agent]
id = "gw-kill"
state_directory = "{folder}/state"
[kafka]
brokers = ["{bootstrap}"]
batch_interval = "100ms"
[http]
listen = "off"
[drivers.plant]
type = "mqtt"
url = "mqtt://127.0.0.1:{port}"
client_id = "penstock-kill"
receive_maximum = {receive_maximum}
subscribe = [{{ filter = "plant/#", qos = 1 }}]
"""


def kafka_is_away(kafka, pause):
    kafka.kill()
    pause()
    kafka.restart()


def test(arguments):
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}: {arguments.messages} messages, {arguments.kills} kills, Kafka {arguments.kafka} stopped {arguments.stops} times")
    with stage() as (folder, parts):
        kafka = Kafka(folder, arguments.kafka, zookeeper=arguments.zookeeper)
        parts.append(kafka)
        kafka.start()
        mosquitto = Mosquitto(folder)
        parts.append(mosquitto)
        mosquitto.start()
        (folder / "state").mkdir()
        penstock = Penstock(folder, CONFIG.format(folder=folder, bootstrap=kafka.bootstrap, port=mosquitto.port,
                                                  receive_maximum=RECEIVE_MAXIMUM))
        parts.append(penstock)
        penstock.start()
        wait_until(lambda: "connected to" in str((penstock.status() or {}).get("drivers")),
                   lambda: f"the subscription; status {penstock.status()}; log: {penstock.output()}", 30)

        # The load lasts about as long as the kills.
        seconds = arguments.kills * 0.8 + arguments.stops * 6 + 2
        lines = [f'{{"n":{n},"value":{chance.random():.6f}}}' for n in range(arguments.messages)]
        publisher = mosquitto.publish("plant/boiler/telemetry", lines, per_second=arguments.messages / seconds)

        events = ["kill"] * arguments.kills + ["stop"] * arguments.stops
        chance.shuffle(events)
        for event in events:
            publisher.join(chance.uniform(0.2, 1.2))  # a random instant of the load
            if event == "stop":
                kafka_is_away(kafka, lambda: publisher.join(2.0))
            else:
                penstock.kill()
                penstock.start()
        publisher.join(240)
        expect(not publisher.is_alive() and publisher.error is None, f"the publisher is done ({publisher.error})")

        # Drained: every message that Mosquitto had is in Kafka. Asked of the program first, then proven without it.
        def drained():
            status = penstock.status()
            return status and sum(lane["backlog_records"] for lane in status["lanes"]) == 0 and \
                sum(lane["last"] for lane in status["lanes"]) >= arguments.messages
        wait_until(drained, lambda: f"the queue to drain; status {penstock.status()}; log: {penstock.output()[-3000:]}", 180, 0.3)
        expect(penstock.terminate() == 0, "penstock ends with 0 after SIGTERM")

        everything = kafka.read("penstock.telemetry")
        messages = [m for m in everything if m["headers"]["ce_subject"].startswith("plant/")]
        content = collections.Counter(m["payload"] for m in messages)
        lost = [line for line in lines if line not in content]
        expect(not lost, f"0 of {len(lines)} lost by content ({len(lost)} lost: {lost[:3]})")
        foreign = list(content.keys() - set(lines))
        expect(not foreign, f"nothing in Kafka that was not published ({foreign[:3]})")
        repeated = sum(content.values()) - len(content)
        bound = RECEIVE_MAXIMUM * arguments.kills
        expect(repeated <= bound, f"repeated content {repeated} <= window x kills = {bound} (QoS 1 may hand over twice)")

        names = collections.Counter((m["headers"]["ce_epoch"], m["headers"]["ce_lane"], int(m["headers"]["ce_sequence"]))
                                    for m in everything)
        twice = [name for name, count in names.items() if count > 1]
        expect(not twice, f"0 of {len(names)} twice by (epoch, lane, sequence)")
        sequences = collections.defaultdict(list)
        for m in everything:
            sequences[m["partition"], m["headers"]["ce_epoch"], m["headers"]["ce_lane"]].append(int(m["headers"]["ce_sequence"]))
        expect(all(run == sorted(run) for run in sequences.values()), "in order in each partition")

        verified = penstock.call("verify", "--brokers", kafka.bootstrap, "--topic", "^penstock\\..*")
        print(verified.stdout)
        expect(verified.returncode == 0, f"penstock verify exits 0 ({verified.stderr.strip()[-500:]})")
        shape(messages[0])


def shape(message):
    """Key, timestamp and headers are as docs/formats.md says."""
    headers = message["headers"]
    expect(message["key"] == "gw-kill/plant/boiler/telemetry", f"the key is {{agent}}/{{stream}}: {message['key']}")
    expect(re.fullmatch(r"[0-9a-f]{32}", headers["ce_epoch"]) is not None, "ce_epoch is 32 hexadecimal digits")
    expect(headers["ce_id"] == f"{headers['ce_epoch']}:telemetry:{int(headers['ce_sequence'])}", "ce_id is epoch:lane:sequence")
    expect(len(headers["ce_sequence"]) == 20, "ce_sequence has 20 digits")
    expect(headers["ce_specversion"] == "1.0" and headers["ce_source"] == "/penstock/gw-kill/plant" and
           headers["ce_type"] == "penstock.plant.message" and headers["ce_subject"] == "plant/boiler/telemetry",
           "the CloudEvents headers are in place")
    expect(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", headers["ce_time"]) is not None, f"ce_time is RFC 3339: {headers['ce_time']}")
    from datetime import datetime, timezone
    event = datetime.strptime(headers["ce_time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp() * 1000
    expect(abs(event - message["ts"]) < 1, "the Kafka timestamp is the event time")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--stops", type=int, default=2)
    parser.add_argument("--kafka", default="4", choices=["4", "3.9"])
    parser.add_argument("--zookeeper", action="store_true", help="of Kafka 3.9")
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    need("kcat", "java")
    run(lambda: test(given))
