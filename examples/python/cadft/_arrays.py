# SPDX-License-Identifier: Apache-2.0
"""Arrays between Python and C."""
from typing import Any, Optional, Tuple

from ._errors import error
from ._ffi import ffi, lib
from ._tensor import Tensor


def pointer(tensor: Tensor) -> Any:
    """The cadft_tensor of a Tensor; valid while the Tensor lives."""
    return ffi.cast("cadft_tensor *", tensor._address)


def optional(value: Any) -> Tuple[Optional[Tensor], Any]:
    """A tensor of an array and its pointer; None gives NULL."""
    if value is None:
        return None, ffi.NULL
    tensor = Tensor(value)
    return tensor, pointer(tensor)


def memory(value: Any, dtype: str, count: int, name: str, writable: bool) -> Tuple[Tensor, Any]:
    """A dense array of a type and at least that many elements, for functions
    that take a plain pointer; the Tensor keeps it."""
    tensor = Tensor(value, writable=writable)
    if tensor.dtype != dtype or not tensor.is_dense or tensor.__dlpack_device__()[0] != 1:
        raise error(lib.CADFT_E_DTYPE, f"{name} is {tensor.dtype}"
                    f"{'' if tensor.is_dense else ', not dense'}: expected dense {dtype} in host "
                    "memory")
    if tensor.size < count:
        raise error(lib.CADFT_E_SPACE, f"{name} has {tensor.size} elements: expected {count}")
    return tensor, ffi.cast("void *", tensor.data)
