#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What every file of the tree has in common.

    style.py SOURCE_ROOT

SPDX line, length of files and lines, no tabs, no paths of somebody's machine; in lib/
no call that ends the process, prints, or takes memory past lib/common/memory.c."""
import pathlib
import re
import shutil
import subprocess
import sys

FILE_LINES, C_COLUMNS = 600, 80
CODE = {".c", ".h", ".cpp", ".hpp", ".java", ".lua", ".py", ".sh"}
# Written in pieces, or this file would find itself.
MACHINE = re.compile("/(?:" + "|".join(("home", "Users", "root", "work")) + r")/\w")
MEMORY = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|aligned_alloc|posix_memalign"
                    r"|strdup|free)\s*\(")
PROCESS = re.compile(r"(?<![\w.>])(v?f?printf|puts|putchar|fputs|perror|abort|_?exit"
                     r"|_Exit|assert|getenv|setlocale|signal|atexit|alloca)\s*\(")
MEMORY_FILE = "lib/common/memory.c"


def tracked(root):
    """What git has or would take; in an unpacked release everything but builds."""
    if shutil.which("git"):
        git = subprocess.run(["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"],
                             text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if git.returncode == 0:
            return sorted(set(git.stdout.splitlines()))
    names = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    made = re.compile(r"build|finetune-demo/|\.|.*__pycache__")
    return sorted(name for name in names if not made.match(name))


def is_code(name):
    path = pathlib.PurePath(name)
    return path.suffix in CODE or path.name.startswith("meson") or name == ".ci/run"


def strip_c(text):
    """Without comments and strings; lines stay where they are."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group())
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", blank,
                  text, flags=re.S)


def check_text(name, lines):
    if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:3]):
        yield 1, "no SPDX line at the top"
    if len(lines) > FILE_LINES:
        yield len(lines), f"longer than {FILE_LINES} lines"
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            yield number, "tab"
        if line != line.rstrip():
            yield number, "blank at the end of the line"
        if name.endswith((".c", ".h", ".hpp")) and len(line) > C_COLUMNS:
            yield number, f"{len(line)} columns, at most {C_COLUMNS}"


def check_calls(name, text):
    for number, line in enumerate(strip_c(text).splitlines(), 1):
        for pattern in (PROCESS,) if name == MEMORY_FILE else (PROCESS, MEMORY):
            for match in pattern.finditer(line):
                yield number, f"{match.group(1)} has no place in the library"


def check_file(root, name):
    try:
        text = (root / name).read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return  # binary, or deleted and not yet committed
    for number, line in enumerate(text.splitlines(), 1):
        if MACHINE.search(line):
            yield number, "path of somebody's machine"
    if is_code(name):
        yield from check_text(name, text.splitlines())
    if name.startswith("lib/") and name.endswith((".c", ".h")):
        yield from check_calls(name, text)


def main(root):
    root, names = pathlib.Path(root), tracked(pathlib.Path(root))
    problems = [f"{name}:{number}: {what}" for name in names
                for number, what in check_file(root, name)]
    print("\n".join(problems) or f"{len(names)} files")
    return 1 if problems or not names else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
