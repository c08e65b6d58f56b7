#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Demonstrations that do not match their questions, made on purpose, to see what
weights and rewriting do about them.

    mismatch.py train.jsonl mixed.jsonl --share 0.33 --seed 1 \\
        --foreign /usr/share/games/fortunes/de/sprueche

Lines are objects with question and answer, or prompt and completion. Of a random share
of them the answer is replaced by, as many of each kind as of the others:

    other      the answer of another question
    truncated  the first 15 to 50 % of its own
    foreign    a text out of the files given by --foreign: fortunes (texts between lines
               of a single %), or a text a line. Without --foreign this kind is left out.

Every line keeps its other fields and gets "group": "clean" or "mismatched", the changed
ones also "mismatch": the kind. The same seed gives the same file."""
import argparse
import json
import random
import sys

FIELDS = (("question", "answer"), ("prompt", "completion"))


def read(path):
    """The objects of the file, each with the name of its answer's field."""
    items = []
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except ValueError as why:
                sys.exit(f"mismatch.py: {path}, line {number}: {why}")
            names = [answer for question, answer in FIELDS if isinstance(item, dict)
                     and isinstance(item.get(question), str) and isinstance(item.get(answer), str)]
            if not names:
                sys.exit(f"mismatch.py: {path}, line {number}: no texts question and answer, "
                         "or prompt and completion")
            items.append((item, names[0]))
    if len(items) < 2:
        sys.exit(f"mismatch.py: {path}: {len(items)} lines, at least 2 are needed")
    return items


def read_foreign(paths):
    texts = []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            content = file.read()
        is_fortunes = any(line.strip() == "%" for line in content.splitlines())
        parts = content.split("\n%\n") if is_fortunes else content.splitlines()
        texts += [part.strip().rstrip("%").strip() for part in parts]
    texts = [text for text in texts if len(text) >= 20]
    if paths and not texts:
        sys.exit(f"mismatch.py: {', '.join(paths)}: no text of 20 characters or more")
    return texts


def truncate(text, rng):
    """Cut behind a word, if there is a whole one."""
    start = text[:max(1, int(len(text) * rng.uniform(0.15, 0.5)))]
    return start.rsplit(None, 1)[0] if len(start.split()) > 1 else start


def spoil(items, index, kind, foreign, rng):
    item, name = items[index]
    if kind == "truncated":
        return truncate(item[name], rng)
    if kind == "foreign":
        return rng.choice(foreign)
    other = rng.randrange(len(items) - 1)
    other_item, other_name = items[other + (other >= index)]
    return other_item[other_name]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--share", type=float, default=1 / 3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--foreign", action="append", default=[], metavar="FILE")
    options = parser.parse_args()
    if not 0 <= options.share <= 1:
        parser.error(f"--share {options.share}: expected 0 to 1")
    items, foreign = read(options.data), read_foreign(options.foreign)
    rng = random.Random(options.seed)
    kinds = ["other", "truncated"] + ["foreign"] * bool(foreign)
    chosen = rng.sample(range(len(items)), round(options.share * len(items)))
    spoiled = {}
    for k, index in enumerate(chosen):
        kind = kinds[k % len(kinds)]
        spoiled[index] = (kind, spoil(items, index, kind, foreign, rng))
    with open(options.out, "w", encoding="utf-8") as out:
        for index, (item, name) in enumerate(items):
            line = dict(item, group="clean")
            if index in spoiled:
                line["group"], line["mismatch"] = "mismatched", spoiled[index][0]
                line[name] = spoiled[index][1]
            print(json.dumps(line, ensure_ascii=False), file=out)
    counts = {kind: sum(k == kind for k, _ in spoiled.values()) for kind in kinds}
    print(f"{options.out}: {len(items)} lines, {len(spoiled)} mismatched: "
          + ", ".join(f"{n} {kind}" for kind, n in counts.items()))


if __name__ == "__main__":
    main()
