#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The names that the library shows to the linker.

    check_symbols.py INCLUDE_DIR MAP_FILE SHARED STATIC

Exports of the shared library = names in the map = functions in the headers; and the
static library, which knows no map, defines no global name without a prefix of ours."""
import re
import subprocess
import sys

sys.dont_write_bytecode = True
import headers

PREFIXES = ("cadft_", "cadft__", "cadftk_")


def nm(*arguments):
    out = subprocess.run(["nm", "--format=posix", *arguments], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    return [line.split() for line in out.splitlines() if len(line.split()) >= 2]


def map_names(path):
    """{name: node}. Wildcards would export whatever happens to be there."""
    text, names = headers.strip_comments(open(path).read()), {}
    for node, body in re.findall(r"(CADFT_[\d.]+)\s*\{(.*?)\}", text, re.S):
        shown = re.search(r"global:(.*?)(local:|$)", body, re.S).group(1)
        for name in filter(None, (part.strip() for part in shown.split(";"))):
            assert re.fullmatch(r"cadft_\w+", name), f"map: {name} is not a plain name"
            assert name not in names, f"map: {name} occurs twice"
            names[name] = node
    return names


def differences(a_name, a, b_name, b):
    return ([f"{n}: in {a_name}, not in {b_name}" for n in sorted(a - b)] +
            [f"{n}: in {b_name}, not in {a_name}" for n in sorted(b - a)])


def main(include, map_file, shared, static):
    mapped = map_names(map_file)
    declared = headers.functions(headers.read(include))
    exported = {}
    for name, kind, *_ in nm("-D", "--defined-only", shared):
        if kind != "A":  # the version nodes themselves
            plain, _, node = name.partition("@@")
            exported[plain] = (node, kind)
    problems = differences("the map", set(mapped), "the headers", declared)
    problems += differences("the map", set(mapped), "the exports", set(exported))
    for name, (node, kind) in exported.items():
        if kind != "T":
            problems.append(f"{name}: exported with type {kind}, only functions are")
        if node and node != mapped.get(name):
            problems.append(f"{name}: exported in {node}, map says {mapped.get(name)}")
    count = 0
    for name, *_ in nm("-g", "--defined-only", static):
        count += 1
        if not name.startswith(PREFIXES):
            problems.append(f"{name}: global in the static library, without our prefix")
    print("\n".join(problems) or
          f"{len(exported)} exports agree with map and headers, {count} static names")
    return 1 if problems or not exported or not count else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
