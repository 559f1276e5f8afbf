#!/usr/bin/env python3
"""A full queue under reject_newest: what an MQTT broker can send again is neither acknowledged nor lost."""
import json
import random
import sys

from gateway import Gateway, expect, main, wait_until
from harness import Mosquitto, need

MESSAGES = 20_000
DRIVER = """
[drivers.plant]
type = "mqtt"
url = "mqtt://127.0.0.1:{port}"
client_id = "penstock-refusal"
subscribe = [{{ filter = "plant/#", qos = 1 }}]
"""


def test_what_finds_no_room_stays_with_the_broker_until_there_is(folder):
    mosquitto = Mosquitto(folder)
    mosquitto.start()
    gateway = Gateway(folder, DRIVER.format(port=mosquitto.port), listen="off", capacity="16MiB",
                      buffer="""when_full = "reject_newest"\ncompression_level = 0\njournal_bytes = "1MiB" """).up()
    wait_until(lambda: "connected to" in str(gateway.status()["drivers"]), "the subscription", 30)
    lines = [f"{n} {random.getrandbits(4000):x}" for n in range(MESSAGES)]
    wanted = set(lines)
    publisher = mosquitto.publish("plant/a", lines)
    publisher.join(60)
    expect(not publisher.is_alive() and publisher.error is None, f"the publisher is done ({publisher.error})")
    wait_until(lambda: "the queue is full: what is sent again" in gateway.output(), "the queue to be full", 60)
    taken = gateway.durable()
    status = gateway.status()
    expect(0 < taken < MESSAGES, f"{taken} of {MESSAGES} messages found room")
    expect(not status["store"]["given_up"], f"nothing is given up: {status['store']['given_up']}")
    expect(gateway.terminate(20) == 0, "exit status 0")

    config = gateway.config.read_text()
    gateway.config.write_text(config.replace('capacity = "16MiB"', 'capacity = "64MiB"'))
    gateway.up()
    wait_until(lambda: gateway.durable() >= MESSAGES, lambda: f"all of them in a larger queue: {gateway.durable()}", 60)

    def all_there():
        exported = gateway.call("queue", "export", "-c", str(gateway.config), "--lane", "telemetry")
        payloads = [json.loads(line).get("payload") for line in exported.stdout.splitlines()]
        return payloads if len(wanted & set(payloads)) == MESSAGES else None
    payloads = wait_until(all_there, lambda: f"all of their contents: {gateway.durable()} records", 60, 2)
    order = [payload for payload in dict.fromkeys(payloads) if payload in wanted]
    expect(order == lines, f"all {MESSAGES} are there, in order ({len(payloads) - MESSAGES} handed over twice)")
    expect(not gateway.status()["store"]["given_up"], "and nothing was given up")
    expect(gateway.terminate(20) == 0, "exit status 0")


if __name__ == "__main__":
    need("mosquitto", "mosquitto_pub")
    sys.exit(main(globals()))
