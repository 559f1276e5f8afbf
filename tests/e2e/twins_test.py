#!/usr/bin/env python3
"""Two living agents with one id: copies of one store, both in use at once. One sends, the other one says so and keeps queueing.

  twins_test.py [--kafka 4|3.9] [--messages 2000]

Three ways to come to it: the store is copied while its agent is stopped and everything is delivered; while it runs; while it
runs and Kafka is away, with a backlog. Each time the second one is then given another id, and all it holds arrives.
"""
import argparse
import collections
import shutil
import signal
import urllib.request

from harness import Kafka, Mosquitto, Penstock, expect, need, run, stage, wait_until

CONFIG = """
[agent]
id = "{id}"
state_directory = "{state}"
status_interval = "1s"
[kafka]
brokers = ["{bootstrap}"]
batch_interval = "50ms"
batch_records = 100
duplicate_watch = "5s"
[http]
listen = "127.0.0.1:0"
[drivers.plant]
type = "mqtt"
url = "mqtt://127.0.0.1:{port}"
client_id = "penstock-{name}"
subscribe = [{{ filter = "{name}/#", qos = 1 }}]
"""


class Agent(Penstock):
    """One of the two: what is published under its name comes to it alone."""

    def __init__(self, house, name, id):
        self.house, self.name, self.id = house, name, id
        self.state = house.folder / f"{name}-state"
        self.published = []
        super().__init__(house.folder, self.text(), name)
        house.parts.append(self)

    def text(self):
        return CONFIG.format(id=self.id, state=self.state, name=self.name, bootstrap=self.house.kafka.bootstrap,
                             port=self.house.mosquitto.port)

    def up(self):
        self.state.mkdir(exist_ok=True)
        self.start()
        self.wait_ready()
        wait_until(lambda: "connected to" in str(self.status()["drivers"]), lambda: f"{self.name} to subscribe; {self.tail()}", 60)
        return self

    def rename(self, id):
        expect(self.terminate() == 0, f"{self.name} ends in order")
        self.id = id
        self.config.write_text(self.text())
        self.up()

    def tail(self):
        return f"status {self.status()}; log {self.output()[-2000:]}"

    def kafka_part(self):
        return self.status()["kafka"]

    def take(self, count):
        """Publishes so many messages to it, and waits until they are in its queue."""
        before = self.status()["drivers"][0]["records"]
        lines = [f"{self.name}-{len(self.published) + n}" for n in range(count)]
        self.published.extend(lines)
        publisher = self.house.mosquitto.publish(f"{self.name}/x", lines)
        publisher.join(60)
        expect(not publisher.is_alive() and publisher.error is None, f"{count} messages are published to {self.name}")

        def queued():
            status = self.status()
            intake = status["intake"]
            return status["drivers"][0]["records"] >= before + count and intake["puts_durable"] == intake["puts_accepted"]
        wait_until(queued, lambda: f"{self.name} to take them; {self.tail()}", 60)

    def copy_to(self, other):
        """As an image of the disk at one instant: the process, if there is one, does not run meanwhile."""
        if self.alive():
            self.child.send_signal(signal.SIGSTOP)
        try:
            shutil.copytree(self.state, other.state, ignore=shutil.ignore_patterns("*.sock"))
        finally:
            if self.alive():
                self.child.send_signal(signal.SIGCONT)

    def healthz(self):
        with urllib.request.urlopen(f"http://{self.status()['http']}/healthz", timeout=10) as answer:
            return answer.status

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.status()['http']}/metrics", timeout=10) as answer:
            return answer.read().decode()


class House:
    def __init__(self, folder, parts, version):
        self.folder, self.parts = folder, parts
        self.kafka = Kafka(folder, version)
        parts.append(self.kafka)
        self.kafka.start()
        self.mosquitto = Mosquitto(folder)
        parts.append(self.mosquitto)
        self.mosquitto.start()


def one_sends(first, second, messages):
    """Both run, with one id. Gives the one that sends and the one that does not."""
    pair = (first, second)

    def decided():
        return [agent for agent in pair if agent.kafka_part()["duplicate_id"]]
    wait_until(decided, lambda: f"one to say duplicate_id; {first.tail()}\n{second.tail()}", 120)
    duplicate = decided()[0]
    sender = second if duplicate is first else first
    print(f"  {sender.name} sends, {duplicate.name} does not")
    wait_until(lambda: sender.kafka_part()["connected"], lambda: f"the other one to send; {sender.tail()}", 60)
    fencings = sum(agent.kafka_part()["producers"] for agent in pair)
    commits, sent = sender.kafka_part()["commits"], duplicate.kafka_part()["records"]

    sender.take(messages)
    duplicate.take(messages)
    sender.wait_delivered()
    wait_until(lambda: sender.kafka_part()["commits"] >= commits + 5, lambda: f"five commits; {sender.tail()}", 60)
    part = duplicate.kafka_part()
    expect(part["duplicate_id"] and not part["connected"] and part["records"] == sent, f"{duplicate.name} sends nothing meanwhile")
    expect(duplicate.backlog() >= messages, f"and keeps queueing ({duplicate.backlog()})")
    expect("duplicate_id: another living agent uses the id" in part["error"], f"it says why: {part['error']}")
    expect(duplicate.output().count("error   kafka: duplicate_id") == 1, "the log says so once")
    expect(duplicate.healthz() == 200 and sender.healthz() == 200, "both are healthy")
    expect("\npenstock_kafka_duplicate_id 1\n" in duplicate.metrics(), "the metric says so")
    expect("\npenstock_kafka_duplicate_id 0\n" in sender.metrics(), "and of the other one it does not")
    expect("DUPLICATE ID" in duplicate.call("status", "-c", str(duplicate.config)).stdout, "so does `penstock status`")
    after = sum(agent.kafka_part()["producers"] for agent in pair)
    expect(after == fencings <= 6, f"they fence each other no more ({fencings} producers in all)")
    return sender, duplicate


def account(house, agents, ids, again):
    """By content: nothing is lost, and nothing but `again` is there under more than one name."""
    messages = [m for m in house.kafka.read("penstock.telemetry") if m["headers"]["ce_source"].split("/")[2] in ids]
    content = collections.Counter(m["payload"] for m in messages)
    published = [line for agent in agents for line in agent.published]
    lost = [line for line in published if line not in content]
    expect(not lost, f"all {len(published)} records arrived ({len(lost)} lost: {lost[:5]})")
    twice = [line for line in published if content[line] > 1 and line not in again]
    expect(not twice, f"and none but those common to both twice ({len(twice)}: {twice[:5]})")
    names = collections.Counter((m["headers"]["ce_epoch"], m["headers"]["ce_lane"], m["headers"]["ce_sequence"]) for m in messages)
    doubled = [name for name, count in names.items() if count > 1]
    expect(not doubled, f"no name (epoch, lane, sequence) was used twice ({doubled[:3]})")
    verified = agents[0].call("verify", "--brokers", house.kafka.bootstrap, "--topic", "^penstock\\..*")
    print(verified.stdout)
    expect(verified.returncode == 0, f"penstock verify exits 0 ({verified.stderr.strip()[-500:]})")


def finish(house, first, second, sender, duplicate, again=()):
    other_id = f"{duplicate.id}-renamed"
    ids = {duplicate.id, other_id}
    duplicate.rename(other_id)
    duplicate.wait_delivered()
    expect(not duplicate.kafka_part()["duplicate_id"], f"{duplicate.name} is no duplicate with another id")
    sender.wait_delivered()
    for agent in (first, second):
        expect(agent.terminate() == 0, f"{agent.name} ends in order")
    account(house, (first, second), ids, set(again))


def stopped_and_empty(house, messages):
    first, second = Agent(house, "stopped-a", "gw-stopped"), Agent(house, "stopped-b", "gw-stopped")
    first.up().take(messages)
    first.wait_delivered()
    expect(first.terminate() == 0, "the original ends in order")
    first.copy_to(second)
    first.start()
    second.start()  # at once: neither finds a checkpoint of the other one
    first.wait_ready(), second.wait_ready()
    finish(house, first, second, *one_sends(first, second, messages))


def running_and_empty(house, messages):
    first, second = Agent(house, "running-a", "gw-running"), Agent(house, "running-b", "gw-running")
    first.up().take(messages)
    first.wait_delivered()
    common = list(first.published)  # of the last of them the copy does not know that they are delivered
    first.copy_to(second)
    commits = first.kafka_part()["commits"]
    wait_until(lambda: first.kafka_part()["commits"] >= commits + 2, lambda: f"the original to go on; {first.tail()}", 60)
    second.up()
    sender, duplicate = one_sends(first, second, messages)
    expect(sender is first and first.kafka_part()["resumes"] == 1 and second.kafka_part()["producers"] == 0,
           "the one that was there first was not disturbed")
    finish(house, first, second, sender, duplicate, common)


def running_with_backlog(house, messages):
    first, second = Agent(house, "backlog-a", "gw-backlog"), Agent(house, "backlog-b", "gw-backlog")
    first.up().take(messages)
    first.wait_delivered()
    house.kafka.kill()
    first.take(8 * messages)  # so much that they would take turns in it
    common = list(first.published)
    first.copy_to(second)
    second.up()
    second.take(messages)
    house.kafka.restart()
    sender, duplicate = one_sends(first, second, messages)
    finish(house, first, second, sender, duplicate, common)


def test(arguments):
    with stage() as (folder, parts):
        house = House(folder, parts, arguments.kafka)
        for case in (stopped_and_empty, running_and_empty, running_with_backlog):
            print(f"{case.__name__}:")
            case(house, arguments.messages)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", default="4", choices=["4", "3.9"])
    parser.add_argument("--messages", type=int, default=2000)
    given = parser.parse_args()
    need("kcat", "java")
    run(lambda: test(given))
