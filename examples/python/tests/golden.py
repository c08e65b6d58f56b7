# SPDX-License-Identifier: Apache-2.0
"""Reads golden cases as text (doc/bindings.md)."""
import pathlib

import numpy as np

# bfloat16 stays the words it is.
TYPES = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "f64": np.float64,
         "i32": np.int32, "i64": np.int64}
INPUTS = {"logits", "labels", "sample_ids", "k"}


class Micro:
    """A micro-batch and what is expected of it."""

    def __init__(self, vocab_valid):
        self.vocab_valid, self.dtypes, self.inputs, self.expected = vocab_valid, {}, {}, {}


class Step:
    """A step: micro-batches, results, status and sentence."""

    def __init__(self, n_samples):
        self.n_samples, self.micros, self.expected = n_samples, [], {}
        self.status, self.message = None, ""


class Case:
    """A case: knobs and steps."""

    def __init__(self, name):
        self.name, self.options, self.steps = name, {}, []


def _array(words):
    dtype, ndim = words[0], int(words[1])
    shape = [int(word) for word in words[2:2 + ndim]]
    data = bytes.fromhex(words[2 + ndim] if len(words) > 2 + ndim else "")
    return dtype, np.frombuffer(data, TYPES[dtype]).reshape(shape).copy()


def read(path):
    """The cases of a file. Lines `grad` to `scale` are those of the
    micro-batches in their order."""
    cases = []
    for line in pathlib.Path(path).read_text("utf-8").splitlines():
        key, *words = line.split(" ")
        if key == "case":
            cases.append(Case(" ".join(words)))
        elif key == "option":
            cases[-1].options[words[0]] = words[1]
        elif key == "step":
            step, given = Step(int(words[0])), -1
            cases[-1].steps.append(step)
        elif key == "micro":
            step.micros.append(Micro(int(words[0])))
        elif key in INPUTS and len(words) > 1:
            micro = step.micros[-1]
            micro.dtypes[key], micro.inputs[key] = _array(words)
        elif key in ("grad", "l", "k", "scale"):
            given += key == "grad"
            step.micros[given].expected[key] = words[0]
        elif key == "status":
            step.status, step.message = int(words[0]), " ".join(words[1:])
        else:
            step.expected[key] = words[0]
    return cases
