"""Queue to Kafka beside bare librdkafka on the same broker (bars: docs/benchmarks.md)."""
import contextlib
import os
import pathlib
import subprocess
import sys

from machine import Failed, Missing, facts, folder_below, say

RIG = pathlib.Path(__file__).resolve().parents[1] / "e2e" / "kafka" / "rig"


@contextlib.contextmanager
def cluster(where):
    """A real broker of the rig: (bootstrap servers, its folder)."""
    folder = pathlib.Path(where) / "kafka"
    say("starting Kafka")
    # A server's own compiler settings: the rig's are for tests, which end before a better compiler pays.
    environment = {**os.environ, "PENSTOCK_KAFKA_JAVA_OPTIONS": os.environ.get("PENSTOCK_KAFKA_JAVA_OPTIONS", "-Xmx768m -XX:+UseSerialGC")}
    done = subprocess.run([sys.executable, RIG, "start", "--owner", str(os.getpid()), "--for", "1800", folder], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=400, env=environment)
    if done.returncode == 77:
        raise Missing(done.stderr.strip())
    if done.returncode != 0:
        raise Failed(f"Kafka did not start: {done.stderr.strip()[-800:]}")
    try:
        yield done.stdout.strip(), folder
    finally:
        subprocess.run([sys.executable, RIG, "stop", folder], capture_output=True, stdin=subprocess.DEVNULL, timeout=100)


def duels(options, table, where, brokers):
    slice_records, rounds = (20_000, 2) if options.smoke else (100_000, max(3, round(options.seconds)))
    for style in ("cloudevents", "compact"):
        say(f"kafka: drain with {style} headers beside bare librdkafka, {rounds} slices of {slice_records:,} records each")
        with folder_below(where, "duel") as folder:
            (duel,) = facts([options.build / "bench_kafka", "duel", brokers, folder, style, slice_records, rounds], 400)
        yield duel
        ours, bare = duel["ours"], duel["bare"]
        table.add("kafka", f"backlog drain, exactly once, {style} headers", ours["records_per_s"], bare["records_per_s"], duel["ratio"]["median"],
                  (">=", 0.5), unit="records/s", note=f"{duel['found']:,} records found by a read_committed reader, as many as were sent")
        ratio = ours["cpu_s_per_million"] / bare["cpu_s_per_million"]
        if style == "compact":
            table.add("kafka", "  CPU per million records, compact", ours["cpu_s_per_million"], bare["cpu_s_per_million"], bar=("<=", 3.0), unit="s")
            table.add("kafka", "  the same beside bare librdkafka", ours["cpu_s_per_million"], bare["cpu_s_per_million"], ratio, ("<=", 1.5), unit="s")
        else:
            table.add("kafka", "  CPU per million records, cloudevents", ours["cpu_s_per_million"], bare["cpu_s_per_million"], ratio, unit="s")


def far(options, table, where):
    records = 40_000 if options.smoke else 300_000
    say(f"kafka: {records:,} records at a round trip of 100 ms, on librdkafka's mock cluster")
    for style, profile in (("cloudevents", "default"), ("cloudevents", "long_way"), ("compact", "default"), ("compact", "long_way")):
        with folder_below(where, "far") as folder:
            (seen,) = facts([options.build / "bench_kafka", "far", folder, style, records, 100, profile], 200)
        yield seen
        ours, bare = seen["ours"]["records_per_s"], seen["bare"]["records_per_s"]
        note = ("librdkafka's mock cluster in the same process: it delays its answers, but neither syncs nor replicates; bare librdkafka with requests of its "
                "default size; long_way: batch_bytes = 16 MiB, batch_records = 100,000") if (style, profile) == ("cloudevents", "default") else None
        table.add("kafka", f"backlog drain at a round trip of 100 ms, {style}, {profile}", ours, bare, ours / bare, unit="records/s", note=note)
        table.judge_ours((">=", 80_000))


def latencies(options, table, where, brokers):
    for profile, count, bars in (("default", 3 if options.smoke else 25, (100, 250)), ("low_latency", 3 if options.smoke else 100, (15, None))):
        say(f"kafka: one record on an idle link, {count} times, {profile} profile")
        with folder_below(where, "latency") as folder:
            (seen,) = facts([options.build / "bench_kafka", "latency", brokers, folder, count, profile], 200)
        yield seen
        name = "one record, idle link, intake to read_committed consumer"
        note = f"{count} records each; " + ("commit_interval = 50 ms, batch_interval = 500 ms" if profile == "default" else "low latency: commit_interval = 1 ms, batch_interval = 1 ms")
        table.add("kafka", f"{name}, {profile}, p50", seen["p50_ms"], bar=("<=", bars[0]), unit="ms", note=note)
        table.add("kafka", f"{name}, {profile}, p99", seen["p99_ms"], bar=("<=", bars[1]) if bars[1] else None, unit="ms")


def run(options, table):
    """Yields the facts; adds the rows."""
    if not (options.build / "bench_kafka").exists():
        raise Failed(f"{options.build / 'bench_kafka'} is not built")
    with folder_below(options.directory, "kafka") as where:
        with cluster(where) as (brokers, _):
            yield from duels(options, table, where, brokers)
            yield from latencies(options, table, where, brokers)
        yield from far(options, table, where)
