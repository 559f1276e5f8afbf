"""The store beside the plain logs (bars of the store: docs/benchmarks.md)."""
from machine import folder_below, own_device, facts, say, Failed

GROUPS = (1, 10, 100, 1000)
NOT_YET = "the store does not pre-write its file yet: the bench did it in its place"


def duels(options, table, where):
    for group in GROUPS:
        say(f"store: {group} records a commit, beside a pre-written and a growing log, {options.seconds:g} s")
        with folder_below(where, "duel") as folder:
            (duel,) = facts([options.build / "bench_store", "duel", folder, group, options.seconds], 60 + 4 * options.seconds)
        yield duel
        store = duel["store"]
        records = "record" if group == 1 else "records"
        table.add("store", f"durable commits/s, {group} {records} each, beside a pre-written log", store["commits_per_s"],
                  duel["prewritten"]["commits_per_s"], duel["to_prewritten"]["median"], (">=", 0.75) if group in (10, 100) else None,
                  note="" if duel["prewritten_by"] == "store" else NOT_YET)
        table.add("store", f"  the same beside a growing log + fdatasync", store["commits_per_s"],
                  duel["growing"]["commits_per_s"], duel["to_growing"]["median"], (">=", 1.5) if group <= 100 else None)
        table.add("store", "  the same in records/s", store["records_per_s"], duel["prewritten"]["records_per_s"])
        table.add("store", "  CPU per record", store["cpu_us_per_record"], duel["prewritten"]["cpu_us_per_record"],
                  store["cpu_us_per_record"] / max(duel["prewritten"]["cpu_us_per_record"], 1e-9), unit="us")


def counted(options, table, where, own, note):
    commits = 200 if options.smoke else 400
    for group in ((100,) if options.smoke else (1, 10, 100)):
        seen = {}
        for who in ("prewritten", "growing", "healthy", "outage", "fresh"):
            say(f"store: device bytes and flushes, {group} records a commit, {who}")
            with folder_below(where, "counts") as folder:
                (seen[who],) = facts([options.build / "bench_store", "counts", folder, group, commits, who], 120)
            yield seen[who]
            if own and seen[who]["flushes_per_commit"] < 0.99:
                raise Failed(f"{who}: {seen[who]['flushes_per_commit']} flushes a commit: what was measured is not durable")
        limit = seen["prewritten"]
        if limit["device_bytes_per_commit"] <= 0:
            say("store: no block device below the folder: bytes and flushes cannot be counted")
            return
        for who, bar in (("healthy", 0.36), ("outage", 0.70)):
            table.add("store", f"device bytes per payload byte, {group} a commit, {who}", seen[who]["device_bytes_per_payload"],
                      limit["device_bytes_per_payload"], seen[who]["device_bytes_per_payload"] / limit["device_bytes_per_payload"],
                      note=note)
            if group == 100:  # the bar is absolute
                table.judge_ours(("<=", bar))
        table.add("store", f"  a growing log, {group} a commit", seen["growing"]["device_bytes_per_payload"],
                  limit["device_bytes_per_payload"], seen["growing"]["device_bytes_per_payload"] / limit["device_bytes_per_payload"])
        table.add("store", f"device flushes per commit, {group} a commit, healthy", seen["healthy"]["flushes_per_commit"],
                  limit["flushes_per_commit"], note=note)
        table.judge_ours(("<=", 1.05))
        table.add("store", f"  an outage before pre-writing is done, {group} a commit", seen["fresh"]["flushes_per_commit"],
                  seen["growing"]["flushes_per_commit"], note="limit: a growing log")


def backlogs(options, table, where, note):
    sizes = [(100_000, 100)] if options.smoke else [(1_000_000, 100)] + ([(10_000_000, 1000)] if options.long else [])
    opened = {}
    for records, group in sizes:
        say(f"store: a backlog of {records:,} records: stored, opened, drained")
        with folder_below(where, "backlog") as folder:
            (seen,) = facts([options.build / "bench_store", "backlog", folder, records, group], 300)
        yield seen
        opened[records] = seen["open_ms"]
        name = f"{records / 1e6:g} M records"
        table.add("store", f"stored bytes per payload byte, {name}, {group} a commit", seen["stored_per_payload"], bar=("<=", 0.30))
        if seen["before"]["device_bytes_per_commit"] > 0:
            table.add("store", f"device bytes per commit after a drained backlog of {name}, beside before",
                      seen["after_drain"]["device_bytes_per_commit"], seen["before"]["device_bytes_per_commit"],
                      seen["after_drain"]["device_bytes_per_commit"] / seen["before"]["device_bytes_per_commit"], ("<=", 1.1), note=note)
        table.add("store", f"open with a backlog of {name}, cold cache", seen["open_ms"], bar=("<=", 20), unit="ms")
        table.add("store", f"  read and decoded, {name}", seen["drain"]["records_per_s"], unit="records/s")
        table.add("store", f"  CPU per record: stored at {group} a commit / read", seen["fill"]["cpu_us_per_record"], unit="us",
                  limit=f"read {seen['drain']['cpu_us_per_record']:.3g}")
    if len(opened) > 1:
        few, many = min(opened), max(opened)
        table.add("store", "open with 10 M beside 1 M", opened[many], opened[few], opened[many] / opened[few], ("<=", 2), unit="ms")


def steady(options, table, where):
    records = 200_000 if options.smoke else 2_000_000 if options.long else 600_000
    say(f"store: {records:,} steady records")
    with folder_below(where, "steady") as folder:
        (seen,) = facts([options.build / "bench_store", "steady", folder, records], 300)
    yield seen
    table.add("store", f"file beside live data after {records / 1e6:g} M steady records, MiB", seen["file_bytes"] / 2**20,
              seen["live_bytes"] / 2**20, seen["ratio"], ("<=", 1.05))


def run(options, table):
    """Yields the facts; adds the rows."""
    if not (options.build / "bench_store").exists():
        raise Failed(f"{options.build / 'bench_store'} is not built")
    with folder_below(options.directory, "store") as where:
        yield from duels(options, table, where)
        with own_device(where) as device:
            note = "" if device else "counted on the device of the folder, other traffic of the machine included"
            if not device:
                say(f"store: no loop device to be had: counts include other traffic")
            yield from counted(options, table, device or where, bool(device), note)
            yield from backlogs(options, table, device or where, note)
        yield from steady(options, table, where)
