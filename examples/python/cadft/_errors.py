# SPDX-License-Identifier: Apache-2.0
"""Errors of the library as exceptions, each also a builtin that fits."""
from typing import Any, Dict, Type

from ._ffi import ffi, lib


class Error(Exception):
    """A call failed. The message is the library's sentence."""

    #: Status code, ``cadft.E_...`` of the C headers: -11, say.
    status: int
    #: Its name: ``"CADFT_E_ARG"``.
    name: str

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
        self.name = ffi.string(lib.cadft_status_string(status)).decode()

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> Any:
        return type(self), (self.args[0], self.status)


class ArgumentError(Error, ValueError):
    """A value, shape, label, sample id or address is not what was expected."""


class DtypeError(Error, TypeError):
    """A data type that is not accepted here."""


class KnobError(Error, KeyError):
    """No such knob, parameter or fact, or a value of the wrong type for it."""


class PhaseError(Error, RuntimeError):
    """A call that is not allowed now, or a handle inside another call."""


class UnsupportedError(Error, NotImplementedError):
    """A combination that the library refuses."""


class DataError(Error, ValueError):
    """Numbers that are not finite; a state or file that is damaged."""


class OutOfMemoryError(Error, MemoryError):
    """The allocator gave no memory."""


class FileError(Error, OSError):
    """The system could not read or write a file."""


class BackendError(Error, RuntimeError):
    """Threads, the backend or a callback failed."""


_CLASSES: Dict[int, Type[Error]] = {
    status: kind
    for kind, names in {
        ArgumentError: "NULL ARG SHAPE ALIGN ALIAS DEVICE TOO_NEW SPACE LABEL SAMPLE",
        DtypeError: "DTYPE",
        KnobError: "KEY",
        PhaseError: "PHASE BUSY",
        UnsupportedError: "UNSUPPORTED",
        DataError: "NONFINITE STATE FORMAT",
        OutOfMemoryError: "NOMEM",
        FileError: "IO",
        BackendError: "THREADS BACKEND CALLBACK",
    }.items()
    for status in (getattr(lib, "CADFT_E_" + name) for name in names.split())
}


def error(status: int, message: str) -> Error:
    """The exception of a status."""
    return _CLASSES.get(status, Error)(message, status)


def new_error() -> Any:
    """A cadft_error for C to write."""
    return ffi.new("cadft_error *", {"struct_size": ffi.sizeof("cadft_error")})


def raise_error(status: int, written: Any) -> None:
    """Raise what C wrote."""
    raise error(status, ffi.string(written.message).decode("utf-8", "replace"))


def call(function: Any, *args: Any) -> None:
    """Call a function that has no handle of its own: its last argument, the
    cadft_error, is added."""
    written = new_error()
    status = function(*args, written)
    if status:
        raise_error(status, written)
