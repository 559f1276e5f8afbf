"""What the tests of the daemon share: an agent in a folder of its own, and running each test_... of a file as one claim."""
import json
import os
import pathlib
import sys
import tempfile
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from harness import Failed, Penstock, Process, expect, wait_until  # noqa: E402

__all__ = ["SIMULATOR", "Failed", "Gateway", "Process", "expect", "main", "wait_until"]

SIMULATOR = """
[drivers.sim]
type = "simulator"
rate = 200
"""


class Gateway(Penstock):
    """One agent in a folder of its own."""

    def __init__(self, folder, drivers=SIMULATOR, listen="127.0.0.1:0", state=None, extra="", environment=None,
                 capacity="16MiB", buffer=""):
        self.state = state or folder / "state"
        config = f"""
[agent]
id = "gw-1"
state_directory = "{self.state}"
[buffer]
capacity = "{capacity}"
{buffer}
[kafka]
brokers = ["127.0.0.1:9"]
[http]
listen = "{listen}"
{extra}{drivers}"""
        super().__init__(folder, config)
        self.options["env"] = {**{k: v for k, v in os.environ.items() if not k.startswith("NOTIFY_")
                                  and k not in ("JOURNAL_STREAM", "RUNTIME_DIRECTORY", "WATCHDOG_USEC")},
                               **(environment or {})}

    def up(self):
        self.start()
        wait_until(lambda: self.status() or not self.alive(), "the agent to answer", 30)
        if not self.alive():
            raise Failed(f"the agent ended:\n{self.output()}")
        return self

    def status(self):
        done = self.call("status", "--json", "-c", str(self.config), seconds=30)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def durable(self):
        status = self.status()
        return status["lanes"][0]["durable"] if status else 0

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.status()['http']}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()


def main(tests):
    """Runs what is named test_... and contains a word of the command line; the exit status."""
    wanted = sys.argv[1:]
    failed = []
    for name, test in list(tests.items()):
        if not name.startswith("test_") or (wanted and not any(part in name for part in wanted)):
            continue
        print(name[5:].replace("_", " "), flush=True)
        with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
            made = []
            keep = Process.start

            def start(self):
                made.append(self)
                return keep(self)
            Process.start = start
            try:
                test(pathlib.Path(folder))
            except Exception as problem:  # a test's own mistakes too: what it started must end
                failed.append(name)
                print(f"  FAILED: {type(problem).__name__}: {problem}")
                for process in made:
                    print("    " + "\n    ".join(process.output().splitlines()[-15:]))
            finally:
                Process.start = keep
                for process in made:
                    process.kill()
    print(f"{len(failed)} failed" if failed else "all hold")
    return 1 if failed else 0
