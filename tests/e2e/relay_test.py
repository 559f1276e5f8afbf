#!/usr/bin/env python3
"""The relay that the tests put between clients and brokers does to a connection what it says, and nothing else.

Both ends are this test: a server that answers what it is sent, and a client.
"""
import contextlib
import json
import os
import pathlib
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time

from harness import HERE, Failed, expect, free_port, run, wait_until


class Echo:
    """Sends back what it gets; remembers how its connections ended."""

    def __init__(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.endings = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            link, _ = self.server.accept()
            threading.Thread(target=self.answer, args=(link,), daemon=True).start()

    def answer(self, link):
        with contextlib.closing(link):
            try:
                while data := link.recv(1 << 16):
                    link.sendall(data)
                self.endings.append("FIN")
            except ConnectionResetError:
                self.endings.append("RST")


class Bench:
    def __init__(self, folder):
        self.folder, self.echo, self.port = folder, Echo(), free_port()
        self.child = subprocess.Popen([sys.executable, "-B", str(HERE / "kafka" / "relay"), folder, f"1:{self.port}:{self.echo.port}"])
        wait_until(lambda: (pathlib.Path(folder) / "relay.sock").exists(), "the relay to listen", 10)

    def tell(self, words):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as link:
            link.connect(os.path.join(self.folder, "relay.sock"))
            link.sendall(words.encode() + b"\n")
            answer = json.loads(link.makefile().readline())
        if "error" in answer:
            raise Failed(f"relay: {answer['error']}")
        return answer

    def connect(self):
        link = socket.create_connection(("127.0.0.1", self.port), 5)
        link.settimeout(10)
        return link

    def ask(self, link, data=b"hello"):
        """Sends, and reads as much again; the seconds it took."""
        begin = time.monotonic()
        sender = threading.Thread(target=link.sendall, args=(data,), daemon=True)
        sender.start()
        answer = bytearray()
        while len(answer) < len(data):
            more = link.recv(1 << 16)
            if not more:
                raise Failed(f"the end after {len(answer)} of {len(data)} bytes")
            answer += more
        sender.join()
        expect(answer == data, f"{len(data)} bytes came back as they were sent")
        return time.monotonic() - begin


def silent(link, seconds=0.3):
    return not select.select([link], [], [], seconds)[0]


def ending(link):
    try:
        while link.recv(1 << 16):
            pass
        return "FIN"
    except ConnectionResetError:
        return "RST"


def test():
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder)
        try:
            claims(bench)
        finally:
            bench.child.kill()
            bench.child.wait()


def claims(bench):
    big = os.urandom(16 << 20)
    seconds = bench.ask(bench.connect(), big)
    expect(seconds < 1.6, f"without faults at least 20 MB/s go each way: {2 * len(big) / seconds / 1e6:.0f} MB/s, both ways together")

    bench.tell("delay 200")
    link = bench.connect()
    seconds = bench.ask(link)
    expect(0.2 <= seconds < 0.4, f"a round trip takes the 200 ms it was told: {seconds * 1000:.0f} ms")
    seconds = bench.ask(link, big[:4 << 20])
    expect(seconds < 2, f"what is on its way does not wait for what was before: 4 MiB took {seconds:.2f} s")
    bench.tell("delay 0")
    bench.tell("rate 200000")
    seconds = bench.ask(link, big[:200_000])
    expect(0.95 <= seconds < 1.5, f"200,000 bytes take 1 s at 200,000 B/s: {seconds:.2f} s")
    bench.tell("clear")
    expect(bench.ask(link, big[:1 << 20]) < 1, "after clear it is fast again")

    links = [link, bench.connect()]
    bench.ask(links[1])
    before = bench.tell("stats")["1"]
    bench.tell("cut 1")
    expect([ending(one) for one in links] == ["RST", "RST"], "cut: the client sees RST")
    after = bench.tell("stats")["1"]
    expect((after["cut"] - before["cut"], after["times_cut"] - before["times_cut"]) == (2, 1), "cut: two connections, one time")
    wait_until(lambda: bench.echo.endings.count("RST") >= 2, lambda: f"cut: RST at the server as well: {bench.echo.endings}", 5)

    for end in ("client", "broker"):
        link = bench.connect()
        bench.ask(link)
        bench.tell(f"half-close 1 {end}")
        if end == "client":
            expect(link.recv(10) == b"", "half-close client: the client sees FIN")
            before = bench.tell("stats")["1"]["up"]
            link.sendall(b"still heard")
            wait_until(lambda: bench.tell("stats")["1"]["up"] == before + 11, "what the client says is still carried", 5)
            link.close()
        else:
            expect(ending(link) == "FIN", "half-close broker: the server sees FIN and ends it in order")

    link = bench.connect()
    bench.ask(link)
    bench.tell("drop 1")
    before = bench.tell("stats")["1"]["up"]
    link.sendall(b"question")
    wait_until(lambda: bench.tell("stats")["1"]["up"] == before + 8, "drop: the server gets the question", 5)
    expect(silent(link), "drop: the client gets no answer")
    bench.ask(bench.connect())
    bench.tell("clear")
    expect(ending(link) == "RST", "a connection that lost bytes does not outlive the clear")

    link = bench.connect()
    bench.ask(link)
    bench.tell("black-hole 1")
    before = bench.tell("stats")["1"]["up"]
    link.sendall(b"late")
    fresh = bench.connect()
    fresh.sendall(b"fresh")
    expect(silent(link) and silent(fresh) and bench.tell("stats")["1"]["up"] == before, "black-hole: accepted, held, nothing carried")
    bench.tell("clear")
    expect(link.recv(10) == b"late" and fresh.recv(10) == b"fresh", "what was held arrives late")

    bench.tell("refuse 1")
    refused = False
    try:
        bench.connect()
    except ConnectionRefusedError:
        refused = True
    expect(refused, "refuse: connection refused")
    bench.ask(link)
    bench.tell("clear")
    bench.ask(bench.connect())

    before = bench.tell("stats")["1"]["cut"]
    bench.tell("chaos 1 7")
    expect(ending(link) == "RST" and bench.tell("stats")["1"]["cut"] > before, "chaos 1: cut within a second, and counted")
    bench.tell("clear")
    bench.child.kill()


if __name__ == "__main__":
    run(test)
