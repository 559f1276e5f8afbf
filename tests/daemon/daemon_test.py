#!/usr/bin/env python3
"""`penstock run` and `penstock status` as processes. Each function named test_... is one claim; all run, in order.

No Kafka is needed: the broker's port is one where nobody listens, so every record stays in the queue and can be counted.
"""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from gateway import SIMULATOR, Gateway, Process, expect, main, wait_until


def test_sigterm_ends_the_agent_orderly_and_status_finds_it_before_and_not_after(folder):
    gateway = Gateway(folder).up()
    wait_until(lambda: gateway.durable() > 100, "records")
    shown = gateway.call("status", "-c", str(gateway.config))
    expect(shown.returncode == 0 and "lane     telemetry" in shown.stdout and "driver   sim (simulator) running" in shown.stdout,
           "status shows lanes and drivers in words")
    begin = time.monotonic()
    expect(gateway.terminate() == 0, "SIGTERM: exit status 0")
    expect(time.monotonic() - begin < 10, "within 10 s, Kafka away")
    expect(not (gateway.state / "control.sock").exists(), "the control socket's file is gone")
    after = gateway.call("status", "-c", str(gateway.config))
    expect(after.returncode == 1 and "no agent answers at" in after.stderr and after.stdout == "",
           "status afterwards: exit status 1, and why")


def test_kill_9_loses_nothing_that_was_durable_and_no_number_is_given_twice(folder):
    gateway = Gateway(folder).up()
    seen, epoch = 0, gateway.status()["store"]["epoch"]
    for _ in range(5):
        wait_until(lambda: gateway.durable() > seen + 50, "more records")
        seen = gateway.durable()
        gateway.kill()
        gateway.up()
        status = gateway.status()
        expect(status["lanes"][0]["durable"] >= seen, f"after kill -9 at least the {seen} durable records are there")
        expect(status["store"]["epoch"] == epoch, "in the same epoch")
    expect(gateway.terminate() == 0, "and it ends orderly")


def test_the_port_answers_metrics_health_and_status(folder):
    gateway = Gateway(folder).up()
    wait_until(lambda: gateway.durable() > 10, "records")
    code, text = gateway.get("/metrics")
    expect(code == 200 and 'penstock_info{agent="gw-1"' in text and "penstock_lane_backlog_records" in text, "/metrics")
    code, text = gateway.get("/healthz")
    expect(code == 200 and "Kafka away" in text, "/healthz is 200 while Kafka is away, and says so")
    code, text = gateway.get("/api/status")
    expect(code == 200 and json.loads(text)["agent"] == "gw-1", "/api/status")
    expect(gateway.get("/else")[0] == 404, "anything else is 404")
    gateway.terminate()


def test_a_port_in_use_is_told_and_the_agent_runs(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        gateway = Gateway(folder, listen=address).up()
        wait_until(lambda: gateway.durable() > 10, "records")
        expect(f"cannot listen on {address}: Address already in use" in gateway.output(), "the log names the port")
        expect(gateway.status()["http"] == "", "status says that there is none")
        gateway.terminate()


def test_a_state_directory_that_cannot_be_used_is_told_and_ends_with_1(folder):
    (folder / "file").write_text("x")
    gateway = Gateway(folder, state=folder / "file" / "state").start()
    expect(gateway.child.wait(20) == 1, "exit status 1")
    expect(f"state_directory {folder}/file/state: cannot be made: Not a directory" in gateway.output(), "the log says why")


def test_a_bad_configuration_ends_with_78_and_all_its_problems(folder):
    gateway = Gateway(folder, drivers='[drivers.sim]\ntype = "simulatr"\n', extra="[buffre]\n").start()
    expect(gateway.child.wait(20) == 78, "exit status 78")
    output = gateway.output()
    expect("buffre" in output and "simulatr" in output, "both problems are told")
    expect(not gateway.state.exists(), "nothing was made on disk")


def test_a_second_agent_on_the_same_store_is_refused(folder):
    gateway = Gateway(folder).up()
    wait_until(lambda: gateway.durable() > 10, "records")
    second = Process([gateway.program, "run", "-c", str(gateway.config)], folder / "second.log",
                     env=gateway.options["env"]).start()
    expect(second.child.wait(20) == 1, "exit status 1")
    expect("queue" in second.output(), f"the log names the store: {second.output().splitlines()[-1]}")
    before = gateway.durable()
    wait_until(lambda: gateway.durable() > before, "the first one to go on, and to answer on its socket")
    gateway.terminate()


def test_sighup_restarts_what_changed_and_a_bad_file_changes_nothing(folder):
    gateway = Gateway(folder, drivers=SIMULATOR + '[drivers.other]\ntype = "simulator"\nrate = 50\n').up()
    text = gateway.config.read_text()
    driver = lambda name: next((d for d in gateway.status()["drivers"] if d["name"] == name), None)
    wait_until(lambda: driver("sim")["records"] > 50 and driver("other")["records"] > 5, "records of both")

    gateway.config.write_text(text.replace("rate = 200", "rate = -1"))
    gateway.child.send_signal(signal.SIGHUP)
    wait_until(lambda: "nothing changes" in gateway.output(), "the refusal")
    expect("rate" in gateway.output(), "the log says what is wrong")
    kept = driver("sim")["records"]
    expect(kept > 50, "the driver goes on")

    gateway.config.write_text(text.replace("rate = 200", "rate = 100").replace("16MiB", "32MiB"))
    gateway.child.send_signal(signal.SIGHUP)
    wait_until(lambda: driver("sim") and "100 readings/s" in driver("sim")["says"], "the changed driver")
    expect(driver("other")["records"] > 5 and "driver other" not in gateway.output(), "the other one did not notice")
    expect("[buffer] changed" in gateway.output(), "what waits for a restart is named")
    gateway.terminate()


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.heard = []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            self.heard += self.socket.recv(65536).decode().splitlines()


def test_systemd_hears_ready_status_watchdog_and_stopping(folder):
    systemd = Systemd(folder / "notify")
    gateway = Gateway(folder, environment={"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "2000000",
                                           "RUNTIME_DIRECTORY": str(folder / "run")})
    (folder / "run").mkdir()
    gateway.start()
    wait_until(lambda: "READY=1" in systemd.heard, "READY=1", 30)
    expect((folder / "run" / "control.sock").exists(), "the control socket is in systemd's RUNTIME_DIRECTORY")
    wait_until(lambda: systemd.heard.count("WATCHDOG=1") >= 3, "the watchdog to be fed, Kafka away", 30)
    wait_until(lambda: any(line.startswith("STATUS=") and "Kafka away" in line for line in systemd.heard), "STATUS", 30)
    expect(gateway.terminate() == 0, "exit status 0")
    wait_until(lambda: "STOPPING=1" in systemd.heard, "STOPPING=1", 5)


def test_in_the_journal_each_line_has_its_level_and_no_time(folder):
    log = folder / "journal"
    log.write_text("")
    place = os.stat(log)
    gateway = Gateway(folder, environment={"JOURNAL_STREAM": f"{place.st_dev}:{place.st_ino}"})
    gateway.log = log
    gateway.up()
    gateway.terminate()
    lines = log.read_text().splitlines()
    expect(lines and all(line[0] == "<" and line[1] in "2346" and line[2] == ">" for line in lines), f"{lines[0]!r}")


def test_the_unit_is_right_and_strict(folder):
    if not shutil.which("systemd-analyze"):
        return print("  skipped: there is no systemd-analyze")
    unit = pathlib.Path(__file__).resolve().parents[2] / "systemd" / "penstock.service"
    copy = folder / "penstock.service"
    copy.write_text(unit.read_text().replace("/usr/bin/penstock", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60)
    expect(done.returncode == 0 and not done.stderr.strip(), f"systemd-analyze verify has no complaint {done.stderr}")
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=19", str(copy)],
                          capture_output=True, text=True, timeout=60, env={**os.environ, "SYSTEMD_PAGER": ""})
    expect(done.returncode == 0, f"systemd-analyze security is below 2.0: {done.stdout.strip().splitlines()[-1:]}")


if __name__ == "__main__":
    sys.exit(main(globals()))
