#!/usr/bin/env python3
"""Runs the samples with the reporter `unity` and reads its output as Unity's own readers do.

usage: reporter_test.py SAMPLES_BINARY SAMPLES_SOURCE
"""
import os
import re
import subprocess
import sys

# The line of one test, as published by readers of Unity's output: no colon in file or name, no blank in a name.
LINE = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+):(?P<name>[^\s:]+):(?P<status>PASS|FAIL|IGNORE)(: (?P<message>.+))?$")
TOTALS = re.compile(r"^(\d+) Tests (\d+) Failures (\d+) Ignored ?$")


def parse(text):
    lines = text.split("\n")
    assert lines[-1] == "", "the output does not end with a line's end"
    lines = lines[:-1]
    assert len(lines) >= 4, "too short: %r" % text
    assert lines[-1] in ("OK", "FAIL"), "the last line is neither OK nor FAIL: %r" % lines[-1]
    totals = TOTALS.match(lines[-2])
    assert totals, "not a line of totals: %r" % lines[-2]
    assert lines[-3] == "-----------------------", "not the breaker: %r" % lines[-3]
    assert lines[-4] == "", "no empty line before the breaker: %r" % lines[-4]
    tests = {}
    for line in lines[:-4]:
        match = LINE.match(line)
        assert match, "not a line of a test: %r" % line
        assert match["name"] not in tests, "reported twice: %s" % match["name"]
        tests[match["name"]] = match
    return tests, tuple(int(n) for n in totals.groups()), lines[-1]


def run(binary, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    done = subprocess.run([binary, "-r", "unity", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment, timeout=60, text=True)
    return done.returncode, parse(done.stdout)


def main():
    binary, source = sys.argv[1], sys.argv[2]
    with open(source, encoding="utf-8") as file:
        text = file.read().split("\n")

    def line_of(part):
        found = [number for number, line in enumerate(text, 1) if part in line]
        assert len(found) == 1, part
        return found[0]

    status, (tests, totals, verdict) = run(binary)
    assert status != 0 and verdict == "FAIL", (status, verdict)
    assert totals == (7, 3, 1), totals
    expected = {
        "a_case_that_passes": ("PASS", line_of('"a case that passes"'), None),
        "a_name_with_a_colon_quotes_and_a_slash": ("PASS", line_of("a name: with"), None),
        "a_case_that_fails_twice_is_reported_at_the_first_failure": ("FAIL", line_of("measured == 4"), "3 == 4"),
        "a_message_over_two_lines_stays_one_line": ("FAIL", line_of("first\\nsecond"), "first second"),
        "an_exception_is_a_failure": ("FAIL", line_of('"an exception is a failure"'), "the disk is gone"),
        "a_case_that_cannot_run_here": ("IGNORE", line_of('"a case that cannot run here"'), "there is no such device"),
        "a_case_with_sections_is_one_test": ("PASS", line_of('"a case with sections'), None),
    }
    assert set(tests) == set(expected), set(tests) ^ set(expected)
    for name, (outcome, line, message) in expected.items():
        got = tests[name]
        assert got["status"] == outcome, (name, got.group())
        assert int(got["line"]) == line, (name, got.group(), line)
        assert os.path.basename(got["file"]) == os.path.basename(source), got.group()
        assert (message is None) == (got["message"] is None), got.group()
        assert message is None or message in got["message"], got.group()

    status, (tests, totals, verdict) = run(binary, "a case that passes")
    assert (status, len(tests), totals, verdict) == (0, 1, (1, 0, 0), "OK"), (status, totals, verdict)
    print("the reporter's output reads as Unity's does")


main()
