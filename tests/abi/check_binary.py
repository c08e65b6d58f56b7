#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the built library is made of, read with binutils.

    check_binary.py SHARED STATIC BUILD_DIR IMPORTS_FILE

Imports and needed libraries are on the list; soname, no unloading, no executable
stack, no text relocations; no constructors, no thread-local and no writable globals;
nothing sets the floating-point environment; no fast-math in any command."""
import pathlib
import re
import subprocess
import sys

NEEDED = re.compile(r"(libc|libm|libpthread|libdl|libjansson)\.so\.\d+|ld-linux.*\.so\.\d+")
# On a link line too: gcc would add a constructor that flushes denormals.
FAST_MATH = re.compile(r"-Ofast|-ffast-math|-funsafe-math\S*|-fassociative-math"
                       r"|-freciprocal-math|-ffinite-math-only|-mrecip\S*|-mdaz-ftz")
# The fenv registers of x86, x87 and arm64.
SETS_FENV = re.compile(r"\t(v?ldmxcsr|fldcw|fldenv|frstor|f?n?init|fxrstor|xrstor)\b"
                       r"|\tmsr\s+fpcr|<fesetenv|<fesetround|<feholdexcept")


def output(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def plain(name):
    """Without symbol version, fortification and C23 variants, which distributions
    switch on by default, and without the mark of 64-bit file offsets."""
    name = name.split("@")[0]
    name = re.sub(r"^__isoc23_", "", name)
    name = re.sub(r"^(open|openat|pread|fstat|fstatat|readdir)64$", r"\1", name)
    return re.sub(r"^__(\w+)_chk$", r"\1", name) if name != "__stack_chk_fail" else name


def check_imports(shared, imports_file):
    allowed = {line.strip() for line in open(imports_file)
               if line.strip() and not line.startswith("#")}
    for line in output("nm", "-D", "--undefined-only", "--format=posix", shared).splitlines():
        if plain(line.split()[0]) not in allowed:
            yield f"imports {line.split()[0]}, which {imports_file} does not list"


def check_dynamic(shared):
    text = output("readelf", "-dW", shared)
    for name in re.findall(r"\(NEEDED\).*\[(.*)\]", text):
        if not NEEDED.fullmatch(name):
            yield f"needs {name}"
    if re.findall(r"\(SONAME\).*\[(.*)\]", text) != ["libcadft.so.0"]:
        yield "soname is not libcadft.so.0"
    for word, wanted in (("NODELETE", True), ("SYMBOLIC", True), ("TEXTREL", False),
                         ("RPATH", False), ("RUNPATH", False)):
        if bool(re.search(rf"\b{word}\b", text)) != wanted:
            yield f"{word} is {'missing' if wanted else 'set'} in the dynamic section"
    stack = re.search(r"GNU_STACK.*", output("readelf", "-lW", shared))
    if not stack or re.search(r"\bRWE\b", stack.group()):
        yield "the stack would be executable"
    # one entry: the toolchain's frame_dummy; ours would show in check_sections
    size = re.search(r"\(INIT_ARRAYSZ\)\s+(\d+)", text)
    if size and int(size.group(1)) > 8:
        yield "has constructors: more than one entry in .init_array"


def check_sections(static):
    """Objects of the archive: what is written at run time belongs to a handle."""
    member, seen = "", 0
    for line in output("readelf", "-SW", static).splitlines():
        if line.startswith("File:"):
            member, seen = line.rstrip(")").rpartition("(")[2], seen + 1
        match = re.match(r"\s*\[ *\d+\] (\.\S+)\s+\S+\s+\w+\s+\w+\s+(\w+)\s+\w+\s+(\w*)\s", line)
        if not match:
            continue
        name, size, flags = match.group(1), int(match.group(2), 16), match.group(3)
        if re.match(r"\.(init_array|preinit_array|fini_array|ctors|dtors)", name) and size:
            yield f"{member}: constructor or destructor, section {name}"
        elif "T" in flags and size:
            yield f"{member}: thread-local storage, section {name}"
        elif "W" in flags and size and not name.startswith(".data.rel.ro"):
            yield f"{member}: writable globals, {size} bytes in {name}"
    if not seen:
        yield f"{static}: no objects found"
    for line in output("nm", "--format=posix", static).splitlines():
        if re.search(r" C ", line):
            yield f"writable global: {line.split()[0]} is common"


def check_instructions(shared):
    function = ""
    for line in output("objdump", "-d", "--no-show-raw-insn", shared).splitlines():
        if line.endswith(">:"):
            function = line.split("<")[1][:-2]
        elif SETS_FENV.search(line):
            yield f"{function} sets the floating-point environment: {line.strip()}"


def check_commands(build):
    for name in ("compile_commands.json", "build.ninja"):
        for flag in sorted(set(FAST_MATH.findall((build / name).read_text()))):
            yield f"{name} has {flag}"


def main(shared, static, build, imports_file):
    problems = [*check_imports(shared, imports_file), *check_dynamic(shared),
                *check_sections(static), *check_instructions(shared),
                *check_commands(pathlib.Path(build))]
    print("\n".join(problems) or "clean")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
