#!/usr/bin/env python3
"""Everything that can go wrong between an agent and three brokers, at random, for a while: 0 lost, 0 twice, in order.

  chaos_test.py [--seeds 3] [--without-transactions 1] [--seed N] [--seconds 36] [--records 30000] [--at-least 0]

Rows of known content come in evenly while a schedule drawn from the seed goes on: the agent is killed; a broker is killed and
started again, or all of them one after the other in order; connections are cut, held in a black hole (sometimes for longer than the
transaction timeout), closed by halves, robbed of the brokers' answers, delayed and throttled; and in the middle of many of these
the agent is killed as well. Then all faults end, everything drains, and two readers must agree: `penstock verify`, and kcat by
content. Never are two brokers down at once: what Kafka acknowledged must be kept by somebody.

So many seeds at exactly_once, and so many more at_least_once, where the readers skip what they know.

--seed replays one schedule; the instants within it are those of the machine. Each seed has an agent and a topic of its own on one
cluster. With --at-least the schedule goes on until there were so many kills and cuts.
"""
import argparse
import random
import time

from harness import Kafka, expect, need, run, stage
from rows import IMPATIENT, prove, start_agent

TRANSACTION_TIMEOUT = 10
PARTITIONS = 6
DELAY = 40  # ms round trip when nothing is worse: so there is nearly always a transaction in some stage when a fault comes
LONG = 300  # seconds: from here on with rolling restarts, which take their time, and a line every 30 s instead of one a fault
# How many of each in a deck, which is shuffled and dealt out, and then shuffled again.
DECK = {"agent": 4, "broker": 2, "rolling": 1, "cut": 3, "black-hole": 2, "long-black-hole": 1, "half-close": 2, "drop": 3, "weather": 2}


class Chaos:
    def __init__(self, kafka, penstock, chance):
        self.kafka, self.penstock, self.chance = kafka, penstock, chance
        self.agent_kills = self.broker_kills = self.restarts = self.cuts = 0
        self.doubts = 0  # calls into Kafka that failed, of agents that have ended since
        self.skipped = 0
        self.held = self.held_long = self.robbed = self.halved = self.bad_weather = 0

    def faults(self):
        return self.agent_kills + self.broker_kills + self.cuts

    def schedule(self, seconds):
        """Without end: what is drawn depends on the seed and the form alone."""
        chance = self.chance
        while True:
            deck = [kind for kind, count in DECK.items() for _ in range(count) if kind != "rolling" or seconds >= LONG]
            chance.shuffle(deck)
            # Cuts alone seldom fail a commit, librdkafka repeats what it can: this always does, so it comes early.
            deck.remove("long-black-hole")
            deck.insert(chance.randrange(3), "long-black-hole")
            for kind in deck:
                some = chance.choice(["1", "2", "3", "all"])
                long = chance.uniform(TRANSACTION_TIMEOUT + 1, TRANSACTION_TIMEOUT + 5)
                yield {"kind": kind, "which": some, "pause": chance.uniform(0.3, 2), "kill": chance.random() < 0.5 and chance.random(),
                       "seconds": long if kind == "long-black-hole" else chance.uniform(2, 6), "end": chance.choice(["client", "broker"]),
                       "delay": chance.choice([100, 300]), "rate": chance.choice([0, 50_000, 400_000]), "seed": chance.randrange(1 << 30)}

    def rest(self, seconds):
        """The pace of the schedule, not a wait for a condition."""
        time.sleep(seconds)

    def clear(self):
        self.kafka.tell("clear")
        self.kafka.tell(f"delay {DELAY}")

    def note_doubts(self):
        self.doubts += (self.penstock.status() or {"kafka": {"failures": 0}})["kafka"]["failures"]

    def kill_agent(self):
        expect_alive(self.penstock)
        self.note_doubts()
        self.penstock.kill()
        self.penstock.start()
        self.agent_kills += 1

    def during(self, fault, seconds=None):
        """Lets time pass; the agent may be killed at some instant of it."""
        seconds = fault["seconds"] if seconds is None else seconds
        if fault["kill"] is False:
            return self.rest(seconds)
        self.rest(seconds * fault["kill"])
        self.kill_agent()
        self.rest(seconds * (1 - fault["kill"]))

    def play(self, fault):
        kind, which = fault["kind"], fault["which"]
        broker = 1 + fault["seed"] % 3
        tell = self.kafka.tell
        if kind == "agent":
            self.kill_agent()
        elif kind == "broker":
            self.kafka.kill(broker)
            self.broker_kills += 1
            self.during(fault)
            self.kafka.restart(broker)
            self.kafka.wait_in_sync()
        elif kind == "rolling":
            for n in (1, 2, 3):
                self.kafka.terminate(n)
                self.during(fault, 1)
                self.kafka.restart(n)
                self.kafka.wait_in_sync()
                self.restarts += 1
        elif kind == "cut":
            tell(f"cut {which}")
            self.cuts += 1
            self.during(fault, 0.5)
        elif kind in ("black-hole", "long-black-hole"):
            if kind == "long-black-hole":
                which = "all"
                self.held_long += 1
            tell(f"black-hole {which}")
            self.held += 1
            self.during(fault)
            if fault["seed"] % 2:  # else what was held arrives late
                tell(f"cut {which}")
                self.cuts += 1
            self.clear()
        elif kind == "half-close":
            tell(f"half-close {which} {fault['end']}")
            self.halved += 1
            self.during(fault, 1)
        elif kind == "drop":
            tell(f"drop {which}")
            self.robbed += 1
            self.during(fault)
            tell(f"cut {which}")
            self.cuts += 1
        else:
            tell(f"delay {fault['delay']}")
            tell(f"rate {fault['rate']}")
            tell(f"chaos 0.3 {fault['seed']}")
            self.bad_weather += 1
            before = self.relay_cuts()
            self.during(fault)
            self.cuts += self.relay_cuts() > before
            self.clear()

    def relay_cuts(self):
        return sum(broker["cut"] for broker in self.kafka.tell("stats").values())

    def figures(self):
        return (f"{self.agent_kills} agent kills, {self.broker_kills} broker kills, {self.restarts} broker restarts in order, {self.cuts} cuts, "
                f"{self.held} black holes ({self.held_long} past the transaction timeout), {self.halved} half-closes, {self.robbed} times robbed of "
                f"answers, {self.bad_weather} times delayed, throttled and cut, {self.doubts} times the agent was in doubt")


def expect_alive(penstock):
    if not penstock.alive():
        expect(False, f"the agent runs until it is killed; it ended with {penstock.child.returncode}: {penstock.output()[-2000:]}")


def one_seed(kafka, folder, parts, seed, delivery, arguments):
    agent, topic = f"chaos-{seed}-{delivery}", f"chaos.{seed}.{delivery}"
    print(f"seed {seed}, {delivery}: {arguments.records} rows in {arguments.seconds} s", flush=True)
    penstock, rows = start_agent(kafka, folder, parts, agent, topic, partitions=PARTITIONS, keys={**IMPATIENT, "delivery": delivery})
    rows.give(500)
    rows.wait_drained()
    rows.start(arguments.records, arguments.seconds)

    chaos = Chaos(kafka, penstock, random.Random(seed))
    chaos.clear()
    begin = told = time.monotonic()
    for number, fault in enumerate(chaos.schedule(arguments.seconds), 1):
        chaos.rest(fault["pause"])
        at = time.monotonic() - begin
        if at > arguments.seconds and chaos.faults() >= arguments.at_least:
            break
        if arguments.seconds < LONG:
            print(f"  {at:6.1f} s: {fault['kind']} {fault['which']}{'' if fault['kill'] is False else ', and the agent killed'}", flush=True)
        elif time.monotonic() - told > 30:
            told = time.monotonic()
            sent = ((penstock.status() or {}).get("lanes") or [{}])[0].get("delivered")
            print(f"  {at:6.0f} s: fault {number}, {rows.stored} rows stored, {sent} delivered; {chaos.figures()}", flush=True)
        chaos.play(fault)
    chaos.clear()
    kafka.wait_in_sync()
    rows.join(240)
    print(f"  drained {rows.wait_drained(240):.1f} s after the last row was stored; the relay: {kafka.tell('stats')}")
    expect_alive(penstock)
    chaos.note_doubts()
    chaos.skipped = prove(kafka, penstock, rows, topic, delivery=delivery)
    return chaos


def test(arguments):
    times = 1 if arguments.seed is not None else arguments.seeds
    deliveries = ["exactly_once"] * times + ["at_least_once"] * arguments.without_transactions
    seeds = [random.randrange(1 << 32) if arguments.seed is None else arguments.seed for _ in deliveries]
    with stage() as (folder, parts):
        kafka = Kafka(folder, brokers=3, relay=True, seconds=arguments.seconds * 3 * len(seeds) + 1200)
        parts.append(kafka)
        kafka.start()
        for seed, delivery in zip(seeds, deliveries):
            chaos = one_seed(kafka, folder, parts, seed, delivery, arguments)
            twice = f"0 twice, {chaos.skipped} repeats skipped" if delivery == "at_least_once" else "0 twice"
            print(f"  {delivery}: {arguments.records} rows, 0 lost, {twice}; {chaos.figures()}; {chaos.faults()} kills and cuts; seed {seed}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--without-transactions", type=int, default=1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seconds", type=float, default=36)
    parser.add_argument("--records", type=int, default=30_000)
    parser.add_argument("--at-least", type=int, default=0)
    given = parser.parse_args()
    need("kcat", "java")
    run(lambda: test(given))
