#!/usr/bin/env python3
"""`penstock queue` and `penstock import`, with the agent running and stopped. Each function named test_... is one claim.

The agent's own records go to the lane that is served last, so lane `data` holds exactly what a test imports.
"""
import base64
import json
import os
import pathlib
import random
import re
import signal
import struct
import subprocess
import sys

from gateway import SIMULATOR, Gateway, expect, main, wait_until

LANES = """
[lanes.data]
priority = 0
[lanes.own]
priority = 1
"""
ROWS = 30_000  # about a second of importing


def quiet_gateway(folder, **options):
    return Gateway(folder, drivers=SIMULATOR + 'lane = "own"\n', listen="off", extra=LANES, **options)


class Queue:
    """The commands, of one gateway."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.program, self.place = gateway.program, ["-c", str(gateway.config)]

    def call(self, *arguments, status=0):
        done = self.gateway.call(*arguments, *self.place)
        if done.returncode != status:
            raise AssertionError(f"{arguments}: status {done.returncode}, not {status}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def start(self, *arguments, **options):
        return subprocess.Popen([self.program, *arguments, *self.place], text=True, stdin=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, **options)

    def lane(self, name="data"):
        lanes = json.loads(self.call("queue", "list", "--json").stdout)["lanes"]
        return next(lane for lane in lanes if lane["name"] == name)

    def exported(self, lane="data"):
        return [json.loads(line) for line in self.call("queue", "export", "--lane", lane).stdout.splitlines()]

    def payloads(self):
        return [json.loads(record["payload"]) for record in self.exported()]


def write_csv(path, rows=ROWS):
    with open(path, "w") as file:
        file.write("time,n,text\r\n")
        for n in range(rows):
            file.write(f'{1777896000 + n},{n},"row {n}, ""quoted""\n of two lines"\r\n')
    return path


def expect_each_once(queue, rows, what):
    numbers = [payload["n"] for payload in queue.payloads()]
    doubled = len(numbers) - len(set(numbers))
    missing = sorted(set(range(rows)) - set(numbers))[:5]
    expect(numbers == list(range(rows)),
           f"{what}: {len(numbers)} of {rows} rows, {doubled} twice, first missing {missing}, each once and in order")


def test_list_peek_export_and_check_say_the_same_of_a_running_and_of_a_stopped_agent(folder):
    gateway = quiet_gateway(folder)
    queue = Queue(gateway)
    nothing = queue.call("queue", "list", status=1)
    expect("there is no queue in" in nothing.stderr and not gateway.state.exists(), "no queue: told, and none is made")
    write_csv(folder / "a.csv", 3000)
    queue.call("import", str(folder / "a.csv"), "--lane", "data", "--time-column", "time")

    def look():
        listed = queue.lane()
        peeked = queue.call("queue", "peek", "--lane", "data", "--from", "17", "--count", "2").stdout
        return listed, peeked, queue.exported(), queue.call("queue", "check", "--lane", "data").stdout

    stopped = look()
    gateway.up()
    running = look()
    expect(gateway.terminate() == 0, "the agent ends orderly")
    expect(stopped == running, "the same answers both ways")
    listed, peeked, records, checked = running
    expect(listed["waiting"] == 3000 and listed["oldest"] == {"sequence": 1, "time": "2026-05-04T12:00:00.000000Z"}
           and listed["newest"]["sequence"] == 3000, f"list: {listed}")
    expect(peeked.splitlines() == [
        "data 17  2026-05-04T12:00:16.000000Z  a  application/json",
        '  {"time":1777896016,"n":16,"text":"row 16, \\"quoted\\"\\u000a of two lines"}',
        "data 18  2026-05-04T12:00:17.000000Z  a  application/json",
        '  {"time":1777896017,"n":17,"text":"row 17, \\"quoted\\"\\u000a of two lines"}'], f"peek: {peeked}")
    expect([record["sequence"] for record in records] == list(range(1, 3001)), "export: every record, in order")
    expect(checked.startswith("data: 3000 records read") and "the check holds" in checked, f"check: {checked}")
    some = queue.call("queue", "export", "--lane", "data", "--from", "10", "--to", "12", "-o", str(folder / "some")).stderr
    expect(some == "3 records exported\n" and len((folder / "some").read_text().splitlines()) == 3, "a range, into a file")
    queue.call("queue", "peek", "--lane", "none", status=1)
    expect("disk " in queue.call("queue", "list").stdout, "list in words")


def test_what_was_exported_can_be_imported_and_is_the_same(folder):
    rng = random.Random(1)
    originals = []
    for n in range(500):
        record = {"penstock": 1, "driver": f"plant-{n % 3}", "stream": f"boiler/{n % 7}", "lane": "data",
                  "kind": ["reading", "message", "event"][n % 3], "quality": ["good", "uncertain", "bad"][n % 5 % 3],
                  "time": f"2026-05-04T12:{n % 60:02}:00.{n:06}Z"}
        if n % 2:
            record["key"] = f"key {n}"
            record["content_type"] = "text/plain"
            record["headers"] = [{"name": "a", "value": "\u00e4 \"\\"}, {"name": "a", "value": ""}]
        if n % 5 == 0:
            record["payload_base64"] = base64.b64encode(rng.randbytes(n)).decode()
        else:
            record["payload"] = "line\nline\ttab \u20ac" * (n % 4)
        originals.append(record)
    originals[10]["payload_base64"] = base64.b64encode(bytes(200_000)).decode()  # of many pages
    (folder / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in originals))

    def essence(record):
        payload = base64.b64decode(record["payload_base64"]) if "payload_base64" in record else record["payload"].encode()
        return [payload, *(record.get(name) for name in ("driver", "stream", "key", "kind", "quality", "time",
                                                         "content_type", "headers", "lane"))]

    first = Queue(quiet_gateway(folder))
    first.call("import", str(folder / "in.jsonl"))
    first.call("queue", "export", "--lane", "data", "-o", str(folder / "out.jsonl"))
    (folder / "second").mkdir()
    gateway = quiet_gateway(folder / "second").up()
    second = Queue(gateway)
    second.call("import", str(folder / "out.jsonl"))
    again = second.exported()
    gateway.terminate()
    for n, (original, record) in enumerate(zip(originals, again)):
        if essence(original) != essence(record):
            raise AssertionError(f"record {n}: {original} became {record}")
    expect(len(again) == 500, "500 of 500 the same after export and import, through a stopped and a running agent")


def test_rows_that_cannot_be_read_are_told_and_nothing_is_lost_silently(folder):
    queue = Queue(quiet_gateway(folder))
    path = folder / "bad.csv"
    path.write_text('time,n\n1777896000,0\n1777896001,1\nyesterday,2\n1777896003,3,extra\n1777896004,4\n')
    arguments = ("import", str(path), "--lane", "data", "--time-column", "time")
    done = queue.call(*arguments, "--dry-run", status=1)
    expect("3 records" in done.stdout and "2 bad ones; nothing was stored" in done.stdout and not queue.gateway.state.exists(),
           "a dry run reads all and stores nothing")
    done = queue.call(*arguments, status=1)
    expect(f'{path}:4: "yesterday" is not a time' in done.stderr, "it stops at the first one, and says where and why")
    expect([p["n"] for p in queue.payloads()] == [0, 1], "what came before is in the queue")
    done = queue.call(*arguments, "--skip-bad")
    expect(f"{path}:5: 3 fields, the header names 2 columns" in done.stderr and "2 bad ones skipped" in done.stdout,
           f"--skip-bad goes on, and tells of each: {done.stdout}")
    expect([p["n"] for p in queue.payloads()] == [0, 1, 4], "no row twice")
    done = queue.call(*arguments)
    expect("0 records imported after 3 earlier" in done.stdout, "again: nothing new")
    with open(path, "a") as file:
        file.write("1777896005,5\n")
    expect("1 records imported after 3 earlier" in queue.call(*arguments).stdout, "what was appended since is new")
    expect("4 records" in queue.call(*arguments, "--again", "--skip-bad").stdout, "--again begins at the beginning")
    expect([p["n"] for p in queue.payloads()] == [0, 1, 4, 5, 0, 1, 4, 5], "and stores all of it once more")


def test_lines_of_json_become_payloads_with_the_fields_that_are_named(folder):
    gateway = quiet_gateway(folder).up()
    queue = Queue(gateway)
    path = folder / "log.ndjson"
    lines = ['{"at": {"t": "2026-05-04 12:00:00"}, "sensor": "roof", "v": 1.50}', '', '{"at": {"t": 1777896001.5}, "sensor": "yard"}']
    path.write_text("\r\n".join(lines))
    queue.call("import", str(path), "--lane", "data", "--time-field", "/at/t", "--utc", "--stream-field", "sensor", "--driver", "old")
    records = queue.exported()
    gateway.terminate()
    expect([(r["time"], r["stream"], r["driver"], r["payload"]) for r in records] ==
           [("2026-05-04T12:00:00.000000Z", "roof", "old", lines[0]), ("2026-05-04T12:00:01.500000Z", "yard", "old", lines[2])],
           "time, stream and driver as named, the payload untouched")


def kill_until_whole(queue, path, rng, between=lambda: None):
    """Starts the import again and again, and kills it at random instants of its work, until it ends by itself."""
    kills = 0
    while True:
        child = queue.start("import", str(path), "--lane", "data", "--time-column", "time", "--progress", stdout=subprocess.PIPE)
        child.stderr.readline()  # the first rows are on disk, or it has ended
        try:
            out, _ = child.communicate(timeout=rng.uniform(0, 0.08) if kills < 6 else 120)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            kills += 1
            between()
            continue
        earlier = re.search(r"imported after (\d+) earlier", out)
        expect(child.returncode == 0 and kills >= 2 and earlier, f"after {kills} kills at its work it ends with 0: {out.strip()}")
        return


def test_an_import_into_a_stopped_agents_store_that_is_killed_stores_each_row_once(folder):
    queue = Queue(quiet_gateway(folder))
    kill_until_whole(queue, write_csv(folder / "a.csv"), random.Random(2))
    expect_each_once(queue, ROWS, "stopped agent")


def test_an_import_through_the_agent_stores_each_row_once_whoever_of_both_is_killed(folder):
    gateway = quiet_gateway(folder).up()
    queue = Queue(gateway)
    turns = iter(range(100))

    def agent_too():
        if next(turns) % 2:
            gateway.kill()
            gateway.up()

    kill_until_whole(queue, write_csv(folder / "a.csv"), random.Random(3), agent_too)
    expect_each_once(queue, ROWS, "running agent")

    # The agent goes while the client asks: the client ends with 1, and the next one goes on.
    child = queue.start("import", str(write_csv(folder / "b.csv")), "--lane", "data", stdout=subprocess.PIPE)
    wait_until(lambda: queue.lane()["durable"] > ROWS + 4000, "some rows of b.csv")
    gateway.kill()
    out, err = child.communicate(timeout=60)
    expect(child.returncode == 1 and "goes on from here" in out, f"the agent killed: status 1, and why: {err.strip()}")
    gateway.up()
    queue.call("import", str(folder / "b.csv"), "--lane", "data")
    expect([p["n"] for p in queue.payloads()] == 2 * list(range(ROWS)), "each row of both files once")
    gateway.terminate()


def test_ctrl_c_ends_an_import_with_its_position_and_an_export_with_whole_lines(folder):
    queue = Queue(quiet_gateway(folder))
    child = queue.start("import", str(write_csv(folder / "a.csv")), "--lane", "data", "--progress", stdout=subprocess.PIPE)
    child.stderr.readline()  # it reports progress: it is at work
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    expect(child.returncode == 1 and "interrupted: the same command goes on from here" in out, f"import: {out.strip()}")
    queue.call("import", str(folder / "a.csv"), "--lane", "data")
    expect_each_once(queue, ROWS, "after the interruption")

    child = queue.start("queue", "export", "--lane", "data", stdout=subprocess.PIPE)
    first = child.stdout.readline()
    child.send_signal(signal.SIGINT)
    rest, err = child.stdout.read(), child.stderr.read()  # not communicate(): it forgets what readline() has read ahead
    child.wait(60)
    lines = (first + rest).splitlines()
    numbers = [json.loads(json.loads(line)["payload"])["n"] for line in lines]
    expect(child.returncode == 1 and "interrupted" in err, f"export: {err.strip()}")
    expect(numbers == list(range(len(numbers))) and 0 < len(numbers) < ROWS, f"{len(numbers)} whole lines, in order")


def test_an_import_waits_for_room_and_gives_nothing_up(folder):
    gateway = quiet_gateway(folder)
    queue = Queue(gateway)
    rng = random.Random(4)
    with open(folder / "large.jsonl", "w") as file:
        for n in range(6000):
            file.write(json.dumps({"n": n, "noise": base64.b64encode(rng.randbytes(4000)).decode()}) + "\n")
    done = queue.call("import", str(folder / "large.jsonl"), "--lane", "data", status=1)
    expect("the queue is full but for" in done.stderr and "no agent runs" in done.stderr, f"stopped: {done.stderr.strip()}")
    stored = len(queue.payloads())
    expect(0 < stored < 6000, f"{stored} rows found room")

    gateway.up()
    child = queue.start("import", str(folder / "large.jsonl"), "--lane", "data", stdout=subprocess.PIPE)
    line = child.stderr.readline()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    expect(line.startswith("waiting: the queue is full") and child.returncode == 1, f"running: {line.strip()}")
    status = gateway.status()["store"]
    expect(not any(status["given_up"].values()) and status["ledger_entries"] == 0, "nothing was given up for it")
    gateway.terminate()
    expect([p["n"] for p in queue.payloads()] == list(range(stored)), "and no row is there twice")


def test_check_finds_what_is_damaged_and_ends_with_2(folder):
    queue = Queue(quiet_gateway(folder))
    queue.call("import", str(write_csv(folder / "a.csv", 20_000)), "--lane", "data")
    data = queue.gateway.state / "queue" / "data.mdb"
    content = bytearray(data.read_bytes())
    hurt = None
    for found in re.finditer(b"PSBK", bytes(content)):
        first, last = struct.unpack_from("<QQ", content, found.start() + 88)
        if first <= 9000 <= last:
            hurt = (first, last)
            content[found.start() + 200] ^= 0x10
    expect(hurt is not None, "a block with record 9000 is in the file")
    data.write_bytes(content)
    done = queue.call("queue", "check", "--lane", "data", status=2)
    expect(f"missing: {hurt[0]}-{hurt[1]}\n" in done.stdout and "does not hold" in done.stdout, f"check: {done.stdout}")
    gone = hurt[1] - hurt[0] + 1
    expect(f"data: {20_000 - gone} records read" in done.stdout and f"{gone} missing" in done.stdout, "and counts them")
    expect(len(queue.exported()) == 20_000 - gone, "the others can still be exported")


def make_dead_letters(queue, *sequences):
    """Of lane `data`, as the forwarder would; the agent does not run."""
    program = os.environ.get("SET_ASIDE") or str(pathlib.Path(queue.program).parent / "set_aside")
    done = subprocess.run([program, str(queue.gateway.state / "queue"), "gw-1", str(16 << 20), "data", "too large",
                           *map(str, sequences)], capture_output=True, text=True)
    expect(done.returncode == 0, f"{sequences} are set aside: {done.stderr}")


def test_dead_letters_are_listed_retried_and_discarded_whether_the_agent_runs_or_not(folder):
    queue = Queue(quiet_gateway(folder))
    rows = [json.dumps({"n": n, "text": "x" * (9000 if n == 3 else 10)}) for n in range(10)]
    (folder / "a.jsonl").write_text("\n".join(rows) + "\n")
    queue.call("import", str(folder / "a.jsonl"), "--lane", "data")
    make_dead_letters(queue, 2, 4, 5, 7)

    def listed():
        return [json.loads(line) for line in queue.call("queue", "dead-letters", "--json").stdout.splitlines()]

    def names():
        return [letter["id"] for letter in listed()]

    letters = listed()
    expect([letter["record"]["sequence"] for letter in letters] == [2, 4, 5, 7], f"four are listed: {letters}")
    expect(letters[0]["reason"] == "too large" and letters[0]["lane"] == "data", f"with reason and lane: {letters[0]}")
    expect(json.loads(letters[1]["record"]["payload"])["n"] == 3, f"with the record: {letters[1]['id']}")
    expect("too large" in queue.call("queue", "dead-letters", "--lane", "data").stdout, "people can read it too")
    expect(queue.call("queue", "dead-letters", "--lane", "own").stdout == "", "another lane has none")
    expect("there is no lane" in queue.call("queue", "dead-letters", "--lane", "dta", status=1).stderr, "one there is not")
    expect([p["n"] for p in queue.payloads()] == [0, 2, 5, 7, 8, 9], "none of them waits any more")
    queue.call("queue", "check", "--lane", "data")

    first = names()[0]
    done = queue.call("queue", "dead-letters", "--retry", first)
    expect(done.stdout == "1 retried\n", f"retried without an agent: {done.stdout}")
    again = queue.exported()[-1]
    expect(again["headers"] == [{"name": "ce_retryof", "value": first}], f"it says which record it was: {again}")

    gateway = queue.gateway.up()
    expect(gateway.status()["store"]["dead_letters"] == 3, f"status counts them: {gateway.status()['store']}")
    expect(names() == [letter["id"] for letter in letters[1:]], "the running agent lists the same")
    second = names()[0]
    done = queue.call("queue", "dead-letters", "--discard", second)
    expect(done.stdout == "1 discarded\n", f"discarded by the agent: {done.stdout}")
    done = queue.call("queue", "dead-letters", "--discard", second, status=1)
    expect(f"there is no dead letter {second}" in done.stderr, f"a second time: {done.stderr}")
    expect(gateway.status()["store"]["given_up"].get("discarded") == 1, f"and told: {gateway.status()['store']}")
    done = queue.call("queue", "dead-letters", "--retry-all")
    expect(done.stdout == "2 retried\n" and names() == [], f"the rest retried by the agent: {done.stdout}")
    expect([p["n"] for p in queue.payloads()] == [0, 2, 5, 7, 8, 9, 1, 4, 6], f"as new records: {queue.payloads()}")
    gateway.terminate()
    expect([p["n"] for p in queue.payloads()] == [0, 2, 5, 7, 8, 9, 1, 4, 6], "and they are there when it has ended")
    queue.call("queue", "dead-letters", "--retry", first, "--retry-all", status=64)


def test_repair_examines_the_store_of_a_stopped_agent_and_mends_it(folder):
    queue = Queue(quiet_gateway(folder))
    expect("there is no queue" in queue.call("queue", "repair", status=1).stderr, "nothing to repair: told")
    expect(not queue.gateway.state.exists(), "and nothing is made")
    queue.call("import", str(write_csv(folder / "a.csv", 3000)), "--lane", "data")
    whole = queue.call("queue", "repair")
    expect("nothing is wrong" in whole.stdout, f"a whole store: {whole.stdout}")
    expect(len(queue.payloads()) == 3000, "and it is as it was")
    gateway = queue.gateway.up()
    expect("stop it first" in queue.call("queue", "repair", status=1).stderr, "not while the agent runs")
    expect(not (gateway.state / "queue" / "suspect").exists(), "and it leaves no mark")
    gateway.terminate()
    data = gateway.state / "queue" / "data.mdb"
    content = bytearray(data.read_bytes())
    roots = [(struct.unpack_from("<Q", content, at + 16 + 24 + 2 * 48 + 8)[0],
              struct.unpack_from("<Q", content, at + 16 + 24 + 48 + 40)[0]) for at in (0, 4096)]
    root = max(roots)[1]  # of the newest snapshot: everything hangs from it
    content[root * 4096:(root + 1) * 4096] = bytes(4096)
    data.write_bytes(content)
    mended = queue.call("queue", "repair")
    expect("has been salvaged" in mended.stdout and " 0 lost" in mended.stdout, f"a damaged one: {mended.stdout}")
    expect_each_once(queue, 3000, "after the repair")
    data.write_bytes(b"x" * 20_000)
    (gateway.state / "queue" / "journal").write_bytes(b"j" * 65_536)
    expect("nothing of it could be kept" in queue.call("queue", "repair", status=1).stdout, "a hopeless one: status 1")
    expect((gateway.state / "queue" / "damaged.journal").exists(), "its journal is kept aside")


def test_wrong_command_lines_and_configurations_have_their_statuses(folder):
    queue = Queue(quiet_gateway(folder))
    for wrong in (["queue"], ["queue", "lst"], ["import"], ["import", "x.csv", "--format", "xml"], ["import", "x.csv", "--driver", "a b"],
                  ["import", "x.csv", "--separator", "ab"], ["queue", "peek", "--count", "many"]):
        done = queue.gateway.call(*wrong)
        expect(done.returncode == 64 and done.stderr and not done.stdout, f"{' '.join(wrong)}: 64")
    for right in (["queue", "--help"], ["queue", "export", "--help"], ["import", "--help"]):
        done = queue.gateway.call(*right)
        expect(done.returncode == 0 and "Usage:" in done.stdout, f"{' '.join(right)}: 0")
    done = queue.gateway.call("queue", "list", "-c", str(folder / "none.toml"))
    expect(done.returncode == 78 and "cannot be read" in done.stderr, "no configuration: 78")
    done = queue.gateway.call("queue", "list", "--socket", str(folder / "none"))
    expect(done.returncode == 1 and "no agent answers at" in done.stderr, "nobody at the socket: 1")
    done = queue.call("import", str(folder / "none.csv"), status=1)
    expect(f"{folder}/none.csv: No such file or directory" in done.stderr, "no such file: 1")


if __name__ == "__main__":
    sys.exit(main(globals()))
