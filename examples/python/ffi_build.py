# SPDX-License-Identifier: Apache-2.0
"""Builds cadft._ffi: the declarations are those of the installed headers.

pkg-config finds the library. The headers go through the C preprocessor, and
what comes from cadft/*.h goes to cffi, which lets the C compiler check it."""
import os
import re
import shlex
import subprocess

import cffi

CALLBACKS = """
extern "Python" int32_t cadft_py_coefficient(void *, int64_t, const double *, const double *,
                                             const double *, double *);
extern "Python" void cadft_py_log(void *, int32_t, const char *, size_t);
extern "Python" int32_t cadft_py_token(void *, int64_t, int64_t, int32_t, double);
extern "Python" void cadft_py_forget(void *);
"""


def pkg_config(*options):
    """Words that pkg-config prints about libcadft."""
    tool = os.environ.get("PKG_CONFIG", "pkg-config")
    found = subprocess.run([tool, *options, "cadft"], text=True, stdout=subprocess.PIPE)
    if found.returncode:
        raise SystemExit(f"{tool} does not find libcadft: expected it installed, with cadft.pc in "
                         "PKG_CONFIG_PATH")
    return shlex.split(found.stdout)


def preprocess(*options):
    """cadft.h as the preprocessor leaves it."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    return subprocess.run([*compiler, "-E", "-DCADFT_STATIC", *options,
                           *pkg_config("--cflags"), "-x", "c", "-"], check=True, text=True,
                          input="#include <cadft/cadft.h>\n", stdout=subprocess.PIPE).stdout


def declarations():
    """What cadft/*.h declare: of the preprocessor's output the lines that its
    markers place there, and the versions, which are macros."""
    lines, ours = [], False
    for line in preprocess().splitlines():
        marker = re.match(r'# \d+ "(.*)"', line)
        if marker:
            ours = re.search(r"/cadft/\w+\.h$", marker[1]) is not None
        elif ours:
            lines.append(line)
    macros = re.findall(r"^#define CADFT_VERSION_\w+ \d+$", preprocess("-dM"), re.M)
    return "\n".join(lines + macros)


ffi = cffi.FFI()
ffi.cdef(declarations())
ffi.cdef(CALLBACKS)
ffi.set_source(
    "cadft._ffi", "#include <cadft/cadft.h>\n",
    include_dirs=[d[2:] for d in pkg_config("--cflags-only-I")],
    library_dirs=[d[2:] for d in pkg_config("--libs-only-L")], libraries=["cadft"],
    # Not a runpath: it must hold for what libcadft needs, too.
    extra_link_args=["-Wl,--disable-new-dtags,-rpath,$ORIGIN"])
