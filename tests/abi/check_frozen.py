#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is every public constant and struct field frozen in frozen_*.c?

    check_frozen.py INCLUDE_DIR FROZEN...             1 when something is not
    check_frozen.py --missing INCLUDE_DIR FROZEN...   print the assertions to append

The files themselves are compiled by the build: that is where a changed value fails.
This check is for what was added to the headers and not frozen with it."""
import pathlib
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import headers

PROGRAM = """#include <stddef.h>
#include <stdio.h>
#include "cadft/backend.h"
#include "cadft/cadft.h"
int main(void)
{
%s
    return 0;
}
"""


def wanted(text):
    """(key, C expression, operator) of each thing to freeze. Structs that tell their
    size may grow at the tail; the others never."""
    for name in headers.constants(text):
        # minors rise; what they had stays
        yield name, name, ">=" if name.endswith("_MINOR") else "=="
    for struct, fields in headers.structs(text).items():
        grows = fields[0] == "struct_size"
        yield f"sizeof({struct})", f"sizeof({struct})", ">=" if grows else "=="
        for field in fields:
            yield f"{struct}.{field}", (f"offsetof({struct}, {field})",
                                        f"sizeof((({struct} *)0)->{field})"), "=="


def values(include, expressions):
    lines = [f'    printf("%lld\\n", (long long)({e}));' for e in expressions]
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "values.c"
        source.write_text(PROGRAM % "\n".join(lines))
        subprocess.run(["cc", "-std=c11", f"-I{include}", str(source), "-o",
                        f"{folder}/values"], check=True)
        out = subprocess.run([f"{folder}/values"], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
    return out.split()


def is_frozen(frozen, key):
    if "." in key:
        struct, field = key.split(".")
        return re.search(rf"FIELD\({struct}, {field},", frozen)
    if key.startswith("sizeof"):
        return re.search(rf"SIZE(_LEAST)?\({key[7:-1]},", frozen)
    return re.search(rf"VALUE(_LEAST)?\({key},", frozen)


def assertion(key, operator, numbers):
    least = "_LEAST" if operator == ">=" else ""
    if "." in key:
        return f"FIELD({key.replace('.', ', ')}, {numbers[0]}, {numbers[1]});"
    if key.startswith("sizeof"):
        return f"SIZE{least}({key[7:-1]}, {numbers[0]});"
    return f"VALUE{least}({key}, {numbers[0]});"


def main(arguments):
    show = "--missing" in arguments
    include, *files = [a for a in arguments if a != "--missing"]
    frozen = "\n".join(headers.strip_comments(open(path).read()) for path in files)
    every = list(wanted(headers.read(include)))
    missing = [item for item in every if not is_frozen(frozen, item[0])]
    if not show:
        for key, _, _ in missing:
            print(f"{key}: not frozen; see the top of check_frozen.py")
        print(f"{len(every) - len(missing)} of {len(every)} are frozen")
        return 1 if missing else 0
    groups = [e if isinstance(e, tuple) else (e,) for _, e, _ in missing]
    numbers = iter(values(include, [e for group in groups for e in group]))
    for (key, _, operator), group in zip(missing, groups):
        print(assertion(key, operator, [next(numbers) for _ in group]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
