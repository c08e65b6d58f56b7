#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each public header alone, as C99, C11, C17, C++11 and C++17 (those of C++ as C++17, 20
and 23, with exceptions and without), with every compiler found, without a warning; and
the frozen layouts again under -fshort-enums.

    check_headers.py INCLUDE_DIR FROZEN..."""
import itertools
import pathlib
import shutil
import subprocess
import sys

WARN = ["-Wall", "-Wextra", "-Wpedantic", "-Wundef", "-Wshadow", "-Werror",
        "-fsyntax-only"]
C_WARN = ["-Wc++-compat", "-Wstrict-prototypes"]
CXX_WARN = ["-Wzero-as-null-pointer-constant"]
HPP_WARN = [*CXX_WARN, "-Wconversion", "-Wsign-conversion"]


def variants():
    for compiler in filter(shutil.which, ("gcc", "clang")):
        for std in ("c99", "c11", "c17"):
            yield [compiler, "-x", "c", f"-std={std}", *WARN, *C_WARN]
    for compiler in filter(shutil.which, ("g++", "clang++")):
        for std in ("c++11", "c++17"):
            yield [compiler, "-x", "c++", f"-std={std}", *WARN, *CXX_WARN]


def cxx_variants():
    for compiler in filter(shutil.which, ("g++", "clang++")):
        for std in ("c++17", "c++20", "c++2b"):
            for without in ([], ["-fno-exceptions", "-fno-rtti"]):
                yield [compiler, "-x", "c++", f"-std={std}", *WARN, *HPP_WARN, *without]


def compiles(command, text):
    done = subprocess.run(command, input=text, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode:
        print(" ".join(command), "\n", done.stdout, sep="")
    return done.returncode == 0


def main(include, *frozen):
    folder = pathlib.Path(include) / "cadft"
    names = sorted(path.name for path in folder.glob("*.h"))
    hpp_names = sorted(path.relative_to(folder) for path in folder.rglob("*.hpp"))
    count = failed = 0
    for command, name, enums in itertools.product(variants(), names,
                                                  ([], ["-fshort-enums"])):
        # twice: the guard works
        text = f'#include "cadft/{name}"\n' * 2
        count += 1
        failed += not compiles([*command, *enums, f"-I{include}", "-"], text)
    for command, name in itertools.product(cxx_variants(), hpp_names):
        # cadft.hpp has all; the others once for each compiler
        if name.name == "cadft.hpp" or "-std=c++17" in command and command[-1] != "-fno-rtti":
            count += 1
            failed += not compiles([*command, f"-I{include}", "-"],
                                   f'#include "cadft/{name}"\n' * 2)
    for command, path in itertools.product(variants(), frozen):
        if "c" in command and "-std=c99" not in command:
            count += 1
            failed += not compiles([*command, "-fshort-enums", f"-I{include}", path], None)
    compilers = sorted({command[0] for command in variants()})
    print(f"{count} compilations with {', '.join(compilers)}, {failed} failed")
    return 1 if failed or not names or not hpp_names or not compilers else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
