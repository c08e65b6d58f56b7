# SPDX-License-Identifier: Apache-2.0
"""Python functions that the library calls.

C gets a cffi handle as its `user`. It is kept here until the library calls
`destroy`, which it does exactly once."""
import sys
from types import SimpleNamespace
from typing import Any, Dict

from ._ffi import ffi, lib

_kept: Dict[int, Any] = {}


def keep(thing: Any) -> Any:
    """A `user` for C that stays until cadft_py_forget."""
    handle = ffi.new_handle(thing)
    _kept[int(ffi.cast("uintptr_t", handle))] = handle
    return handle


@ffi.def_extern()
def cadft_py_forget(user: Any, _kept: Dict[int, Any] = _kept) -> None:
    _kept.pop(int(ffi.cast("uintptr_t", user)), None)


@ffi.def_extern()
def cadft_py_log(user: Any, level: int, text: Any, length: int) -> None:
    sink = ffi.from_handle(user)
    try:
        sink(level, ffi.buffer(text, length)[:].decode("utf-8", "replace"))
    except BaseException as failure:  # a line of the log cannot fail the call
        sys.unraisablehook(SimpleNamespace(
            exc_type=type(failure), exc_value=failure, exc_traceback=failure.__traceback__,
            err_msg=None, object=sink))


@ffi.def_extern(error=-1)
def cadft_py_coefficient(user: Any, rows: int, l: Any, p: Any, entropy: Any, k: Any) -> int:
    return int(ffi.from_handle(user)(rows, l, p, entropy, k))


@ffi.def_extern(error=-1)
def cadft_py_token(user: Any, prompt: int, position: int, token: int, logprob: float) -> int:
    return int(ffi.from_handle(user)(prompt, position, token, logprob))
