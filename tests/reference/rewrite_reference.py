#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Delayed rewriting (doc/rewriting.md) written from its definition: exact fractions, sorted
lists, and random numbers of its own. Writes tests/golden/rewriting/cases.json.

    rewrite_reference.py           write the file
    rewrite_reference.py --check   compare it with what would be written

A case is {"name", "n_samples", "options", "ops"}; an op is a list:

    ["set", knob, value]
    ["observe", ids, c or null, chat or null]
    ["select", step, due, picks]
    ["commit", id, {"ended", "tokens" or null, "n_tokens", "c_new", "c_old"}, rejected]
    ["reject", id]  ["restore", id]  ["cancel"]
    ["samples", [[average or null, c or null, observations, rewrites, open, rewritten,
                  tokens or null] for each sample]]

"nan", "inf" and "-inf" stand for those numbers."""
import json
import math
import pathlib
import random
import struct
import sys
from fractions import Fraction

FILE = pathlib.Path(__file__).resolve().parent.parent / "golden" / "rewriting" / "cases.json"
DEFAULTS = {"signal": "chat", "warmup_steps": 3000, "warmup_fraction": 0.0, "planned_steps": 0,
            "interval": 1000, "fraction": 0.005, "probability": 0.5, "decay": 0.9,
            "min_observations": 2, "threshold": 0.0, "cap": 1, "min_length": 1,
            "max_length": 0, "require_end": 1, "require_lower": 0, "seed": 0}
GAP = 1e-9  # two averages closer than this would make a case hang on rounding


class Unlucky(Exception):
    """A case that hangs on the last bits of a number."""


# ------------------------------------------------------------- random numbers

def philox(key, high, low):
    """Philox4x32-10 of the 128-bit counter (high, low), as Salmon et al. define it."""
    x = [low & 0xFFFFFFFF, low >> 32, high & 0xFFFFFFFF, high >> 32]
    k = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        a, b = x[0] * 0xD2511F53, x[2] * 0xCD9E8D57
        x = [(b >> 32) ^ x[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ x[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return x


def uniform(seed, sample, step):
    """In [0, 1), of 53 bits; the place of the draw is the last of the step's positions."""
    words = philox(seed, sample, step << 32 | 0xFFFFFFFF)
    return Fraction((words[0] << 32 | words[1]) >> 11, 1 << 53)


# ------------------------------------------------------------------- method

def ceil_share(share, count):
    """Of the decimal that the share was written as."""
    return math.ceil(Fraction(repr(share)) * count)


def to_float32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def is_number(x):
    return math.isfinite(x) and abs(x) <= 3.4028234663852886e38


class Sample:
    def __init__(self):
        self.restart()
        self.rewrites, self.open, self.rewritten, self.tokens = 0, False, False, None

    def restart(self):
        self.average, self.count, self.c, self.values = None, 0, math.nan, []

    def observe(self, x, c, decay):
        self.count += 1
        self.values.append((Fraction(x), decay))
        weight = sum(Fraction(decay) ** j for j in range(self.count))
        before = self.average or Fraction(0)
        self.average = before + (Fraction(x) - before) / weight
        if c is not None:
            self.c = to_float32(c)
        if len({d for _, d in self.values}) == 1:  # the closed form of the same
            closed = sum(v * Fraction(decay) ** (self.count - 1 - j)
                         for j, (v, _) in enumerate(self.values)) / weight
            assert closed == self.average


class Tracker:
    def __init__(self, n_samples, options):
        self.o = {**DEFAULTS, **options}
        self.samples = [Sample() for _ in range(n_samples)]

    def observe(self, ids, c, chat):
        signal = chat if self.o["signal"] == "chat" else c
        for j, i in enumerate(ids):
            if all(array is None or is_number(array[j]) for array in (c, chat)):
                self.samples[i].observe(signal[j], None if c is None else c[j], self.o["decay"])

    def due(self, step):
        o = self.o
        warmup = (ceil_share(o["warmup_fraction"], o["planned_steps"])
                  if o["warmup_fraction"] else o["warmup_steps"])
        return step >= warmup and step % o["interval"] == 0

    def select(self, step):
        o = self.o
        if not self.due(step):
            return []
        for s in self.samples:
            if s.average is not None and 0 < abs(s.average - Fraction(o["threshold"])) < GAP:
                raise Unlucky
        eligible = [(-s.average, i) for i, s in enumerate(self.samples)
                    if s.count >= o["min_observations"] and s.average > o["threshold"]
                    and s.rewrites < o["cap"]]
        eligible.sort()
        if any(0 < b[0] - a[0] < GAP for a, b in zip(eligible, eligible[1:])):
            raise Unlucky
        candidates = eligible[:ceil_share(o["fraction"], len(self.samples))]
        picks = sorted(i for _, i in candidates
                       if uniform(o["seed"], i, step) < Fraction(o["probability"]))
        for i in picks:
            self.samples[i].open = True
        return picks

    def commit(self, i, r):
        o, s = self.o, self.samples[i]
        s.open = False
        old = r["c_old"]
        lower = (to_float32(r["c_new"]) < s.c if math.isnan(old) else r["c_new"] < old)
        if r["n_tokens"] < o["min_length"]:
            return 1
        if o["max_length"] and r["n_tokens"] > o["max_length"]:
            return 2
        if o["require_end"] and not r["ended"]:
            return 3
        if o["require_lower"] and not lower:
            return 4
        s.restart()
        s.rewrites, s.rewritten, s.tokens = s.rewrites + 1, True, r["tokens"]
        return 0

    def restore(self, i):
        self.samples[i].restart()
        self.samples[i].rewritten, self.samples[i].tokens = False, None

    def table(self):
        return [[None if s.average is None else float(s.average),
                 None if math.isnan(s.c) else s.c, s.count, s.rewrites, int(s.open),
                 int(s.rewritten), s.tokens] for s in self.samples]


# ---------------------------------------------------------------- histories

def random_options(rng, signal):
    o = {"signal": signal, "interval": rng.choice([1, 2, 3]),
         "fraction": rng.choice([0.07, 0.1, 0.25, 0.5, 1.0]),
         "probability": rng.choice([0.25, 0.5, 0.9, 1.0]),
         "decay": rng.choice([0.0, 0.5, 0.9, 0.999]),
         "min_observations": rng.choice([1, 2, 2, 3]),
         "threshold": rng.choice([-0.5, 0.0, 0.25]), "cap": rng.choice([1, 1, 2, 3]),
         "min_length": rng.choice([1, 2]), "max_length": rng.choice([0, 0, 4]),
         "require_end": rng.randrange(2), "require_lower": rng.randrange(2),
         "seed": rng.choice([0, 1, rng.getrandbits(53)])}
    if rng.randrange(2):
        o.update(warmup_fraction=rng.choice([0.1, 0.25, 0.07]), planned_steps=20)
    else:
        o["warmup_steps"] = rng.randrange(4)
    return o


def random_value(rng, ties):
    odd = rng.random()
    if odd < 0.04:
        return rng.choice([math.nan, math.inf, -math.inf, 1e39])
    return float(rng.choice([0.5, 1.0, 2.0])) if ties else round(rng.gauss(0.4, 1), 4)


def random_result(rng, sample):
    n = rng.randrange(6)
    tokens = [rng.randrange(50000) for _ in range(n)] if rng.random() < 0.7 else None
    return {"ended": int(rng.random() < 0.8), "tokens": tokens, "n_tokens": n,
            "c_new": rng.choice([0.1, 0.9, round(abs(rng.gauss(1, 1)), 4), sample.c]),
            "c_old": rng.choice([math.nan, 1.0])}


def answer(rng, tracker, picks, ops):
    for i in picks:
        kind = rng.random()
        if kind < 0.15:
            tracker.samples[i].open = False
            ops.append(["reject", i])
        elif kind < 0.9:
            result = random_result(rng, tracker.samples[i])
            ops.append(["commit", i, result, tracker.commit(i, result)])
    if any(s.open for s in tracker.samples):
        for s in tracker.samples:
            s.open = False
        ops.append(["cancel"])


def history(name, rng, signal, n_samples, ties):
    options = random_options(rng, signal)
    tracker, ops = Tracker(n_samples, options), []
    for step in range(rng.randrange(8, 20)):
        if rng.random() < 0.1:
            tracker.o["decay"] = rng.choice([0.5, 0.9])
            ops.append(["set", "decay", tracker.o["decay"]])
        due = tracker.due(step)
        picks = tracker.select(step)
        ops.append(["select", step, int(due), picks])
        answer(rng, tracker, picks, ops)
        rewritten = [i for i, s in enumerate(tracker.samples) if s.rewritten]
        if rewritten and rng.random() < 0.2:
            i = rng.choice(rewritten)
            tracker.restore(i)
            ops.append(["restore", i])
        ids = [rng.randrange(n_samples) for _ in range(rng.randrange(n_samples))]
        values = [random_value(rng, ties) for _ in ids]
        c = [random_value(rng, ties) for _ in ids]
        chat, c = (values, c) if signal == "chat" else (c, values)
        if signal == "c" and rng.random() < 0.3:
            chat = None
        tracker.observe(ids, c, chat)
        ops.append(["observe", ids, c, chat])
    last = tracker.select(120)  # left open
    ops += [["select", 120, int(tracker.due(120)), last], ["samples", tracker.table()]]
    return {"name": name, "n_samples": n_samples, "options": options, "ops": ops}


def cases():
    out = []
    for number in range(48):
        signal = ("chat", "c")[number % 2]
        n_samples, ties = (1, 7, 20, 43)[number // 2 % 4], number % 3 == 0
        for attempt in range(100):
            rng = random.Random(f"{number} {attempt}")
            try:
                out.append(history(f"{signal}_{n_samples}_{number}", rng, signal, n_samples,
                                   ties))
                break
            except Unlucky:
                continue
        else:
            sys.exit(f"case {number} is never well conditioned")
    return out


def plain(x):
    """JSON has no NaN and no infinity."""
    if isinstance(x, float) and not math.isfinite(x):
        return "nan" if math.isnan(x) else "inf" if x > 0 else "-inf"
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    if isinstance(x, list):
        return [plain(value) for value in x]
    return x


def summary(written):
    ops = [op for case in written for op in case["ops"]]
    reasons = [op[3] for op in ops if op[0] == "commit"]
    return {"picks": sum(len(op[3]) for op in ops if op[0] == "select"),
            **{f"rejected {r}": reasons.count(r) for r in range(5)},
            **{name: sum(op[0] == name for op in ops) for name in ("reject", "restore", "cancel")}}


def main(check):
    # known answers of Random123 for Philox4x32-10
    assert philox(0, 0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 2**64 - 1
    assert philox(ones, ones, ones) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    written = cases()
    lines = ",\n".join(json.dumps(plain(case), separators=(",", ":")) for case in written)
    text = f"[\n{lines}\n]\n"
    numbers = summary(written)
    assert all(numbers.values()), numbers
    if check:
        if FILE.read_text() != text:
            sys.exit(f"{FILE.name} is not what this program writes")
    else:
        FILE.write_text(text)
    print(f"{len(written)} cases, {len(text)} bytes, {numbers}")


if __name__ == "__main__":
    main(sys.argv[1:] == ["--check"])
