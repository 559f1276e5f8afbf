"""What an end-to-end test is made of: a real Kafka, a real Mosquitto, the real program, and independent readers.

Everything listens on 127.0.0.1 on free ports, lives in one temporary folder and ends with the test. Each wait has a
deadline and says what it waited for. Exit status 77: something that cannot be had here is missing, and what.
"""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
RIG = HERE / "kafka" / "rig"
sys.path.insert(0, str(HERE / "kafka"))
import wire  # noqa: E402
SKIPPED = 77


class Failed(Exception):
    """The claim of the test does not hold."""


def skip(why):
    if os.environ.get("PENSTOCK_DEMAND_E2E") == "1":
        print(f"FAILED: demanded, but {why}")
        sys.exit(1)
    print(f"SKIPPED: {why}")
    sys.exit(SKIPPED)


def need(*programs):
    for program in programs:
        if not shutil.which(program) and not os.path.exists(f"/usr/sbin/{program}"):
            skip(f"`{program}` is not installed")


def expect(condition, claim):
    if not condition:
        raise Failed(claim)
    print(f"  ok: {claim}")


def wait_until(call, what, seconds=60, pause=0.05):
    """Polls until call() gives something true; the value. `what` is a text, or a call that gives it when it is needed."""
    deadline = time.monotonic() + seconds
    while True:
        value = call()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s in vain for: {what() if callable(what) else what}")
        time.sleep(pause)


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listening(port):
    with contextlib.suppress(OSError), contextlib.closing(socket.create_connection(("127.0.0.1", port), 1)):
        return True
    return False


class Process:
    """A child that is killed by its own pid at the end, whatever happens."""

    def __init__(self, command, log, **options):
        self.command, self.log, self.options = command, log, options
        self.child = None

    def start(self):
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.options)
        return self

    def alive(self):
        return self.child is not None and self.child.poll() is None

    def kill(self):
        if self.alive():
            self.child.kill()
        if self.child is not None:
            self.child.wait()

    def terminate(self, seconds=15):
        """SIGTERM and the exit status."""
        self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.command[0]} does not end within {seconds} s of SIGTERM") from None

    def peak_memory_mib(self):
        """The highest resident set of its life so far (proc_pid_status(5): VmHWM)."""
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024

    def output(self):
        return pathlib.Path(self.log).read_text(errors="replace") if os.path.exists(self.log) else ""


class Kafka:
    """A cluster. `relay`: clients reach it through a bad link (tell()); `secure`, `zookeeper`, `clock`: as `rig start --secure` and so on."""

    def __init__(self, folder, version="4", brokers=1, relay=False, secure=False, zookeeper=False, clock=0, seconds=1800, properties=()):
        self.folder = folder / f"kafka-{version}"
        self.options = ["--version", version, "--brokers", str(brokers), "--for", str(seconds), "--owner", str(os.getpid())]
        self.options += ["--relay"] * relay + ["--secure"] * secure + ["--zookeeper"] * zookeeper
        self.options += [f"--clock={clock}"] if clock else []
        self.options += [word for text in properties for word in ("--property", text)]
        self.bootstrap = None

    def start(self):
        self.bootstrap = self._rig("start", *self.options)
        state = json.loads((self.folder / "rig.json").read_text())
        self.listeners = state["bootstrap"]
        self.ports = {node["id"]: node["internal"] for node in state["nodes"]}
        return self

    def kill(self, n=1):
        self._rig("kill", arguments=[str(n)])

    def terminate(self, n=1):
        self._rig("terminate", arguments=[str(n)])

    def pause(self, n=1):
        self._rig("pause", arguments=[str(n)])

    def go_on(self, n=1):
        self._rig("continue", arguments=[str(n)])

    def restart(self, n=1):
        self._rig("restart", arguments=[str(n)])

    def stop(self):
        if self.bootstrap:
            self._rig("stop")

    def tell(self, words):
        """A command for the relay, and its answer."""
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as link:
            link.settimeout(10)
            link.connect(str(self.folder / "relay.sock"))
            link.sendall(words.encode() + b"\n")
            answer = json.loads(link.makefile().readline())
        if "error" in answer:
            raise Failed(f"relay: {answer['error']}")
        return answer

    # --- asked of the brokers themselves, past the relay

    def metadata(self, topics=None):
        """As wire.metadata, of the first broker that answers."""
        for port in self.ports.values():
            with contextlib.suppress(OSError, wire.struct.error):
                return wire.metadata(port, topics)
        return {}, {}

    def in_sync(self):
        """Every broker is there, and every replica of every partition, its leader and all."""
        brokers, topics = self.metadata()
        return len(brokers) == len(self.ports) and all(
            leader >= 0 and len(in_sync) == len(replicas) for partitions in topics.values() for leader, replicas, in_sync in partitions.values())

    def wait_in_sync(self, seconds=90):
        wait_until(self.in_sync, lambda: f"all replicas to be in sync; the brokers say {self.metadata()}", seconds, 0.1)

    def create_topic(self, name, partitions=1, **settings):
        wire.create_topic(self.ports[1], name, partitions, len(self.ports), **settings)
        wait_until(lambda: len(self.metadata([name])[1].get(name, ())) == partitions and self.in_sync(), f"topic {name} to be there", 30)

    def end(self, topic, partition, committed=False):
        """Where readers of that partition end, as its leader says; None while there is no answer."""
        with contextlib.suppress(OSError, wire.struct.error, wire.Refused, KeyError):
            return wire.end_offset(self.ports[self.metadata([topic])[1][topic][partition][0]], topic, partition, committed)
        return None

    def _rig(self, verb, *options, arguments=()):
        done = subprocess.run([str(RIG), verb, *options, str(self.folder), *arguments], capture_output=True, text=True, timeout=240)
        if done.returncode == SKIPPED:
            skip(done.stderr.strip() or done.stdout.strip())
        if done.returncode != 0:
            raise Failed(f"rig {verb}: {done.stdout}{done.stderr}")
        return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""

    # --- an independent client: kcat

    def read(self, topic, isolation="read_committed", seconds=120):
        """Every message of the topic, as kcat's JSON gives it, partition by partition in order; headers as a dict."""
        command = ["kcat", "-C", "-b", self.bootstrap, "-t", topic, "-o", "beginning", "-e", "-q", "-J",
                   "-X", f"isolation.level={isolation}"]
        done = subprocess.run(command, capture_output=True, timeout=seconds)
        if done.returncode != 0:
            raise Failed(f"kcat: {done.stderr.decode(errors='replace')}")
        messages = [json.loads(line) for line in done.stdout.decode().splitlines()]
        for message in messages:
            flat = message.get("headers") or []
            message["headers"] = dict(zip(flat[0::2], flat[1::2]))
        return messages


class Mosquitto(Process):
    def __init__(self, folder, extra=""):
        need("mosquitto", "mosquitto_pub")
        self.port = free_port()
        home = folder / "mosquitto"
        home.mkdir(exist_ok=True)
        config = home / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
                          f"persistence_location {home}/\nmax_queued_messages 0\nuser root\n{extra}\n")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        super().__init__([program, "-c", str(config)], home / "log")

    def start(self):
        super().start()
        wait_until(lambda: listening(self.port), "Mosquitto to listen", 10)
        return self

    def publish(self, topic, lines, qos=1, per_second=None):
        """A thread that publishes each line as one message; join() it, then .error says what went wrong."""
        def work():
            command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-t", topic, "-q", str(qos), "-l", "-V", "5",
                       "-i", f"publisher-{topic.replace('/', '-')}"]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            begin = time.monotonic()
            for n, line in enumerate(lines, 1):
                child.stdin.write(line.encode() + b"\n")
                if per_second and n % 100 == 0:
                    child.stdin.flush()
                    ahead = n / per_second - (time.monotonic() - begin)
                    if ahead > 0:
                        time.sleep(ahead)  # the pace of the publisher, not a wait for a condition
            child.stdin.close()
            if child.wait(120) != 0:
                thread.error = child.stdout.read().decode(errors="replace")
        thread = threading.Thread(target=work, daemon=True)
        thread.error = None
        thread.start()
        return thread


class Penstock(Process):
    def __init__(self, folder, config, name="penstock"):
        self.program = os.environ.get("PENSTOCK") or str(HERE.parents[1] / "build" / "dev" / "penstock")
        if not os.path.exists(self.program):
            raise Failed(f"no program at {self.program}: build it, or set PENSTOCK")
        self.config = folder / f"{name}.toml"
        self.config.write_text(config)
        super().__init__([self.program, "run", "-c", str(self.config)], folder / f"{name}.log")

    def call(self, *arguments, seconds=120):
        return subprocess.run([self.program, *arguments], capture_output=True, text=True, timeout=seconds)

    def status(self):
        """The daemon's status as JSON, or None while it does not answer."""
        done = self.call("status", "--json", "-c", str(self.config), seconds=20)
        if done.returncode != 0:
            return None
        return json.loads(done.stdout)

    def wait_ready(self, seconds=30):
        return wait_until(self.status, lambda: f"penstock to answer; its log: {self.output()[-2000:]}", seconds)

    def backlog(self):
        status = self.status()
        return None if status is None else sum(lane["backlog_records"] for lane in status["lanes"])

    def wait_delivered(self, seconds=120):
        """Until all that is durable at this instant is delivered. (A backlog of 0 is never seen when status records follow
        each other within a second: what was sent last waits for its proof.)"""
        wanted = {lane["name"]: lane["durable"] for lane in self.wait_ready()["lanes"]}

        def delivered():
            status = self.status()
            return status and all(lane["delivered"] >= wanted[lane["name"]] for lane in status["lanes"])
        wait_until(delivered, lambda: f"{wanted} to be delivered; status {self.status()}; log {self.output()[-2000:]}", seconds)


@contextlib.contextmanager
def stage():
    """A temporary folder; on failure it is kept and named."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="penstock-e2e-"))
    parts = []
    try:
        yield folder, parts
        keep = False
    except BaseException:
        keep = True
        raise
    finally:
        for part in reversed(parts):
            with contextlib.suppress(Exception):
                part.kill() if isinstance(part, Process) else part.stop()
        if keep:
            print(f"what was left is in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def run(test):
    """Runs test() and exits as ctest expects."""
    begin = time.monotonic()
    try:
        test()
    except Failed as failure:
        print(f"FAILED: {failure}")
        sys.exit(1)
    print(f"passed in {time.monotonic() - begin:.0f} s")
