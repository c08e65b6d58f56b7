#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles the C blocks of the documentation, and runs those that are programs.

    readme_example.py CC INCLUDE_DIR LIBRARY README.md [doc/embedding.md ...]

CC       compiler, with flags if any ("cc -fsanitize=address")
LIBRARY  libcadft.so or libcadft.a

A block starts with ```c. What it is follows from its first line and its text:

    int main(...)   a program: compiled with -Wall -Wextra -Werror, linked, run; its
                    exit status must be 0
    ```c decl       declarations and functions, at file scope
    otherwise       statements, the body of a function of their own

The blocks of one file that are not programs make one translation unit, in their
order, so that a `decl` block can declare names that later blocks use. The first
block of the first file must be a program."""
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
# Fragments show a call; what they leave unused or static is not the point.
LOOSE = ["-fsyntax-only", "-Wno-unused", "-Wno-unused-parameter"]
HEADERS = ["cadft/cadft.h", "cadft/backend.h", "math.h", "stdio.h", "stdlib.h", "string.h"]
BLOCK = re.compile(r"^```c( decl)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path):
    """(line number, is it at file scope, text) of every C block."""
    text = pathlib.Path(path).read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start(2)) + 1
        yield line, bool(match.group(1)), match.group(2)


def is_program(text):
    return re.search(r"\bint main\(", text) is not None


def run(command, what):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        print(f"{what}: {shlex.join(command)}: exit status {result.returncode}\n{result.stdout}")
    return result.returncode == 0, result.stdout


def check_program(cc, include, library, path, line, text, folder):
    source, program = folder / f"program_{line}.c", folder / f"program_{line}"
    source.write_text(f'#line {line} "{path}"\n{text}')
    rpath = "-Wl,-rpath," + str(pathlib.Path(library).resolve().parent)
    good, _ = run(cc + FLAGS + ["-I", include, "-o", str(program), str(source), library, rpath,
                                "-ljansson", "-lm", "-lpthread", "-ldl"], f"{path}:{line}")
    if not good:
        return False
    good, output = run([str(program)], f"{path}:{line}")
    print(f"{path}:{line}: program runs\n{output}" if good else "", end="")
    return good


def check_fragments(cc, include, path, fragments, folder):
    source = folder / (pathlib.Path(path).stem + ".c")
    parts = [f"#include <{header}>\n" for header in HEADERS]
    for line, at_file_scope, text in fragments:
        body = f'#line {line} "{path}"\n{text}'
        parts.append(body if at_file_scope else
                     f"void block_{line}(void);\nvoid block_{line}(void)\n{{\n{body}}}\n")
    source.write_text("".join(parts))
    good, _ = run(cc + FLAGS + LOOSE + ["-I", include, str(source)], path)
    print(f"{path}: {len(fragments)} blocks compile\n" if good else "", end="")
    return good


def main(arguments):
    if len(arguments) < 4:
        sys.exit(__doc__)
    cc, include, library, files = shlex.split(arguments[0]), *arguments[1:3], arguments[3:]
    first = next(blocks(files[0]), None)
    if first is None or not is_program(first[2]):
        sys.exit(f"{files[0]}: the first C block is no program")
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for path in files:
            found = list(blocks(path))
            for line, _, text in found:
                if is_program(text):
                    good &= check_program(cc, include, library, path, line, text, folder)
            rest = [block for block in found if not is_program(block[2])]
            if rest:
                good &= check_fragments(cc, include, path, rest, folder)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
