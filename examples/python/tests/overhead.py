# SPDX-License-Identifier: Apache-2.0
"""What a call of Loss.compute costs beyond the C call it makes, in microseconds of
processor time:

    python3 tests/overhead.py

The same tiny batch, from NumPy arrays and from prepared Tensors; the C call is
made again and again by cffi with everything filled in beforehand, whose own
cost (a call of cadft_version) is taken off."""
import time
import timeit

import cadft
import numpy as np
from cadft._ffi import ffi, lib


def best(function, number=4000, repeat=5):
    times = timeit.repeat(function, timer=time.process_time, number=number, repeat=repeat)
    return min(times) / number * 1e6


def main():
    z = np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32)
    y, s, g = np.array([1, 2], np.int32), np.array([0, 1], np.int32), np.empty_like(z)
    loss = cadft.Loss(cadft.Context(n_threads=1))
    batch = cadft.Batch(z, y, s)
    grad = cadft.Tensor(g, writable=True)
    at, handle = ffi.cast("cadft_tensor *", grad._address), loss._pointer
    report, error = loss._report, loss._error
    c = best(lambda: lib.cadft_loss_compute(handle, batch._batch, 2, at, ffi.NULL, report, error))
    c -= best(lib.cadft_version)
    arrays = best(lambda: loss.compute(z, y, s, 2, grad=g))
    views = [cadft.Tensor(a) for a in (z, y, s, g)]
    tensors = best(lambda: loss.compute(*views[:3], 2, grad=views[3]))
    print(f"C {c:.2f} us; from arrays {arrays - c:.2f} us more, from Tensors {tensors - c:.2f}")


if __name__ == "__main__":
    main()
