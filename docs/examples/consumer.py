#!/usr/bin/python3
"""A consumer of Penstock's records that takes each of them once, whatever is killed: docs/consumers.md tells how.

  consumer.py --brokers HOST:PORT --topic TOPIC --database FILE [--group NAME]

Run as many as there are partitions; they share the work by a consumer group and one database. SQLite stands for yours:
all it needs is transactions. Debian: python3-confluent-kafka (1.7 or newer), hence /usr/bin/python3.
"""
import argparse
import signal
import sqlite3
import struct

import confluent_kafka

SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS readings (agent TEXT, epoch TEXT, lane TEXT, sequence INTEGER, topic TEXT, partition INTEGER,
                                     time TEXT, value BLOB);
CREATE TABLE IF NOT EXISTS offsets (topic TEXT, partition INTEGER, next INTEGER, PRIMARY KEY (topic, partition));
CREATE TABLE IF NOT EXISTS last_taken (topic TEXT, partition INTEGER, agent TEXT, epoch TEXT, lane TEXT, sequence INTEGER,
                                       PRIMARY KEY (topic, partition, agent, epoch, lane));
COMMIT;
"""


def name_of(headers):
    """(agent, epoch, lane), sequence and time of a record, from either style of headers; None: not one of Penstock's."""
    headers = dict(headers or [])
    if "penstock" in headers:  # compact: see docs/formats.md
        data = headers["penstock"]
        if data[0] != 1:
            raise ValueError(f"compact header of version {data[0]}")
        agent_end = 2 + data[1]
        lane_begin = agent_end + 17
        lane_end = lane_begin + data[agent_end + 16]
        sequence, time = struct.unpack_from(">Qq", data, lane_end)
        name = data[2:agent_end].decode(), data[agent_end:agent_end + 16].hex(), data[lane_begin:lane_end].decode()
        return name, sequence, time
    if not {"ce_source", "ce_epoch", "ce_lane", "ce_sequence"} <= headers.keys():
        return None
    source = headers["ce_source"].decode().split("/")  # /penstock/<agent>/<driver>
    if source[:2] != ["", "penstock"]:
        return None
    name = source[2], headers["ce_epoch"].decode(), headers["ce_lane"].decode()
    return name, int(headers["ce_sequence"]), headers["ce_time"].decode()


class Moved(Exception):
    """Another member has gone on with a partition of ours: it was taken from us, and we have not heard of it yet."""


class Reader:
    def __init__(self, options):
        self.options = options
        self.database = sqlite3.connect(options.database, timeout=60, isolation_level=None)
        self.database.executescript(SCHEMA)
        self.next, self.last = {}, {}  # of our partitions: the next offset; the last sequence taken of each name
        self.running = True
        self.consumer = confluent_kafka.Consumer({
            "bootstrap.servers": options.brokers,
            "group.id": options.group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,  # the offsets are in the database
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
        })

    def assigned(self, consumer, partitions):
        """What is ours from now on goes on where the database says, whoever wrote it there."""
        self.forget(consumer, partitions)
        for one in partitions:
            place = one.topic, one.partition
            found = self.database.execute("SELECT next FROM offsets WHERE topic = ? AND partition = ?", place).fetchone()
            one.offset = self.next[place] = found[0] if found else confluent_kafka.OFFSET_BEGINNING
            rows = self.database.execute("SELECT agent, epoch, lane, sequence FROM last_taken WHERE topic = ? AND partition = ?", place)
            self.last[place] = {row[:3]: row[3] for row in rows}
        consumer.assign(partitions)

    def forget(self, _, partitions):
        for one in partitions:
            self.next.pop((one.topic, one.partition), None)
            self.last.pop((one.topic, one.partition), None)

    def run(self):
        self.consumer.subscribe([self.options.topic], on_assign=self.assigned, on_revoke=self.forget, on_lost=self.forget)
        while self.running:
            messages = self.consumer.consume(500, timeout=0.5)
            try:
                self.take([message for message in messages if self.usable(message)])
            except Moved as moved:
                print(moved, flush=True)
                self.consumer.unsubscribe()  # begin again as a new member
                self.next, self.last = {}, {}
                self.consumer.subscribe([self.options.topic], on_assign=self.assigned, on_revoke=self.forget, on_lost=self.forget)
        self.consumer.close()

    def usable(self, message):
        if message.error():
            if message.error().fatal():
                raise confluent_kafka.KafkaException(message.error())
            return False
        place = message.topic(), message.partition()  # not in next: ours no more; below: fetched before it was ours again
        return place in self.next and message.offset() >= self.next[place]

    def take(self, messages):
        """Rows, last sequences and offsets in one transaction: all of it is there afterwards, or nothing."""
        if not messages:
            return
        next_offset = {}
        last = {}
        self.database.execute("BEGIN IMMEDIATE")
        try:
            for message in messages:
                place = message.topic(), message.partition()
                next_offset[place] = message.offset() + 1
                named = name_of(message.headers())
                if named is None:
                    continue
                name, sequence, time = named
                taken = last.setdefault(place, dict(self.last[place]))
                if sequence <= taken.get(name, 0):
                    continue  # the rule: a repeat
                taken[name] = sequence
                self.database.execute("INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                                      (*name, sequence, *place, time, message.value()))
            for place, offset in next_offset.items():
                self.move(place, offset)
                for name, sequence in last.get(place, {}).items():
                    if sequence != self.last[place].get(name):
                        self.database.execute("INSERT OR REPLACE INTO last_taken VALUES (?, ?, ?, ?, ?, ?)", (*place, *name, sequence))
            self.database.execute("COMMIT")
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.next.update(next_offset)
        self.last.update(last)

    def move(self, place, offset):
        """The fence: the offset goes on only from where we left it. One who lost the partition unawares finds it moved."""
        if self.next[place] == confluent_kafka.OFFSET_BEGINNING:
            moved = self.database.execute("INSERT OR IGNORE INTO offsets VALUES (?, ?, ?)", (*place, offset))
        else:
            moved = self.database.execute("UPDATE offsets SET next = ? WHERE topic = ? AND partition = ? AND next = ?",
                                          (offset, *place, self.next[place]))
        if moved.rowcount != 1:
            raise Moved(f"{place[0]} [{place[1]}] is another member's")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--group", default="readings")
    reader = Reader(parser.parse_args())

    def stop(*_):
        reader.running = False
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    reader.run()


if __name__ == "__main__":
    main()
