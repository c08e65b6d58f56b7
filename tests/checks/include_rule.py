#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include whom.

    include_rule.py SOURCE_ROOT

The first part of a path written in lib/ names the layer. A layer includes itself, and
what stands beside it here."""
import pathlib
import re
import sys

PUBLIC = "cadft"
MAY = {
    "common": {PUBLIC},
    "backend": {PUBLIC, "common"},
    "io": {PUBLIC, "common"},
    "loss": {PUBLIC, "common", "backend"},
    "optimizer": {PUBLIC, "common", "backend", "io"},
    "rewrite": {PUBLIC, "common", "backend"},
    "model": {PUBLIC, "common", "backend", "io"},
    "checkpoint": {PUBLIC, "common", "backend", "io", "model/model_saved.h", "optimizer/saved.h"},
    "cpu": {"cadft/backend.h", "cadft/base.h", "common", "cpu/kernels"},
    "cpu/kernels": set(),
}
# Kernels stay plain C that any tool can compile: the standard's headers and the
# compilers' intrinsics.
KERNEL_SYSTEM = {"assert.h", "complex.h", "ctype.h", "errno.h", "fenv.h", "float.h",
                 "inttypes.h", "iso646.h", "limits.h", "math.h", "stdalign.h", "stdarg.h",
                 "stdbool.h", "stddef.h", "stdint.h", "stdlib.h", "string.h", "tgmath.h",
                 "immintrin.h", "arm_neon.h"}
INCLUDE = re.compile(r"^\s*#\s*include\s*(?:\"([^\"]+)\"|<([^>]+)>)", re.M)


def layer(path):
    """Of "loss/compat.h": loss; of "cpu/kernels/exp.h": cpu/kernels."""
    folder = path.rpartition("/")[0]
    return folder if folder in MAY else folder.split("/")[0]


def sources(root, folder):
    for path in sorted((root / folder).rglob("*.[ch]")):
        yield path.relative_to(root).as_posix(), path, INCLUDE.findall(path.read_text())


def check_lib(root):
    for name, _, includes in sources(root, "lib"):
        own = layer(name[len("lib/"):])
        if own not in MAY:
            yield f"{name}: folder {own} is not in the table of include_rule.py"
            continue
        for ours, system in includes:
            if system:
                if system.startswith(PUBLIC + "/"):
                    yield f"{name}: <{system}> is written with quotes in lib/"
                if own == "cpu/kernels" and system not in KERNEL_SYSTEM:
                    yield f"{name}: kernels may not include <{system}>"
            elif ".." in ours or not any((root / d / ours).is_file()
                                         for d in ("lib", "include")):
                yield f"{name}: \"{ours}\" is not written from lib/"
            elif layer(ours) != own and not {layer(ours), ours} & MAY[own]:
                yield f"{name}: {own} may not include \"{ours}\""


def check_include(root):
    for name, _, includes in sources(root, "include"):
        for ours, system in includes:
            if ours and not ours.startswith(PUBLIC + "/"):
                yield f"{name}: public headers include public headers, not \"{ours}\""
            if system and system not in ("stddef.h", "stdint.h"):
                yield f"{name}: public headers include no <{system}>"


def check_examples(root):
    """A user copies them: public headers and what lies in their own folder."""
    for name, path, includes in sources(root, "examples"):
        for ours, _ in includes:
            local = "/" not in ours and (path.parent / ours).is_file()
            public = ours.startswith(PUBLIC + "/") and (root / "include" / ours).is_file()
            if ours and not local and not public:
                yield f"{name}: examples may not include \"{ours}\""


def check_names(root):
    """A file is known by its name alone: in debuggers, archives and talk."""
    seen = {}
    for name, path, _ in sources(root, "lib"):
        if path.name in seen:
            yield f"{name}: {seen[path.name]} has the same name"
        seen[path.name] = name


def main(root):
    root = pathlib.Path(root)
    problems = [*check_lib(root), *check_include(root), *check_examples(root),
                *check_names(root)]
    print("\n".join(problems) or "include rule holds")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
