#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up test logs and closes with one line, "N passed, N failed".

    tally.py LOG...

A log is what meson writes, testlog.json: one JSON object a line. A program of Check's
counts with each of its tests; when it fails beyond what it says itself (a crash, a time
limit, a sanitizer), that is one failure more. Anything else counts as one. Skipped
tests are shown and not counted. A log that cannot be read is a failure."""
import json
import pathlib
import re
import sys

CHECK = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", re.M)


def count(test):
    """(passed, failed) of one object."""
    good = test["result"] in ("OK", "EXPECTEDFAIL")
    lines = [[int(n) for n in line] for line in CHECK.findall(test.get("stdout") or "")]
    if not lines:
        return int(good), int(not good)
    passed = sum(checks - failures - errors for checks, failures, errors in lines)
    failed = sum(failures + errors for _, failures, errors in lines)
    return passed, max(failed, int(not good))


def read(path):
    try:
        tests = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        return [{"name": f"log not readable: {error}", "result": "ERROR"}]
    return tests or [{"name": "log is empty", "result": "ERROR"}]


def main(paths):
    total = [0, 0]
    for path in map(pathlib.Path, paths):
        sums, notes = [0, 0], []
        for test in read(path):
            name = test["name"].rpartition(":")[2].strip()
            if test["result"] == "SKIP":
                notes.append(f"  skipped: {name}")
                continue
            passed, failed = count(test)
            sums = [sums[0] + passed, sums[1] + failed]
            if failed:
                notes.append(f"  FAILED: {name} ({failed} of {passed + failed}, "
                             f"{test['result']})")
        print(f"{path.stem}: {sums[0]} passed, {sums[1]} failed", *notes, sep="\n")
        total = [total[0] + sums[0], total[1] + sums[1]]
    print(f"{total[0]} passed, {total[1]} failed")
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
