#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program examples/generate: what it writes, and how it ends.

    program.py PROGRAM GOLDEN_MODELS

Against the greedy tokens of the golden models, and with a model of random weights whose
tokens are bytes."""
import array
import json
import math
import pathlib
import random
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAM = MODELS = None
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16,
          "intermediate_size": 24, "num_hidden_layers": 1,
          "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-5,
          "max_position_embeddings": 100000, "tie_word_embeddings": False,
          "hidden_act": "silu", "rope_theta": 10000.0}


def read_safetensors(path, *names):
    data = path.read_bytes()
    n, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + n])
    for name in names:
        begin, end = header[name]["data_offsets"]
        assert header[name]["dtype"] == "I32"
        yield array.array("i", data[8 + n + begin:8 + n + end]).tolist()


def write_model(folder, vocab=260):
    """Random weights, as a folder of transformers."""
    rng, hidden, inner = random.Random(1), 16, 24
    layer = "model.layers.0."
    shapes = {"model.embed_tokens.weight": (vocab, hidden), "lm_head.weight": (vocab, hidden),
              "model.norm.weight": (hidden,), layer + "input_layernorm.weight": (hidden,),
              layer + "post_attention_layernorm.weight": (hidden,),
              layer + "self_attn.q_proj.weight": (hidden, hidden),
              layer + "self_attn.k_proj.weight": (8, hidden),
              layer + "self_attn.v_proj.weight": (8, hidden),
              layer + "self_attn.o_proj.weight": (hidden, hidden),
              layer + "mlp.gate_proj.weight": (inner, hidden),
              layer + "mlp.up_proj.weight": (inner, hidden),
              layer + "mlp.down_proj.weight": (hidden, inner)}
    header, body = {}, b""
    for name, shape in shapes.items():
        value = array.array("f", [rng.gauss(0, 1) for _ in range(math.prod(shape))]).tobytes()
        header[name] = {"dtype": "F32", "shape": shape,
                        "data_offsets": [len(body), len(body) + len(value)]}
        body += value
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": vocab}),
                                       encoding="utf-8")


def run(*arguments, text=b""):
    return subprocess.run([PROGRAM, *map(str, arguments)], input=text, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False)


class Golden(unittest.TestCase):
    def test_greedy_tokens(self):
        checked = 0
        for folder in sorted(MODELS.iterdir()):
            tokens, starts, lengths, greedy = read_safetensors(
                folder / "expected.safetensors", "tokens", "cu_seqlens", "greedy_prompt", "greedy")
            count = len(greedy) // len(lengths)
            for i, (start, n) in enumerate(zip(starts, lengths)):
                want = greedy[i * count:(i + 1) * count]
                prompt = " ".join(map(str, tokens[start:start + n]))
                done = run("--model", folder, "--ids", "--prompt", prompt, "--max-new-tokens",
                           len(want), "--threads", 1)
                self.assertEqual(done.stderr, b"")
                self.assertEqual([*map(int, done.stdout.split())], want, folder)
                checked += 1
        self.assertGreater(checked, 20)


class Bytes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.scratch.name)
        write_model(cls.folder)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def generate(self, *arguments, text=b""):
        return run("--model", self.folder, "--tokenizer", "bytes", *arguments, text=text)

    def check_refused(self, says, *arguments, text=b"", status=2):
        done = self.generate(*arguments, text=text)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(says.encode(), done.stderr)
        self.assertEqual(done.stdout, b"")

    def test_text_is_utf8(self):
        for seed in range(20):
            done = self.generate("--prompt", "a", "--temperature", 1, "--seed", seed)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(done.stdout.decode().endswith("\n"))

    def test_same_seed_same_text(self):
        arguments = ["--prompt", "ab", "--temperature", 1, "--top-p", 0.9]
        first = self.generate(*arguments, "--seed", 3, "--threads", 1).stdout
        self.assertEqual(first, self.generate(*arguments, "--seed", 3, "--threads", 2).stdout)
        self.assertEqual(first, self.generate(*arguments[2:], "--seed", 3, text=b"ab\n").stdout)
        self.assertNotEqual(first, self.generate(*arguments, "--seed", 4).stdout)

    def test_ids_and_text_agree(self):
        ids = run("--model", self.folder, "--ids", text=b"257 97\n").stdout.split()
        text = self.generate("--prompt", "a").stdout
        bytes_before_end = []
        for token in map(int, ids):
            if token == 256:
                break
            bytes_before_end += [token] if token < 256 else []
        self.assertEqual(bytes(bytes_before_end).decode(errors="replace") + "\n", text.decode())

    def test_stops_at_the_end(self):
        counts = set()
        for seed in range(20):
            done = self.generate("--prompt", "a", "--temperature", 3, "--stats", "--seed", seed,
                                 "--max-new-tokens", 2000)
            counts.add(int(done.stderr.split(b"text: ")[1].split()[0]))
        self.assertLess(min(counts), 2000)  # about one token in 260 ends it

    def test_dtypes(self):
        for dtype in ("stored", "f32", "bf16"):
            self.assertEqual(self.generate("--prompt", "a", "--dtype", dtype).returncode, 0)

    def test_refused(self):
        self.check_refused("--dtype f16: expected", "--dtype", "f16")
        self.check_refused("--top-p 0: expected", "--top-p", "0")
        self.check_refused("--temperature nan: expected", "--temperature", "nan")
        self.check_refused("--max-new-tokens 0: expected", "--max-new-tokens", "0")
        self.check_refused("--seed 1x: expected", "--seed", "1x")
        self.check_refused("unrecognized option", "--nonsense")
        self.check_refused("x: not expected here", "x")
        self.check_refused("no chat template", "--chat", "--prompt", "a")
        self.check_refused("expected token ids", "--ids", text=b"1 2 x")
        self.check_refused("expected token ids", "--ids", text=b"1 -2")
        self.check_refused("the prompt is empty", "--ids", text=b" \n")
        self.check_refused("100000", "--prompt", "a", "--max-new-tokens", "100000")
        done = run("--model", self.folder / "nothing", "--tokenizer", "bytes", text=b"a")
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"nothing", done.stderr)
        self.assertEqual(run("--prompt", "a").returncode, 2)
        self.assertEqual(run("--help").returncode, 0)

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "--model", self.folder, "--tokenizer", "bytes",
                                   "--prompt", "a"], stdout=full, stderr=subprocess.PIPE,
                                  check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"cannot write", done.stderr)

    def test_interrupt(self):
        child = subprocess.Popen([PROGRAM, "--model", self.folder, "--ids", "--prompt", "1",
                                  "--max-new-tokens", "99000"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
        child.stdout.read(1)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 130)
        self.assertTrue(out.endswith(b"\n"))
        self.assertEqual(err, b"")


if __name__ == "__main__":
    MODELS, PROGRAM = pathlib.Path(sys.argv.pop(2)), sys.argv.pop(1)
    unittest.main()
