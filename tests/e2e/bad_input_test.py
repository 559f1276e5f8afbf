#!/usr/bin/env python3
"""What cannot work says so in one clear line, does not crash, and what can go on goes on.

A state directory that cannot be written, an HTTP port in use, a Kafka broker whose name does not resolve, and an MQTT broker
that refuses the password: the last three at once, in one agent that goes on queueing.
"""
import os
import socket
import subprocess

from harness import Mosquitto, Penstock, expect, need, run, stage, wait_until

CONFIG = """
[agent]
id = "gw-bad"
state_directory = "{state}"
[kafka]
brokers = ["{broker}"]
[http]
listen = "127.0.0.1:{http}"
[drivers.press]
type = "mqtt"
url = "mqtt://127.0.0.1:{port}"
user = "gateway"
password = "se-cret"
subscribe = [{{ filter = "plant/#", qos = 1 }}]
[drivers.synthetic]
type = "simulator"
"""


def unwritable(folder, parts):
    (folder / "file").write_text("not a directory")
    for state, why in ((folder / "file", "a file stands in its place"), ("/proc/penstock", "nothing can be made in /proc")):
        penstock = Penstock(folder, CONFIG.format(state=state, broker="127.0.0.1:1", http=0, port=1).replace(
            'listen = "127.0.0.1:0"', 'listen = "off"'), name=f"unwritable-{os.path.basename(state)}")
        parts.append(penstock)
        penstock.start()
        status = wait_until(lambda: None if penstock.alive() else (penstock.child.wait() + 1), "the agent to end", 20) - 1
        lines = [line for line in penstock.output().splitlines() if str(state) in line]
        expect(status == 1 and len(lines) == 1, f"state directory: {why}: status {status}, one line: {lines}")


def what_can_go_on_goes_on(folder, parts):
    home = folder / "mosquitto"
    home.mkdir()
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(home / "passwords"), "gateway", "right"], check=True, capture_output=True)
    mosquitto = Mosquitto(folder, f"password_file {home}/passwords")
    config = home / "mosquitto.conf"
    config.write_text(config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    parts.append(mosquitto)
    mosquitto.start()
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    http = taken.getsockname()[1]
    penstock = Penstock(folder, CONFIG.format(state=folder / "state", broker="no-such-host.invalid:9092", http=http,
                                              port=mosquitto.port))
    parts.append(penstock)
    penstock.start()
    penstock.wait_ready()

    def said(*words):
        return [line for line in penstock.output().splitlines() if all(word.lower() in line.lower() for word in words)]

    wait_until(lambda: said(str(http), "in use"), lambda: f"a line about port {http}; log: {penstock.output()}", 20)
    print(f"  ok: the port in use is told: {said(str(http), 'in use')[0]}")
    wait_until(lambda: said("press", "not authori"),
               lambda: f"a line about the refused password; log: {penstock.output()}", 30)
    print(f"  ok: the refusal is told in words: {(said('refused', 'not authori') or said('refused', 'password'))[0]}")
    wait_until(lambda: said("no-such-host.invalid"), lambda: f"a line about the broker's name; log: {penstock.output()}", 90)
    print(f"  ok: the name that does not resolve is told: {said('no-such-host.invalid')[0]}")
    expect(not said("se-cret"), "the password is not in the log")

    before = penstock.backlog()
    wait_until(lambda: penstock.backlog() > before, "the other driver to go on queueing", 20)
    print("  ok: the other driver goes on queueing")
    taken.close()
    wait_until(lambda: metrics(http), lambda: f"/metrics once the port is free; log: {penstock.output()}", 30, 0.3)
    print("  ok: /metrics answers once the port is free")
    expect(len(penstock.output().splitlines()) < 60, f"the log is short: {len(penstock.output().splitlines())} lines")
    expect(penstock.terminate() == 0, "the agent ends with 0 after SIGTERM")


def metrics(port):
    done = subprocess.run(["curl", "-s", "-m", "5", f"http://127.0.0.1:{port}/metrics"], capture_output=True, text=True)
    return "penstock_" in done.stdout


def test():
    with stage() as (folder, parts):
        unwritable(folder, parts)
        what_can_go_on_goes_on(folder, parts)


if __name__ == "__main__":
    need("mosquitto", "mosquitto_passwd", "curl")
    run(test)
