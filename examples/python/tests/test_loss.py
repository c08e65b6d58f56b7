# SPDX-License-Identifier: Apache-2.0
"""The loss from Python: arrays, errors, callbacks, handles."""
import array
import copy
import gc
import importlib.metadata
import pathlib
import pickle
import sys
import threading
import tracemalloc
import unittest

import cadft
import numpy as np

ROWS, VOCAB, SAMPLES = 6, 5, 3


def inputs(seed=1, rows=ROWS, vocab=VOCAB, dtype=np.float32):
    random = np.random.default_rng(seed)
    return (random.normal(size=(rows, vocab)).astype(dtype),
            random.integers(0, vocab, rows).astype(np.int32),
            (np.arange(rows) * SAMPLES // rows).astype(np.int32))


def sft_gradient(logits, labels):
    """(softmax - onehot) / rows, in float64."""
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    return p / len(labels)


class Arrays(unittest.TestCase):
    def setUp(self):
        self.loss = cadft.Loss(objective="sft", weighting=0)
        self.addCleanup(self.loss.close)

    def test_gradient(self):
        z, y, s = inputs()
        grad = np.empty_like(z)
        report = self.loss.compute(z, y, s, SAMPLES, grad=grad)
        np.testing.assert_allclose(grad, sft_gradient(z, y), rtol=1e-5, atol=1e-7)
        self.assertEqual((report.n_samples, report.n_rows), (SAMPLES, ROWS))
        self.assertAlmostEqual(report.loss, report.nll, places=12)

    def test_in_place(self):
        z, y, s = inputs()
        expected = sft_gradient(z, y)
        self.loss.compute(z, y, s, SAMPLES, grad=z)
        np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-7)

    def test_float16_and_int64(self):
        z, y, s = inputs(dtype=np.float16)
        grad = np.empty(z.shape, np.float32)
        self.loss.compute(z, y.astype(np.int64), s, SAMPLES, grad=grad)
        np.testing.assert_allclose(grad, sft_gradient(z, y), rtol=1e-5, atol=1e-7)

    def test_bfloat16_words(self):
        z, y, s = inputs()
        words = (z.view(np.uint32) >> 16).astype(np.uint16)
        z = (words.astype(np.uint32) << 16).view(np.float32)
        grad = np.empty_like(z)
        self.loss.compute(cadft.Tensor(words, "bfloat16"), y, s, SAMPLES, grad=grad)
        np.testing.assert_allclose(grad, sft_gradient(z, y), rtol=1e-5, atol=1e-7)
        with self.assertRaises(cadft.DtypeError):
            self.loss.compute(words, y, s, SAMPLES)

    def test_padded_rows(self):
        z, y, s = inputs()
        wide = np.full((ROWS, VOCAB + 3), np.nan, np.float32)
        wide[:, :VOCAB] = z
        self.loss.compute(wide[:, :VOCAB], y, s, SAMPLES, grad=wide[:, :VOCAB])
        np.testing.assert_allclose(wide[:, :VOCAB], sft_gradient(z, y), rtol=1e-5, atol=1e-7)
        self.assertTrue(np.isnan(wide[:, VOCAB:]).all())

    def test_without_numpy(self):
        z, y, s = inputs()
        flat = array.array("f", z.ravel().tolist())
        grad = array.array("f", bytes(4 * len(flat)))
        report = self.loss.compute(
            memoryview(flat).cast("B").cast("f", (ROWS, VOCAB)), array.array("i", y.tolist()),
            array.array("i", s.tolist()), SAMPLES,
            grad=memoryview(grad).cast("B").cast("f", (ROWS, VOCAB)))
        np.testing.assert_allclose(np.asarray(grad).reshape(ROWS, VOCAB), sft_gradient(z, y),
                                   rtol=1e-5, atol=1e-7)
        self.assertGreater(report.loss, 0)

    def test_dlpack_alone(self):
        class Exporter:  # as torch: no buffer protocol
            def __init__(self, array):
                self.array = array

            def __dlpack__(self, **options):
                return self.array.__dlpack__(**options)

        z, y, s = (Exporter(a) for a in inputs())
        self.loss.compute(z, y, s, SAMPLES, grad=z)
        plain = inputs()
        np.testing.assert_allclose(z.array, sft_gradient(*plain[:2]), rtol=1e-5, atol=1e-7)

    def test_tensor_shares_memory(self):
        z = inputs()[0]
        tensor = cadft.Tensor(z)
        self.assertEqual((tensor.shape, tensor.dtype), (z.shape, "float32"))
        self.assertEqual(cadft.Tensor(np.zeros([1] * 16, np.float32)).shape, (1,) * 16)
        with self.assertRaisesRegex(ValueError, "17 dimensions"):
            cadft.Tensor(np.zeros(1, np.float32).data.cast("B").cast("f", [1] * 17))
        for other in (np.asarray(tensor), np.from_dlpack(tensor)):
            self.assertTrue(np.shares_memory(other, z))
            self.assertEqual(other.shape, z.shape)
        with self.assertRaisesRegex(BufferError, "no copies"):
            tensor.__dlpack__(copy=True)
        with self.assertRaises(BufferError):
            tensor.release()
        del other
        tensor.release()
        with self.assertRaises(ValueError):
            self.loss.compute(tensor, *inputs()[1:], SAMPLES)

    def test_unlike_arrays(self):
        z, y, s = inputs()
        for bad in ([1, 2], None, 3, object()):
            with self.assertRaises(TypeError):
                self.loss.compute(z, bad, s, SAMPLES)
        with self.assertRaises(TypeError):
            self.loss.compute(z.astype(">f4"), y, s, SAMPLES)

    def test_read_only_output(self):
        z, y, s = inputs()
        z.setflags(write=False)
        self.loss.compute(z, y, s, SAMPLES)
        with self.assertRaises(ValueError):
            self.loss.compute(z, y, s, SAMPLES, grad=z)
        with self.assertRaises(ValueError):
            self.loss.compute(z, y, s, SAMPLES, grad=cadft.Tensor(z))

    def test_arrays_are_let_go(self):
        import weakref
        z, y, s = inputs()
        alive = weakref.ref(z)
        self.loss.compute(z, y, s, SAMPLES, grad=z)
        del z
        self.assertIsNone(alive())

    def test_large_buffers_are_not_copied(self):
        rows, vocab = 2048, 32768  # 256 MiB
        z = np.zeros((rows, vocab), np.float32)
        y, s = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
        with cadft.Context(n_threads=1) as context, cadft.Loss(context) as loss:
            tracemalloc.start()
            before = peak_kib()
            loss.compute(z, y, s, 1, grad=z)
            grown = peak_kib() - before
            traced = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            self.assertLess(context.peak_bytes, 4 << 20)
        self.assertLess(traced, 1 << 20)
        # The zeros of z themselves are given pages here.
        self.assertLess(grown, 256 * 1024 + 32 * 1024)
        self.assertNotEqual(z[0, 0], 0)


def peak_kib():
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Errors(unittest.TestCase):
    def test_sentence(self):
        z, y, s = inputs()
        y[2] = 77
        with cadft.Context() as context, cadft.Loss(context) as loss:
            with self.assertRaises(cadft.ArgumentError) as caught:
                loss.compute(z, y, s, SAMPLES)
            error = caught.exception
            self.assertEqual((error.name, error.status), ("CADFT_E_LABEL", -50))
            self.assertIn("77", str(error))
            self.assertEqual(context.last_error, str(error))
            self.assertIsInstance(error, ValueError)
            self.assertEqual(str(pickle.loads(pickle.dumps(error))), str(error))
            loss.compute(z, y % VOCAB, s, SAMPLES)

    def test_non_contiguous(self):
        z, y, s = inputs()
        with cadft.Loss() as loss:
            with self.assertRaisesRegex(cadft.ArgumentError, "stride"):
                loss.compute(np.asfortranarray(z), y, s, SAMPLES)
            with self.assertRaises(cadft.ArgumentError):
                loss.compute(z[::-1], y, s, SAMPLES)
            with self.assertRaises(cadft.ArgumentError):
                loss.compute(z, y, s[:-1], SAMPLES)

    def test_knobs(self):
        with cadft.Loss(beta=2, objective="focal", weighting=False) as loss:
            self.assertEqual([loss.get(n) for n in ("beta", "objective", "weighting")],
                             [2.0, "focal", 0])
            loss.set("beta", 0.5)
            loss.set(scope="running", ignore_index=-7)
            self.assertEqual([loss.get(n) for n in ("beta", "scope", "ignore_index")],
                             [0.5, "running", -7])
            for name, value, kind in (("betta", 1, KeyError), ("beta", -1, ValueError),
                                      ("ddof", 0.5, cadft.KnobError), ("beta", "x", ValueError),
                                      ("scope", "exactly", cadft.ArgumentError),
                                      ("ddof", 2 ** 64, OverflowError), ("beta", [], KeyError),
                                      ("ddof", np.float32(0.5), KeyError)):
                with self.assertRaises(kind):
                    loss.set(name, value)
            with self.assertRaisesRegex(cadft.KnobError, "ddof is 0.5: expected .* an integer"):
                loss.set(ddof=0.5)
            loss.set(beta=np.float32(0.25), weighting=np.bool_(True), ddof=np.int64(1))
            self.assertEqual([loss.get(n) for n in ("beta", "weighting", "ddof")], [0.25, 1, 1])
            with self.assertRaises(KeyError):
                loss.get("BETA")
            with self.assertRaises(cadft.ArgumentError):
                loss.export("something")
        knobs = cadft.Loss.knobs()
        self.assertEqual(knobs["running_decay"], (float, 0.0, knobs["running_decay"].largest, 0.9))
        self.assertGreaterEqual(len(knobs), 21)

    def test_unknown_knob_at_creation(self):
        context = cadft.Context()
        with self.assertRaises(cadft.KnobError):
            cadft.Loss(context, nonsense=1)
        gc.collect()
        self.assertLess(context.bytes, 1 << 20)


class Phases(unittest.TestCase):
    def test_step(self):
        z, y, s = inputs()
        whole, parts = np.empty_like(z), np.empty_like(z)
        with cadft.Loss() as loss:
            expected = loss.compute(z, y, s, SAMPLES, grad=whole)
            batches = [cadft.Batch(z[a:b], y[a:b], s[a:b]) for a, b in ((0, 2), (2, ROWS))]
            with loss.step(SAMPLES) as reports:
                micros = [loss.observe(batch) for batch in batches]
                loss.weigh()
                for micro, batch, part in zip(micros, batches, (parts[:2], parts[2:])):
                    loss.grad(micro, batch, part)
            self.assertEqual(batches[1].rows, ROWS - 2)
            np.testing.assert_array_equal(whole, parts)
            self.assertAlmostEqual(reports[0].loss, expected.loss, places=12)
            with self.assertRaises(cadft.PhaseError):
                loss.weigh()
            with self.assertRaises(ZeroDivisionError):
                with loss.step(SAMPLES):
                    loss.observe(batches[0])
                    1 / 0
            loss.begin(SAMPLES)
            with self.assertRaises(cadft.PhaseError):
                loss.begin(SAMPLES)
            loss.cancel()

    def test_exchange_between_two(self):
        z, y, s = inputs()
        cuts = ((0, 2), (2, ROWS))
        with cadft.Loss() as one, cadft.Loss() as a, cadft.Loss() as b:
            expected = one.compute(z, y, s, SAMPLES)
            for loss, (low, high) in zip((a, b), cuts):
                loss.begin(SAMPLES)
                loss.observe(cadft.Batch(z[low:high], y[low:high], s[low:high]))
            total = sum(np.asarray(loss.export("moments", i, 2)) for i, loss in enumerate((a, b)))
            for loss in (a, b):
                loss.import_("moments", total)
                loss.weigh()
            total = sum(np.asarray(loss.export("report", i, 2)) for i, loss in enumerate((a, b)))
            for loss in (a, b):
                loss.import_("report", total)
                self.assertAlmostEqual(loss.end().loss, expected.loss, places=10)

    def test_rows_and_out(self):
        z, y, s = inputs()
        with cadft.Loss() as loss:
            loss.compute(z, y, s, SAMPLES)
            nll = loss.rows(0, "nll")
            out = np.empty(ROWS)
            self.assertIs(loss.rows(0, "nll", out), out)
            np.testing.assert_array_equal(nll, out)
            np.testing.assert_allclose(loss.samples("c"), out.reshape(3, 2).mean(1))
            with self.assertRaises(cadft.ArgumentError):
                loss.rows(0, "nll", np.empty(ROWS - 1))
            with self.assertRaises(cadft.DtypeError):
                loss.rows(0, "nll", np.empty(ROWS, np.float32))

    def test_row_scale(self):
        z, y, s = inputs()
        unit, scale, grad = np.empty_like(z), np.empty(ROWS, np.float32), np.empty_like(z)
        with cadft.Loss() as loss:
            loss.compute(z, y, s, SAMPLES, grad=grad)
            loss.compute(z, y, s, SAMPLES, grad=unit, row_scale=scale)
            np.testing.assert_allclose(unit * scale[:, None], grad, rtol=1e-5)
            with self.assertRaises(cadft.ArgumentError):
                loss.compute(z, y, s, SAMPLES, grad=unit, row_scale=scale[1:])

    def test_state(self):
        z, y, s = inputs()
        with cadft.Loss(scope="running", reduction="sum") as loss, \
                cadft.Loss(scope="running", reduction="sum") as other:
            loss.compute(z, y, s, SAMPLES)
            other.state_load(loss.state_save())
            self.assertEqual(other.state_save(), loss.state_save())
            self.assertEqual(loss.compute(z, y, s, SAMPLES), other.compute(z, y, s, SAMPLES))
            with self.assertRaises(cadft.DataError):
                other.state_load(b"nothing of ours")


class SampleIds(unittest.TestCase):
    def test_padded(self):
        ids = cadft.sample_ids_padded(2, 3, np.array([1, 3], np.int32), first_id=4)
        self.assertEqual(list(ids), [4, -1, -1, 5, 5, 5])
        self.assertEqual(list(cadft.sample_ids_padded(2, 2)), [0, 0, 1, 1])
        with self.assertRaises(cadft.ArgumentError):
            cadft.sample_ids_padded(2, 3, np.array([1, 4], np.int32))
        with self.assertRaises(cadft.ArgumentError):
            cadft.sample_ids_padded(2, 3, out=np.empty(5, np.int32))

    def test_packed(self):
        ids = np.empty(6, np.int32)
        cadft.sample_ids_cu_seqlens(np.array([0, 2, 5]), 6, out=ids)
        self.assertEqual(ids.tolist(), [0, 0, 1, 1, 1, -1])
        ids, n = cadft.sample_ids_position_ids(np.array([0, 1, 0, 1, 2, 0]))
        self.assertEqual((list(ids), n), ([0, 0, 1, 1, 1, 2], 3))


class Callbacks(unittest.TestCase):
    def test_coefficient(self):
        z, y, s = inputs()
        grad, expected = np.empty_like(z), np.empty_like(z)
        with cadft.Loss(objective="host") as loss, cadft.Loss(objective="dft") as dft:
            loss.set_coefficient(lambda l, p, entropy: np.asarray(p))
            loss.compute(z, y, s, SAMPLES, grad=grad)
            dft.compute(z, y, s, SAMPLES, grad=expected)
            np.testing.assert_array_equal(grad, expected)

    def test_exception_reaches_the_caller(self):
        z, y, s = inputs()

        class Mine(Exception):
            pass

        def fails(l, p, entropy):
            raise Mine("no coefficient today")

        with cadft.Loss(objective="host") as loss:
            loss.set_coefficient(fails)
            with self.assertRaisesRegex(Mine, "today"):
                loss.compute(z, y, s, SAMPLES)
            loss.set_coefficient(lambda l, p, entropy: [1.0])
            with self.assertRaisesRegex(ValueError, "1 values: expected 6"):
                loss.compute(z, y, s, SAMPLES)
            loss.set_coefficient(lambda l, p, entropy: loss.close())
            with self.assertRaisesRegex(cadft.PhaseError, "inside another call"):
                loss.compute(z, y, s, SAMPLES)
            loss.set_coefficient(lambda l, p, entropy: l)
            loss.compute(z, y, s, SAMPLES)
            loss.set_coefficient(None)
            with self.assertRaises(cadft.Error):
                loss.compute(z, y, s, SAMPLES)

    def test_callbacks_are_forgotten(self):
        from cadft import _callbacks
        before = len(_callbacks._kept)
        context = cadft.Context(log=lambda level, text: None)
        loss = cadft.Loss(context, objective="host")
        loss.set_coefficient(lambda l, p, entropy: l)
        loss.set_coefficient(lambda l, p, entropy: p)
        self.assertEqual(len(_callbacks._kept), before + 2)
        context.close()
        self.assertEqual(len(_callbacks._kept), before + 2)
        loss.close()
        self.assertEqual(len(_callbacks._kept), before)


    def test_log(self):
        lines, lost = [], []

        def sink(level, text):
            lines.append((level, text))
            raise ValueError("not today")

        from cadft import _callbacks
        from cadft._ffi import ffi, lib
        user = _callbacks.keep(sink)
        hook, sys.unraisablehook = sys.unraisablehook, lambda lost_: lost.append(lost_.exc_value)
        try:
            lib.cadft_py_log(user, 1, ffi.new("char[]", "Zeile ä".encode()), 8)
        finally:
            sys.unraisablehook = hook
            lib.cadft_py_forget(user)
        self.assertEqual(lines, [(1, "Zeile ä")])
        self.assertEqual(str(lost[0]), "not today")


class Handles(unittest.TestCase):
    def test_any_order(self):
        z, y, s = inputs()
        for first in ("context", "loss"):
            context = cadft.Context()
            loss = cadft.Loss(context)
            handles = {"context": context, "loss": loss}
            handles.pop(first).close()
            if first == "context":
                loss.compute(z, y, s, SAMPLES)
            for handle in (context, loss, context, loss):
                handle.close()
            self.assertTrue(loss.closed and context.closed)
            with self.assertRaisesRegex(ValueError, "loss is closed"):
                loss.compute(z, y, s, SAMPLES)
            with self.assertRaisesRegex(ValueError, "context is closed"):
                cadft.Loss(context)
            with self.assertRaises(cadft.Error):
                context.bytes

    def test_nothing_leaks(self):
        z, y, s = inputs()
        context = cadft.Context(n_threads=2)
        with cadft.Loss(context) as loss:
            loss.compute(z, y, s, SAMPLES)
        before = context.bytes
        for i in range(50):
            loss = cadft.Loss(context)
            loss.set_coefficient(lambda l, p, entropy: l)
            loss.begin(SAMPLES)
            loss.observe(cadft.Batch(z, y, s))
            if i % 2:
                loss.close()
        del loss
        gc.collect()
        self.assertEqual(context.bytes, before)

    def test_the_wheel_carries_its_library(self):
        package = pathlib.Path(cadft.__file__).resolve().parent
        maps = pathlib.Path("/proc/self/maps").read_text()
        for name in ("libcadft.so.0", "libjansson.so.4"):
            loaded = {line.split()[-1] for line in maps.splitlines() if name in line}
            self.assertEqual(loaded, {str(package / name)})
        self.assertTrue((package / "py.typed").exists())
        self.assertEqual(importlib.metadata.metadata("cadft")["Requires-Python"], ">=3.9")

    def test_default_context(self):
        first = cadft.default_context()
        self.assertIs(cadft.Loss().context, first)
        first.close()
        z, y, s = inputs()
        with cadft.Loss() as loss:
            loss.compute(z, y, s, SAMPLES)

    def test_one_owner(self):
        """A copy would destroy what the other still has."""
        with cadft.Loss() as loss:
            for what in (copy.copy, copy.deepcopy, pickle.dumps):
                with self.assertRaisesRegex(TypeError, "loss: a handle is neither copied"):
                    what(loss)
        for refused in ("dft", {"beta": 1}, loss):
            with self.assertRaisesRegex(TypeError, "expected a cadft.Context"):
                cadft.Loss(refused)

    def test_context(self):
        with cadft.Context(1, backend_options="c") as context:
            self.assertEqual((context.workers, context.backend, context.device), (1, "cpu", "c"))
        with self.assertRaises(cadft.BackendError):
            cadft.Context(backend="nothing")
        self.assertEqual(cadft.library_version()[:2], (0, 1))

    def test_one_call_at_a_time(self):
        z, y, s = inputs(rows=600, vocab=4000)
        inside, go_on = threading.Event(), threading.Event()

        def wait(l, p, entropy):
            inside.set()
            go_on.wait(30)
            return l

        with cadft.Loss(objective="host") as loss:
            loss.set_coefficient(wait)
            thread = threading.Thread(target=loss.compute, args=(z, y, s, SAMPLES))
            thread.start()
            inside.wait(30)
            for call in (lambda: loss.compute(z, y, s, SAMPLES), loss.close,
                         lambda: loss.get("beta")):
                with self.assertRaises(cadft.PhaseError):
                    call()
            go_on.set()
            thread.join()

    def test_gil_is_released(self):
        z, y, s = inputs(rows=2000, vocab=8000)
        ticks, stop = [], threading.Event()

        def tick():
            while not stop.wait(0.0005):
                ticks.append(1)

        thread = threading.Thread(target=tick)
        with cadft.Context(n_threads=1) as context, cadft.Loss(context) as loss:
            thread.start()
            for _ in range(5):
                before = len(ticks)
                loss.compute(z, y, s, SAMPLES)
                during = len(ticks) - before
            stop.set()
            thread.join()
        self.assertGreater(during, 0)


if __name__ == "__main__":
    unittest.main()
