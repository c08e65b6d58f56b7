# SPDX-License-Identifier: Apache-2.0
"""What every handle has: one owner, one call at a time, knobs by name."""
import threading
from typing import Any, Dict, NamedTuple, Optional, Type, TypeVar, Union

from ._errors import Error, call, error, new_error, raise_error
from ._ffi import ffi, lib

Value = Union[int, float, str]
Self = TypeVar("Self", bound="Handle")


def read_text(function: Any, *args: Any) -> str:
    """Text of a function that takes buffer, capacity and needed."""
    needed = ffi.new("size_t *")
    call(function, *args, ffi.NULL, 0, needed)
    buffer = ffi.new("char[]", needed[0])
    call(function, *args, buffer, needed[0], needed)
    return str(ffi.string(buffer).decode())


class Handle:
    """A handle of the library. ``close()`` or the end of a ``with`` gives it
    up, else its collection does; the order among handles does not matter. One
    call at a time: a second one, from a thread or a callback, raises
    `PhaseError`."""

    _noun = ""

    def __init__(self, pointer: Any, destroy: Any) -> None:
        self._pointer: Any = ffi.gc(pointer, destroy)
        self._lock = threading.Lock()
        self._error = new_error()
        self._raised: Optional[BaseException] = None

    def _busy(self) -> Error:
        return error(lib.CADFT_E_BUSY, f"{self._noun} is inside another call")

    def _closed(self) -> Error:
        return error(lib.CADFT_E_NULL, f"{self._noun} is closed")

    def _enter(self) -> Any:
        """The pointer, with the lock held."""
        if not self._lock.acquire(False):
            raise self._busy()
        if self._pointer is None:
            self._lock.release()
            raise self._closed()
        return self._pointer

    def _fail(self, status: int) -> None:
        """Raise the error of a call, or the exception of a callback that made
        it fail."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised
        raise_error(status, self._error)

    def _call(self, function: Any, *args: Any) -> None:
        """function(pointer, args..., error)"""
        pointer = self._enter()
        try:
            status = function(pointer, *args, self._error)
            if status:
                self._fail(status)
        finally:
            self._lock.release()

    def _sized(self, kind: str, function: Any, *args: Any) -> bytes:
        """The array that function(pointer, args..., buffer, capacity, needed,
        error) fills, after it was asked for the length."""
        needed = ffi.new("size_t *")
        pointer = self._enter()
        try:
            status = function(pointer, *args, ffi.NULL, 0, needed, self._error)
            if status:
                self._fail(status)
            buffer = ffi.new(kind, max(int(needed[0]), 1))
            status = function(pointer, *args, buffer, needed[0], needed, self._error)
            if status:
                self._fail(status)
            return bytes(ffi.buffer(buffer))[:needed[0] * (ffi.sizeof(buffer) // len(buffer))]
        finally:
            self._lock.release()

    def close(self) -> None:
        """Give the handle up. A second time does nothing."""
        if self._pointer is None:
            return
        pointer = self._enter()
        try:
            self._before_close()
            self._pointer = None
            ffi.release(pointer)
        finally:
            self._lock.release()

    def _before_close(self) -> None:
        """Raises if there is a reason not to."""

    @property
    def closed(self) -> bool:
        """Was it closed?"""
        return self._pointer is None

    def __reduce__(self) -> Any:
        raise TypeError(f"{self._noun}: a handle is neither copied nor pickled, save its state")

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], *rest: Any) -> None:
        self.close()


class Bounds(NamedTuple):
    """Type and bounds of a knob."""

    type: type
    smallest: float
    largest: float
    default: float


def _number(knob: str, value: Any, kind: type) -> Union[int, float]:
    """A value for C, from Python's and NumPy's numbers."""
    try:
        number = float(value) if kind is float else int(value)
        if kind is float or number == value:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise error(lib.CADFT_E_KEY, f"{knob} is {value!r}: expected a name or "
                f"{'a number' if kind is float else 'an integer'}")


class Knobs(Handle):
    """A handle with knobs: the constants CADFT_NOUN_... of its header, by
    their names in lower case."""

    @classmethod
    def _function(cls, name: str) -> Any:
        return getattr(lib, f"cadft_{cls._noun}_{name}")

    @classmethod
    def _key(cls, name: str) -> int:
        key = ffi.new("int32_t *")
        call(cls._function("key"), name.encode(), key)
        return int(key[0])

    @classmethod
    def _bounds(cls, key: int) -> Bounds:
        kind, low, high, standard = ffi.new("int32_t *"), *(ffi.new("double *") for _ in range(3))
        call(cls._function("bounds"), key, kind, low, high, standard)
        return Bounds(float if kind[0] else int, low[0], high[0], standard[0])

    @classmethod
    def bounds(cls, name: str) -> Bounds:
        """Type, smallest, largest and default value of a knob."""
        return cls._bounds(cls._key(name))

    @classmethod
    def knobs(cls) -> Dict[str, Bounds]:
        """All knobs."""
        found: Dict[str, Bounds] = {}
        key_at = getattr(lib, f"cadft_{cls._noun}_key_at")
        name, key = ffi.new("char const **"), ffi.new("int32_t *")
        while not key_at(len(found), name, key, ffi.NULL):
            found[ffi.string(name[0]).decode()] = cls._bounds(key[0])
        return found

    def set(self, name: Optional[str] = None, value: Optional[Value] = None, /,
            **knobs: Value) -> None:
        """Set knobs: ``set("beta", 2)`` or ``set(beta=2, objective="dft")``."""
        if name is not None:
            if value is None:
                raise TypeError(f"set({name!r}): expected a value, too")
            knobs = {name: value, **knobs}
        for knob, new in knobs.items():
            key = self._key(knob)
            if isinstance(new, str):
                self._call(self._function("set_str"), key, new.encode())
                continue
            kind = self._bounds(key).type
            exact = _number(knob, new, kind)
            self._call(self._function("set_f64" if kind is float else "set_i64"), key, exact)

    def get(self, name: str) -> Value:
        """A knob, or a fact that the header lists as read only. Knobs with
        named values give the name."""
        key = self._key(name)
        try:
            kind = self._bounds(key).type
        except KeyError:  # a fact
            return self._read_int(key)
        if kind is float:
            number = ffi.new("double *")
            self._call(self._function("get_f64"), key, number)
            return float(number[0])
        text = self._read_str(key)
        try:
            return int(text)
        except ValueError:
            return text

    def _read_int(self, key: int) -> int:
        number = ffi.new("int64_t *")
        self._call(self._function("get_i64"), key, number)
        return int(number[0])

    def _read_str(self, key: int) -> str:
        return self._sized("char[]", self._function("get_str"), key)[:-1].decode()
