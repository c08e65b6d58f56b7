# SPDX-License-Identifier: Apache-2.0
"""Replays the golden cases in the file that GOLDEN_TEXT names, bit for bit."""
import os
import unittest

import cadft
import golden
import numpy as np


def batch_of(micro):
    arrays = {name: cadft.Tensor(array, "bfloat16") if micro.dtypes[name] == "bf16" else array
              for name, array in micro.inputs.items()}
    return cadft.Batch(**arrays, vocab_valid=micro.vocab_valid)


def hexadecimal(values):
    return np.asarray(values).tobytes().hex()


class Golden(unittest.TestCase):
    def gradient(self, loss, number, batch, micro):
        grad = np.zeros(batch.logits.shape, np.float32)
        loss.grad(number, batch, grad)
        rows = {"l": "nll", "k": "k", "scale": "scale"}
        got = {"grad": hexadecimal(grad),
               **{key: hexadecimal(loss.rows(number, what)) for key, what in rows.items()}}
        self.assertEqual(got, micro.expected)

    def take(self, loss, step):
        """In phases. Returns what a step gives."""
        batches = [batch_of(micro) for micro in step.micros]
        exact = loss.get("scope") == "exact"
        with loss.step(step.n_samples) as reports:
            for batch, micro in zip(batches, step.micros):
                number = loss.observe(batch)
                if not exact:
                    loss.weigh()
                    self.gradient(loss, number, batch, micro)
            if exact:
                loss.weigh()
                for number, (batch, micro) in enumerate(zip(batches, step.micros)):
                    self.gradient(loss, number, batch, micro)
            c, w = loss.samples("c"), loss.samples("w")
        return {"c": hexadecimal(c), "w": hexadecimal(w), "loss": hexadecimal(reports[0].loss),
                "mean_w": hexadecimal(reports[0].mean_w)}

    def take_refused(self, loss, step):
        with self.assertRaises(cadft.Error) as caught:
            self.take(loss, step)
        self.assertEqual((caught.exception.status, str(caught.exception)),
                         (step.status, step.message))

    def compute(self, loss, step):
        """A step of one micro-batch in one call."""
        batch, micro = batch_of(step.micros[0]), step.micros[0]
        grad = np.zeros(batch.logits.shape, np.float32)
        report = loss.compute(batch.logits, batch.labels, batch.sample_ids, step.n_samples,
                              grad=grad, k=batch.k, vocab_valid=micro.vocab_valid)
        self.assertEqual(
            {"grad": hexadecimal(grad), "loss": hexadecimal(report.loss),
             "mean_w": hexadecimal(report.mean_w)},
            {"grad": micro.expected["grad"], "loss": step.expected["loss"],
             "mean_w": step.expected["mean_w"]})

    def test_replay(self):
        cases = golden.read(os.environ["GOLDEN_TEXT"])
        counts = {"cases": len(cases), "computed": 0, "refused": 0}
        with cadft.Context() as context:
            for case in cases:
                with self.subTest(case.name), cadft.Loss(context, **case.options) as loss, \
                        cadft.Loss(context, **case.options) as other:
                    for step in case.steps:
                        if step.status:
                            counts["refused"] += 1
                            self.take_refused(loss, step)
                            continue
                        self.assertEqual(self.take(loss, step), step.expected)
                        if len(step.micros) == 1 and len(case.steps) == 1:
                            counts["computed"] += 1
                            self.compute(other, step)
        self.assertGreaterEqual(counts["cases"], 400)
        self.assertGreaterEqual(counts["refused"], 40)
        self.assertGreaterEqual(counts["computed"], 100)
        print("golden:", counts)


if __name__ == "__main__":
    unittest.main()
