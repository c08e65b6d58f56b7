# SPDX-License-Identifier: Apache-2.0
"""Builds the two extension modules and puts the shared libraries beside them."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ffi_build  # noqa: E402

CARRIED = re.compile(r"lib(?:cadft|jansson)\.so")


class BuildAndCarry(build_ext):
    """The wheel carries libcadft and what it needs beyond the C library."""

    def run(self):
        super().run()
        module = pathlib.Path(self.get_ext_fullpath("cadft._ffi"))
        folders = [d[2:] for d in ffi_build.pkg_config("--libs-only-L")]
        path = ":".join([*folders, os.environ.get("LD_LIBRARY_PATH", "")])
        listed = subprocess.run(["ldd", str(module)], check=True, text=True, stdout=subprocess.PIPE,
                                env={**os.environ, "LD_LIBRARY_PATH": path}).stdout
        for name, file in re.findall(r"(\S+) => (/\S+)", listed):
            target = module.parent / name
            if CARRIED.match(name) and not (target.exists() and target.samefile(file)):
                shutil.copyfile(file, target)


setup(
    cffi_modules=["ffi_build.py:ffi"],
    ext_modules=[Extension("cadft._tensor", ["src/tensor.c", "src/take.c"],
                           depends=["src/tensor.h", "src/dlpack.h"],
                           include_dirs=[d[2:] for d in ffi_build.pkg_config("--cflags-only-I")],
                           extra_compile_args=["-std=c11", "-fvisibility=hidden"])],
    cmdclass={"build_ext": BuildAndCarry},
)
