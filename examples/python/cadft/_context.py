# SPDX-License-Identifier: Apache-2.0
"""The context: backend, memory, threads and log."""
import threading
from typing import Any, Callable, Optional

from . import _callbacks
from ._errors import call
from ._ffi import ffi, lib
from ._handle import Handle
from ._tensor import Tensor

Log = Callable[[int, str], None]


class Context(Handle):
    """Backend, memory, threads and log of the handles made with it. They keep
    it alive, whatever happens to this object. Any number of threads may use
    it at the same time.

    :param n_threads: threads that work, the caller's included; 0: as many as
        the affinity mask allows
    :param log: called with a level (1 warning, 2 info) and a line
    :param backend: ``"cpu"``, or the path of a plug-in
    :param backend_options: ``"avx2"``, say; base.h lists them
    """

    _noun = "context"

    def __init__(self, n_threads: int = 0, *, log: Optional[Log] = None, log_level: int = 2,
                 backend: Optional[str] = None, backend_options: Optional[str] = None) -> None:
        alive = []  # until the call is over
        desc = ffi.new("cadft_context_desc *", {"struct_size": ffi.sizeof("cadft_context_desc"),
                                                "n_threads": n_threads})
        if log is not None:
            alive.append(ffi.new("cadft_log *", {
                "struct_size": ffi.sizeof("cadft_log"), "max_level": log_level,
                "user": _callbacks.keep(log), "write": lib.cadft_py_log,
                "destroy": lib.cadft_py_forget}))
            desc.log = alive[-1]
        for field, text in (("backend", backend), ("backend_options", backend_options)):
            if text is not None:
                alive.append(ffi.new("char[]", text.encode()))
                setattr(desc, field, alive[-1])
        out = ffi.new("cadft_context **")
        call(lib.cadft_context_create, desc, out)
        super().__init__(out[0], lib.cadft_context_destroy)
        self._lock: Any = threading.RLock()

    def _enter(self) -> Any:
        """As the others', but other threads wait for their turn."""
        self._lock.acquire()
        if self._pointer is None:
            self._lock.release()
            raise self._closed()
        return self._pointer

    def _create(self, function: Any, kind: str, *args: Any) -> Any:
        """A new handle: function(context, args..., out, error)."""
        out = ffi.new(f"cadft_{kind} **")
        self._call(function, *args, out)
        return out[0]

    def _int(self, key: int) -> int:
        number = ffi.new("int64_t *")
        self._call(lib.cadft_context_get_i64, key, number)
        return int(number[0])

    def _text(self, key: int) -> str:
        return self._sized("char[]", lib.cadft_context_get_str, key)[:-1].decode()

    @property
    def workers(self) -> int:
        """Threads that work."""
        return self._int(lib.CADFT_CONTEXT_WORKERS)

    @property
    def bytes(self) -> int:
        """Bytes that the library has allocated now."""
        return self._int(lib.CADFT_CONTEXT_BYTES)

    @property
    def peak_bytes(self) -> int:
        """The most that it ever had."""
        return self._int(lib.CADFT_CONTEXT_PEAK_BYTES)

    @property
    def backend(self) -> str:
        """Name of the backend: ``"cpu"``."""
        return self._text(lib.CADFT_CONTEXT_BACKEND)

    @property
    def device(self) -> str:
        """What it runs on: ``"avx2"``."""
        return self._text(lib.CADFT_CONTEXT_DEVICE)

    @property
    def last_error(self) -> str:
        """Sentence of the last call on a handle of this context that failed."""
        return self._text(lib.CADFT_CONTEXT_LAST_ERROR)

    def read(self, tensor: Any, into: Any) -> None:
        """Copy a tensor of the backend's memory into a dense host array."""
        self._copy(lib.cadft_context_read, tensor, into, True)

    def write(self, tensor: Any, values: Any) -> None:
        """Copy a dense host array into a tensor of the backend's memory."""
        self._copy(lib.cadft_context_write, tensor, values, False)

    def _copy(self, function: Any, tensor: Any, host: Any, to_host: bool) -> None:
        device = Tensor(tensor, writable=not to_host)
        memory = ffi.from_buffer(host, require_writable=to_host)
        self._call(function, ffi.cast("cadft_tensor *", device._address), memory, len(memory))


_default: Optional[Context] = None
_default_lock = threading.Lock()


def context_or_default(context: Optional[Context]) -> Context:
    """The context of a new handle."""
    if context is None:
        return default_context()
    if not isinstance(context, Context):
        raise TypeError(f"context is {context!r}: expected a cadft.Context; knobs are keywords")
    return context


def default_context() -> Context:
    """The context of handles that were given none; made when it is first
    needed, and again after it was closed."""
    global _default
    with _default_lock:
        if _default is None or _default.closed:
            _default = Context()
        return _default
