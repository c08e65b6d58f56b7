#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stops and kills a small training run and starts it again: the end is the same, bit for
bit, and no checkpoint is ever half.

    kill_resume.py TRAINER [--kills 15] [--seed N] [--folder DIR]

TRAINER  checkpoint_trainer
--kills  how often kill -9 strikes at a random moment; 200 takes about a minute
--folder where the checkpoints go, twice by default: memory and a disk"""
import argparse
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

STEPS, EVERY, KEEP = 24, 3, 2
TEMPORARY = re.compile(r"\.step-\d{8}\.saving-\d+-\d+")


def fail(text):
    sys.exit(f"kill_resume: {text}")


def command(trainer, folder, *options):
    return [trainer, str(folder), *map(str, options)]


def output(trainer, folder, *options):
    done = subprocess.run(command(trainer, folder, *options), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        fail(f"exit status {done.returncode}: {done.stdout}")
    return done.stdout


def find(pattern, text):
    found = re.findall(pattern, text)
    return found[-1] if found else None


def digest(text):
    return find(r"digest (\w+)", text)


def check_resume(trainer, home):
    """Straight with several numbers of threads, and stopped after any step."""
    for dtype in "float32", "bfloat16":
        folder, digests = home / "run", set()
        for threads in 1, 2, 7:
            text = output(trainer, folder, "--threads", threads, "--every", 1000, "--dtype",
                          dtype)
            digests.add(digest(text))
            if int(find(r"rewritten (\d+)", text)) < 3:
                fail(f"{dtype}: the run rewrites too little to tell: {text}")
            shutil.rmtree(folder)
        if len(digests) != 1:
            fail(f"{dtype}: threads give {digests}")
        for stop in range(1, STEPS + 1):
            options = "--dtype", dtype, "--every", EVERY, "--keep", KEEP
            output(trainer, folder, *options, "--stop", stop, "--threads", 1 + stop % 2)
            again = output(trainer, folder, *options, "--threads", (1, 2, 7)[stop % 3])
            start = STEPS if stop == STEPS else stop - stop % EVERY
            if int(find(r"start (\d+)", again)) != start:
                fail(f"{dtype}: stopped at {stop}, went on from {again}")
            if digest(again) not in digests:
                fail(f"{dtype}: stopped at {stop}: {digest(again)}, straight {digests}")
            shutil.rmtree(folder)
        print(f"{dtype}: {digests.pop()} with 1, 2, 7 threads, stopped after any of "
              f"{STEPS} steps")


def entries(folder):
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return ([n for n in names if re.fullmatch(r"step-\d{8}", n)],
            [n for n in names if TEMPORARY.fullmatch(n)], names)


def check_entries(folder, over):
    """What may lie there: `over` is what a crash may leave beyond it."""
    whole, temporary, names = entries(folder)
    if len(names) != len(whole) + len(temporary) or len(whole) > KEEP + over \
            or len(temporary) > over:
        fail(f"{folder} holds {sorted(names)}")


def strike(trainer, folder, wait):
    """Run and kill after `wait` seconds; what it said."""
    run = subprocess.Popen(command(trainer, folder, "--every", 1, "--keep", KEEP), text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        return run.communicate(timeout=wait)[0], run.returncode
    except subprocess.TimeoutExpired:
        run.kill()
        return run.communicate()[0], run.returncode


def check_kills(trainer, folder, kills, chance):
    straight = digest(output(trainer, folder, "--every", 1000))
    shutil.rmtree(folder)
    began = time.monotonic()
    output(trainer, folder, "--every", 1, "--keep", KEEP)
    length = time.monotonic() - began
    shutil.rmtree(folder)
    saved, struck, ends, leftovers = -1, 0, 0, 0
    while struck < kills or saved >= 0:
        wait = chance.uniform(0, length) if struck < kills else 600
        text, status = strike(trainer, folder, wait)
        start = find(r"start (-?\d+)", text)
        # A run that said nothing was killed before it looked.
        if start is not None and int(start) < saved:
            fail(f"{saved} was saved, the next run starts at {start}")
        saved = max(saved, int(find(r"saved (\d+)", text) or -1))
        check_entries(folder, 1)
        if status == -9:
            struck += 1
            leftovers += len(entries(folder)[1])
        elif status or digest(text) != straight:
            fail(f"exit status {status}, digest {digest(text)}, straight {straight}: {text}")
        else:
            # One that had nothing left to save cleared nothing up either.
            check_entries(folder, 0 if "saved" in text else 1)
            shutil.rmtree(folder)
            saved, ends = -1, ends + 1
    print(f"{folder.parent}: {struck} kills, {leftovers} of them inside a save, {ends} runs came "
          f"to {straight}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("trainer")
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--folder", action="append")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)
    homes = options.folder or [p for p in ("/dev/shm", tempfile.gettempdir())
                               if pathlib.Path(p).is_dir()]
    for number, home in enumerate(homes):
        with tempfile.TemporaryDirectory(dir=home, prefix="cadft-") as name:
            if number == 0:
                check_resume(options.trainer, pathlib.Path(name))
            check_kills(options.trainer, pathlib.Path(name) / "run",
                        options.kills // len(homes) + (number < options.kills % len(homes)),
                        chance)


if __name__ == "__main__":
    main()
