#!/usr/bin/env python3
"""Copied and restored stores against one cluster: every record of every copy arrives, none is taken for another's.

  fork_test.py [--kafka 4|3.9] [--messages 300]

Set 1 is delivered; set 2 waits in the queue when the store is copied. Then the copies are used one after the other, twice,
and at last the store is restored from an older copy after more was delivered.
"""
import argparse
import collections
import shutil

from harness import Kafka, Mosquitto, Penstock, expect, need, run, stage, wait_until

CONFIG = """
[agent]
id = "gw-fork"
state_directory = "{folder}/state"
status_interval = "1s"
[kafka]
brokers = ["{bootstrap}"]
batch_interval = "50ms"
duplicate_watch = "2s"
[http]
listen = "off"
[drivers.plant]
type = "mqtt"
url = "mqtt://127.0.0.1:{port}"
client_id = "penstock-fork"
subscribe = [{{ filter = "plant/#", qos = 1 }}]
"""


def test(arguments):
    with stage() as (folder, parts):
        kafka = Kafka(folder, arguments.kafka)
        parts.append(kafka)
        kafka.start()
        mosquitto = Mosquitto(folder)
        parts.append(mosquitto)
        mosquitto.start()
        state = folder / "state"
        state.mkdir()
        penstock = Penstock(folder, CONFIG.format(folder=folder, bootstrap=kafka.bootstrap, port=mosquitto.port))
        parts.append(penstock)
        published = []

        def publish(name):
            lines = [f"{name}-{n}" for n in range(arguments.messages)]
            published.extend(lines)
            publisher = mosquitto.publish("plant/x", lines)
            publisher.join(60)
            expect(not publisher.is_alive() and publisher.error is None, f"set {name} is published")

        def queued():
            status = penstock.status()
            intake = status and status["intake"]
            return status and status["drivers"][0]["records"] >= arguments.messages and intake["puts_durable"] == intake["puts_accepted"]

        def life(name, away=False):
            """One life of the agent: starts, takes a set, and unless Kafka is away delivers everything; ends in order."""
            penstock.start()
            penstock.wait_ready()
            publish(name)
            wait_until(queued, lambda: f"set {name} in the queue; {penstock.output()[-2000:]}", 60)
            if not away:
                penstock.wait_delivered()
            expect(penstock.terminate() == 0, f"the agent ends in order after set {name}")

        def exchange(name):
            """The store now in use is put aside as `name`; what was there under that name is used."""
            state.rename(folder / "aside")
            (folder / name).rename(state)
            (folder / "aside").rename(folder / name)

        life("one")
        kafka.kill()
        life("two", away=True)
        shutil.copytree(state, folder / "copy")
        kafka.restart()
        life("original")
        exchange("copy")
        life("copy")
        exchange("copy")
        life("original-again")
        exchange("copy")
        life("copy-again")
        shutil.copytree(state, folder / "backup")
        life("after-backup")
        shutil.rmtree(state)
        shutil.copytree(folder / "backup", state)
        life("restored")

        messages = [m for m in kafka.read("penstock.telemetry") if m["headers"]["ce_subject"] == "plant/x"]
        content = collections.Counter(m["payload"] for m in messages)
        lost = [line for line in published if line not in content]
        expect(not lost, f"all {len(published)} records of every copy arrived ({len(lost)} lost: {lost[:5]})")
        contents_of = collections.defaultdict(list)
        for m in messages:
            contents_of[m["headers"]["ce_epoch"], m["headers"]["ce_lane"], m["headers"]["ce_sequence"]].append(m["payload"])
        shared = {name: contents for name, contents in contents_of.items() if len(contents) > 1}
        expect(not shared, f"no name (epoch, lane, sequence) was used twice ({list(shared.items())[:3]})")
        twice = [payload for payload, count in content.items() if count > 1]
        expect(not twice, f"and no content arrived twice ({len(twice)}: {twice[:5]})")
        epochs = {m["headers"]["ce_epoch"] for m in messages}
        expect(len(epochs) >= 4, f"each fork drew a new epoch: {len(epochs)}")
        verified = penstock.call("verify", "--brokers", kafka.bootstrap, "--topic", "^penstock\\..*")
        print(verified.stdout)
        expect(verified.returncode == 0, f"penstock verify exits 0 ({verified.stderr.strip()[-500:]})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", default="4", choices=["4", "3.9"])
    parser.add_argument("--messages", type=int, default=300)
    given = parser.parse_args()
    need("kcat", "java")
    run(lambda: test(given))
