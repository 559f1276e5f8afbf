"""The few requests of Kafka's protocol that the rig and its tests make themselves: no client between them and the broker.

Each opens a plaintext connection to one broker, asks once and closes. Versions are those before the compact encoding, which
Kafka 3.9 and 4 both still take (KIP-896). An answer with an error code is a Refused.
"""
import contextlib
import io
import socket
import struct

METADATA, LIST_OFFSETS, CREATE_TOPICS, DELETE_TOPICS, CREATE_ACLS, DELETE_ACLS = 3, 2, 19, 20, 30, 31


class Refused(Exception):
    """The broker answered with an error."""


def text(value):
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def array(items):
    items = list(items)
    return struct.pack(">i", len(items)) + b"".join(items)


class Answer:
    def __init__(self, data):
        self.stream = io.BytesIO(data)

    def take(self, shape):
        shape = ">" + shape
        values = struct.unpack(shape, self.stream.read(struct.calcsize(shape)))
        return values[0] if len(values) == 1 else values

    def text(self):
        size = self.take("h")
        return None if size < 0 else self.stream.read(size).decode()

    def array(self, item):
        return [item() for _ in range(self.take("i"))]


def ask(port, key, version, body, timeout=10.0):
    request = struct.pack(">hhi", key, version, 1) + text("rig") + body
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout)) as link:
        link.settimeout(timeout)
        link.sendall(struct.pack(">i", len(request)) + request)
        stream = link.makefile("rb")
        (size,) = struct.unpack(">i", stream.read(4))
        answer = Answer(stream.read(size))
    answer.take("i")  # the correlation id
    return answer


def metadata(port, topics=(), timeout=1.0):
    """What the broker at `port` knows: ({broker: port}, {topic: {partition: (leader, replicas, in-sync replicas)}})."""
    wanted = struct.pack(">i", -1) if topics is None else array(map(text, topics))
    answer = ask(port, METADATA, 1, wanted, timeout)

    def broker():
        number, _, at, _ = answer.take("i"), answer.text(), answer.take("i"), answer.text()
        return number, at

    def partition():
        error, number, leader = answer.take("hii")
        replicas, in_sync = answer.array(lambda: answer.take("i")), answer.array(lambda: answer.take("i"))
        return number, (-1 if error == 5 else leader, replicas, in_sync)

    def topic():
        _, name, _ = answer.take("h"), answer.text(), answer.take("b")
        return name, dict(answer.array(partition))

    brokers = dict(answer.array(broker))
    answer.take("i")  # the controller, as far as a broker tells
    return brokers, dict(answer.array(topic))


def end_offset(port, topic, partition, committed=False, timeout=1.0):
    """The end of a partition that the broker at `port` leads: where read_uncommitted readers end, or read_committed ones."""
    ask_for = text(topic) + array([struct.pack(">iq", partition, -1)])
    answer = ask(port, LIST_OFFSETS, 2, struct.pack(">ib", -1, 1 if committed else 0) + array([ask_for]), timeout)
    answer.take("i")  # throttled
    ((_, ((_, error, _, offset),)),) = answer.array(lambda: (answer.text(), answer.array(lambda: answer.take("ihqq"))))
    if error:
        raise Refused(f"the end of {topic} {partition}: error {error}")
    return offset


def create_topic(port, name, partitions, replicas, **settings):
    wanted = text(name) + struct.pack(">ih", partitions, replicas) + array([]) + array(
        text(key.replace("_", ".")) + text(value) for key, value in settings.items())
    answer = ask(port, CREATE_TOPICS, 2, array([wanted]) + struct.pack(">ib", 10_000, 0))
    answer.take("i")
    ((_, error, why),) = answer.array(lambda: (answer.text(), answer.take("h"), answer.text()))
    if error:
        raise Refused(f"topic {name}: error {error}: {why}")


def delete_topic(port, name):
    answer = ask(port, DELETE_TOPICS, 1, array([text(name)]) + struct.pack(">i", 10_000))
    answer.take("i")
    ((_, error),) = answer.array(lambda: (answer.text(), answer.take("h")))
    if error:
        raise Refused(f"topic {name}: error {error}")


# Of KIP-290: one rule, what for, whose name, literal or any that begins so.
KINDS = {"topic": 2, "cluster": 4, "transactional-id": 5}


ALL, READ, WRITE, DESCRIBE = 2, 3, 4, 8  # operations


def allow(port, user, kind, name, prefix=False, operation=ALL):
    """An operation on what is called so, or begins so, for `user`, from everywhere."""
    rule = struct.pack(">b", KINDS[kind]) + text(name) + struct.pack(">b", 4 if prefix else 3) + text(f"User:{user}") + text("*") + \
        struct.pack(">bb", operation, 3)  # allow
    answer = ask(port, CREATE_ACLS, 1, array([rule]))
    answer.take("i")
    ((error, why),) = answer.array(lambda: (answer.take("h"), answer.text()))
    if error:
        raise Refused(f"ACL of {user}: error {error}: {why}")


def take_back(port, user, kind, name):
    """Removes every rule about what is called so; how many there were."""
    answer = ask(port, DELETE_ACLS, 1, array([struct.pack(">b", KINDS[kind]) + text(name) + struct.pack(">b", 1) + text(f"User:{user}") +
                                              struct.pack(">h", -1) + struct.pack(">bb", 1, 1)]))
    answer.take("i")

    def rule():
        return answer.take("h"), answer.text(), answer.take("b"), answer.text(), answer.take("b"), answer.text(), answer.text(), answer.take("bb")

    ((error, why, rules),) = answer.array(lambda: (answer.take("h"), answer.text(), answer.array(rule)))
    if error:
        raise Refused(f"ACL of {user}: error {error}: {why}")
    return len(rules)
