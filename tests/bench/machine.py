"""What the bench runs on, and the places and processes it may use; all of it gone when the bench is."""
import contextlib
import ctypes
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BEGAN = time.monotonic()


class Failed(Exception):
    """A part could not be measured; the text says why."""


class Missing(Failed):
    """What the part needs is not on this machine."""


def say(text):
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {text}", file=sys.stderr, flush=True)


def first_line(command):
    with contextlib.suppress(OSError, subprocess.TimeoutExpired, IndexError):
        return subprocess.run(command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL).stdout.splitlines()[0]
    return "?"


def filesystem_of(folder):
    """(type, source) of the mount that holds `folder`."""
    best = ("", "?", "?")
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        point = left.split()[4]
        if (str(folder) + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best[0]):
            best = (point, *right.split()[:2])
    return best[1], best[2]


def describe(folder):
    cpu = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith(("model name", "Model"))), platform.machine())
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) // 1024
    kind, source = filesystem_of(folder)
    system = dict(line.split("=", 1) for line in pathlib.Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_mib": memory, "kernel": platform.release(), "architecture": platform.machine(),
            "system": system.get("PRETTY_NAME", "?").strip('"'), "filesystem": kind, "device": source,
            "load_before": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Process:
    """A child that ends with us; its output goes to a file of `folder`."""

    def __init__(self, command, folder, name):
        self.name, self.log_path = name, pathlib.Path(folder) / f"{name}.log"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=die_with_parent)

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self, name="VmHWM"):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) / 1024
        return 0.0

    def forget_peak(self):
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def stop(self, limit=12):
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(limit)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def kill(self):
        if self.alive():
            self.process.kill()
        self.process.wait()


def wait_for(what, condition, limit=30, of=None):
    """Until `condition` gives something true, which is given back; fails after `limit` seconds or when `of` ends."""
    until = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if of and not of.alive():
            raise Failed(f"{of.name} ended with status {of.process.returncode} before {what}: {of.log()[-800:]}")
        if time.monotonic() > until:
            raise Failed(f"no {what} within {limit} s" + (f": {of.log()[-800:]}" if of else ""))
        time.sleep(0.01)


def facts(command, limit):
    """Runs a bench program and gives the facts it prints."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit,
                              preexec_fn=die_with_parent)
    except subprocess.TimeoutExpired:
        raise Failed(f"not done within {limit} s: {' '.join(command)}") from None
    if done.returncode != 0:
        raise Failed(f"status {done.returncode}: {' '.join(command)}: {done.stderr.strip()[-800:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextlib.contextmanager
def folder_below(where, name):
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def own_device(where, mebibytes=2048):
    """A folder on an ext4 of its own on a loop device, or None where that cannot be had. Lives in our private mount
    namespace (see `in_own_namespace`): mount, loop device and image are gone with this process, however it ends."""
    with folder_below(where, "device") as folder:
        image, point = folder / "image", folder / "mounted"
        point.mkdir()
        mounted = False
        if os.environ.get("PENSTOCK_BENCH_NAMESPACE"):
            with open(image, "wb") as file:
                file.truncate(mebibytes << 20)
            steps = (["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image],
                     ["mount", "-o", "loop,noatime", image, point])
            mounted = all(shutil.which(step[0]) and subprocess.run(step, stdin=subprocess.DEVNULL, capture_output=True,
                                                                   timeout=60).returncode == 0 for step in steps)
            image.unlink()
        try:
            yield point if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", point], capture_output=True, timeout=60, stdin=subprocess.DEVNULL)


def in_own_namespace(arguments):
    """Runs this program again in a mount namespace of its own, where root allows it."""
    if os.environ.get("PENSTOCK_BENCH_NAMESPACE") is not None:
        return
    unshare = ["unshare", "--mount", "--propagation", "private"]
    works = os.geteuid() == 0 and shutil.which("unshare") and subprocess.run(
        [*unshare, "true"], capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
    os.environ["PENSTOCK_BENCH_NAMESPACE"] = "1" if works else ""
    if works:
        os.execvp("unshare", [*unshare, sys.executable, *arguments])
