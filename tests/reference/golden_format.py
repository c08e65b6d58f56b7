# SPDX-License-Identifier: Apache-2.0
"""The format of the golden files tests/golden/*.json: encoding, decoding, comparing.

A file is a list of cases, one a line:

    array  = {"dtype": f32|bf16|f16|f64|i32|i64, "shape": [...], "hex": little-endian bytes}
    number = 16 hex digits, the eight little-endian bytes of a float64
    case   = {"name", "options": those that differ from Options() in cadft_reference.py,
              "n_samples", "batches": [global batch, ...]}   one optimizer step each, in order
    batch  = {"micro": [{"logits" [rows, V], "labels" [rows] or [B, T], "sample_ids" [rows],
                         "k" [rows] (objective host), "vocab_valid"}, ...],
              "expect": ...}
    expect = {"status": "OK",
              "micro": [{"l", "p", "H", "k", "scale" [rows], "grad" [rows, V]}, ...],
              "n", "c", "chat", "w" [n_samples], "report": {field: number}}
           | {"status": "E_LABEL" or "E_NONFINITE", "micro_index", "row" in that micro-batch,
              "sample", and for E_LABEL "value"}

scale is a_r = w scale_r, without grad_scale; grad is with respect to the raw logits, with
grad_scale, before rounding to any dtype.  A row that does not count has 0 everywhere; a
non-finite row under nonfinite=skip has NaN in l, p, H, k.  A sample outside B has chat NaN
and w 0; its c is +inf if a label of it sits on a masked logit, otherwise NaN.  A report
field that is absent is not specified (mu and sigma when every micro-batch has its own)."""
import dataclasses
import json

import numpy as np

import cadft_reference as ref

NUMPY_TYPE = {"f32": "<f4", "f16": "<f2", "bf16": "<u2", "f64": "<f8", "i32": "<i4", "i64": "<i8"}


# ---------------------------------------------------------------- arrays

def bf16_bits(x):
    """float64 -> float32 -> bfloat16, both to nearest even; NaN -> 0x7fc0."""
    bits = np.asarray(x, dtype=np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)


def quantise(x, dtype):
    """The nearest values of the dtype, as float64."""
    return decode(encode(np.asarray(x, dtype=np.float64), dtype))


def encode(x, dtype):
    x = np.asarray(x)
    values = bf16_bits(x) if dtype == "bf16" else x
    raw = values.astype(NUMPY_TYPE[dtype])
    return {"dtype": dtype, "shape": list(x.shape), "hex": raw.tobytes().hex()}


def decode(array):
    raw = np.frombuffer(bytes.fromhex(array["hex"]), NUMPY_TYPE[array["dtype"]])
    raw = raw.reshape(array["shape"])
    if array["dtype"] == "bf16":
        return (raw.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return raw.astype(np.int64 if array["dtype"][0] == "i" else np.float64)


def number(x):
    return np.array(x, dtype="<f8").tobytes().hex()


def unnumber(text):
    return float(np.frombuffer(bytes.fromhex(text), "<f8")[0])


# ---------------------------------------------------------------- cases

@dataclasses.dataclass
class Spec(ref.Micro):
    """A micro-batch with the dtypes it is stored in."""
    dtype: str = "f32"
    label_dtype: str = "i32"

    def __post_init__(self):
        self.logits = np.array(self.logits, dtype=np.float64)
        self.labels, self.sample_ids = np.asarray(self.labels), np.asarray(self.sample_ids)


def encode_micro(spec):
    out = {"logits": encode(spec.logits, spec.dtype),
           "labels": encode(spec.labels, spec.label_dtype),
           "sample_ids": encode(spec.sample_ids, "i32")}
    if spec.k is not None:
        out["k"] = encode(spec.k, "f64")
    out["vocab_valid"] = int(spec.vocab_valid or spec.logits.shape[1])
    return out


def encode_expect(result):
    if result["status"] != "OK":
        return {key: value for key, value in result.items() if value is not None}
    out = {"status": "OK",
           "micro": [{key: encode(x, "f64") for key, x in m.items()} for m in result["micro"]]}
    out.update({key: encode(result[key], "f64") for key in ("n", "c", "chat", "w")})
    out["report"] = {key: number(x) for key, x in result["report"].items() if not np.isnan(x)}
    return out


def well_conditioned(result, opt):
    """A golden case must not hang on a rounding: no c next to the mean, no tiny sigma, no
    p next to InfoSFT's kink; then every correct implementation agrees to its precision."""
    if result["status"] != "OK":
        return True
    chat, sigma = result["chat"], result["report"]["sigma"]
    c = result["c"][np.isfinite(result["c"])]
    if np.any((np.abs(chat) < 1e-2) & (chat != 0)):
        return False
    if sigma > 0 and opt.beta * np.max(c) > 60 * sigma:   # dw/w = beta dc/sigma
        return False
    p = np.concatenate([m["p"] for m in result["micro"]])
    return opt.objective != "infosft" or not np.any(np.abs(p - opt.infosft_target) < 1e-3)


def make_case(name, batches, n_samples, **options):
    """Runs the reference on batches = [[Spec, ...], ...] and encodes all of it; None if the
    case is not well conditioned.  Rows that do not count are filled with NaN: nobody may
    read them."""
    default = dataclasses.asdict(ref.Options())
    options = {key: value for key, value in options.items() if value != default[key]}
    opt = ref.Options(**options)
    for spec in (s for batch in batches for s in batch):
        spec.logits[~ref.resolve_labels(spec, opt)[1]] = np.nan
        spec.logits = quantise(spec.logits, spec.dtype)
    results = ref.run_case(batches, opt, n_samples)
    if not all(well_conditioned(result, opt) for result in results):
        return None
    return {"name": name, "options": options, "n_samples": n_samples,
            "batches": [{"micro": [encode_micro(s) for s in batch],
                         "expect": encode_expect(result)}
                        for batch, result in zip(batches, results)]}


def decode_batches(case):
    """The inputs of a stored case, as run_case takes them."""
    return [[ref.Micro(decode(m["logits"]), decode(m["labels"]), decode(m["sample_ids"]),
                       decode(m["k"]) if "k" in m else None, m["vocab_valid"])
             for m in batch["micro"]] for batch in case["batches"]]


def load(path):
    return json.loads(path.read_text())


def same_expect(want, got, rtol, what):
    """Raises AssertionError unless both agree; arrays and numbers to rtol."""
    if isinstance(want, dict) and "hex" in want:
        head = [want["dtype"], want["shape"]]
        assert head == [got["dtype"], got["shape"]], what
        if want["dtype"] == "f64":
            np.testing.assert_allclose(decode(got), decode(want), rtol, err_msg=what)
        else:
            assert want["hex"] == got["hex"], what
    elif isinstance(want, dict):
        assert want.keys() == got.keys(), (what, want.keys(), got.keys())
        for key in want:
            if key == "report":
                assert want[key].keys() == got[key].keys(), what
                for name in want[key]:
                    np.testing.assert_allclose(unnumber(got[key][name]), unnumber(want[key][name]),
                                               rtol, err_msg=f"{what}: {name}")
            else:
                same_expect(want[key], got[key], rtol, f"{what}: {key}")
    elif isinstance(want, list):
        assert len(want) == len(got), what
        for i, (a, b) in enumerate(zip(want, got)):
            same_expect(a, b, rtol, f"{what}[{i}]")
    else:
        assert want == got, (what, want, got)
