#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""examples/finetune from end to end, on a tiny model with byte tokens.

    test_finetune.py FINETUNE [unittest arguments]

A run that was stopped, killed or had other threads must end with the bits of one that was
never disturbed. The seed of the random kills is printed; KILL_SEED repeats it, KILLS says
how many."""
import array
import csv
import hashlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

FINETUNE = sys.argv.pop(1)
VOCAB, HIDDEN, INNER, LAYERS = 258, 32, 64, 2


def write_model(folder, seed=0):
    """A Llama of random weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "eos_token_id": 256, "attention_bias": False,
        "mlp_bias": False}))
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        for name, shape in {
                "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (HIDDEN // 2, HIDDEN),
                "self_attn.v_proj": (HIDDEN // 2, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
                "mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN),
                "mlp.down_proj": (HIDDEN, INNER), "input_layernorm": (HIDDEN,),
                "post_attention_layernorm": (HIDDEN,)}.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    normal, head, values = random.Random(seed), {}, array.array("f")
    for name, shape in shapes.items():
        start, size = 4 * len(values), shape[0] * (shape[1] if len(shape) > 1 else 1)
        values.extend([1.0] * size if len(shape) == 1
                      else [normal.gauss(0, 0.08) for _ in range(size)])
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, 4 * len(values)]}
    text = json.dumps(head).encode()
    (folder / "model.safetensors").write_bytes(
        struct.pack("<Q", len(text)) + text + values.tobytes())


def write_data(path, n, seed=1):
    draw = random.Random(seed)
    with path.open("w") as file:
        for _ in range(n):
            a, b = draw.randrange(20), draw.randrange(20)
            good = draw.random() > 0.3
            answer = str(a + b) if good else "".join(draw.choices("xyzqk#", k=draw.randrange(2, 12)))
            file.write(json.dumps({"prompt": f"{a}+{b}=", "completion": answer,
                                   "group": "clean" if good else "mismatched"}) + "\n")


class Finetune(unittest.TestCase):
    def setUp(self):
        self.at = pathlib.Path(tempfile.mkdtemp(prefix="finetune-"))
        self.addCleanup(shutil.rmtree, self.at)
        write_model(self.at / "model")
        write_data(self.at / "train.jsonl", 100)

    def command(self, out, *more, model="model", data="train.jsonl"):
        return [FINETUNE, "--model", str(self.at / model), "--data", str(self.at / data),
                "--out", str(self.at / out), "--tokenizer", "bytes", "--batch", "8",
                "--micro-tokens", "64", "--lr", "3e-3", "--save-every", "3", *more]

    def run_it(self, command, status=0, **how):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120,
                              check=False, **how)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def finetune(self, out, *more, **how):
        return self.run_it(self.command(out, *more), **how)

    def digest(self, out):
        """The final weights, and all metrics but the time."""
        folder = self.at / out
        with (folder / "metrics.csv").open() as file:
            rows = [{k: v for k, v in row.items() if k != "seconds"}
                    for row in csv.DictReader(file)]
        lines = [json.loads(line)
                 for line in (folder / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual([int(r["step"]) for r in rows], list(range(1, len(rows) + 1)))
        self.assertEqual([r["step"] for r in lines], list(range(1, len(rows) + 1)))
        weights = (folder / "final" / "model.safetensors").read_bytes()
        facts = json.loads((folder / "summary.json").read_text())
        return hashlib.sha256(weights).hexdigest(), rows, facts

    def tree(self):
        return {str(p.relative_to(self.at)): p.stat().st_mtime_ns
                for p in sorted(self.at.rglob("*"))}

    def stop_at(self, out, step, number, *more):
        """Start, and send a signal as soon as the metrics have a step."""
        path = self.at / out / "metrics.csv"
        with subprocess.Popen(self.command(out, *more), stderr=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, text=True) as child:
            end = time.monotonic() + 60
            while child.poll() is None and time.monotonic() < end:
                if path.exists() and path.read_text().count("\n") > step:
                    child.send_signal(number)
                    break
                time.sleep(0.001)
            said = child.communicate(timeout=60)[1]
        return child.returncode, said

    # ------------------------------------------------------------- same bits

    def test_threads(self):
        self.finetune("one", "--threads", "1")
        self.finetune("two", "--threads", "2")
        self.assertEqual(self.digest("one"), self.digest("two"))
        self.finetune("less", "--checkpointing")
        self.assertEqual(self.digest("one"), self.digest("less"))

    def test_signals(self):
        more = "--epochs", "20", "--second-moment", "4"
        self.finetune("straight", *more)
        for number in signal.SIGINT, signal.SIGTERM:
            with self.subTest(number):
                out = f"by{number}"
                status, said = self.stop_at(out, 5, number, *more)
                self.assertEqual(status, 128 + number, said)
                self.assertIn("goes on from there", said)
                done = self.finetune(out, *more)
                self.assertIn("going on after step", done.stderr)
                self.assertEqual(self.digest(out), self.digest("straight"))

    def test_kills(self):
        """Also of a run that rewrites targets: those must be the same ones."""
        seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(1 << 30)))
        kills = int(os.environ.get("KILLS", 6))
        print(f"KILL_SEED={seed}", file=sys.stderr)
        draw = random.Random(seed)
        more = ("--epochs", "8", "--rewrite", "--set", "rewrite.interval=8",
                "--set", "rewrite.warmup_fraction=0.3", "--set", "rewrite.fraction=0.2",
                "--set", "rewrite.require_end=0")
        start = time.monotonic()
        self.finetune("straight", *more)
        length = time.monotonic() - start
        straight = self.digest("straight")
        self.assertGreater(int(straight[1][-1]["rewrites"]), 5)
        for _ in range(kills):
            with subprocess.Popen(self.command("killed", *more), stderr=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL) as child:
                time.sleep(draw.random() * length)
                child.kill()
        self.finetune("killed", *more)
        self.assertEqual(self.digest("killed"), straight)

    def test_scopes(self):
        """Also: each resumes, the running one with its statistics."""
        ends = set()
        for scope in "exact", "running", "local":
            with self.subTest(scope):
                more = "--scope", scope, "--epochs", "3"
                self.finetune(scope, *more)
                self.stop_at(f"{scope}-2", 7, signal.SIGKILL, *more)
                self.finetune(f"{scope}-2", *more)
                self.assertEqual(self.digest(scope), self.digest(f"{scope}-2"))
                ends.add(self.digest(scope)[0])
        self.assertEqual(len(ends), 3)

    def test_one_micro_batch_is_as_exact(self):
        """The kept forward pass of scope exact is no other than a new one: a batch that
        fits one micro-batch gives nearly the gradient of the same batch in pieces."""
        self.finetune("pieces", "--steps", "1", "--micro-tokens", "24")
        self.finetune("whole", "--steps", "1", "--micro-tokens", "2048")
        self.assertEqual(len(self.digest("pieces")[1]), 1)
        a, b = (self.digest(x)[1][0] for x in ("pieces", "whole"))
        for name in "loss", "nll", "mean_w", "grad_norm":
            self.assertAlmostEqual(float(a[name]) / float(b[name]), 1, 5)

    # --------------------------------------- numbers that are known otherwise

    def test_scopes_of_one_micro_batch(self):
        """In its first step each scope sees the same samples: the same bits."""
        whole = "--steps", "1", "--micro-tokens", "2048"
        for reduction in "token_mean", "sample_sum", "sample_mean", "sum":
            ends = set()
            for scope in "exact", "running", "local":
                out = f"{reduction}-{scope}"
                self.finetune(out, *whole, "--scope", scope, "--set", f"loss.reduction={reduction}")
                ends.add(self.digest(out)[0])
            self.assertEqual(len(ends), 1, reduction)

    def test_scopes_of_sft(self):
        """Without weights the scopes differ in the order of a sum only."""
        norms = []
        for scope in "exact", "running", "local":
            self.finetune(scope, "--objective", "sft", "--scope", scope, "--steps", "1")
            norms.append(float(self.digest(scope)[1][0]["grad_norm"]))
        for norm in norms:
            self.assertAlmostEqual(norm / norms[0], 1, 5)

    def test_second_moment(self):
        """The mean of the squared norms of the gradients of steps of one sample each, by a
        model that stays as it is."""
        self.finetune("out", "--batch", "1", "--steps", "5", "--second-moment", "5", "--objective",
                      "dft", "--lr", "1e-30")
        _, rows, facts = self.digest("out")
        squares = [float(row["grad_norm"]) ** 2 for row in rows]
        self.assertAlmostEqual(sum(squares) / 5 / facts["moment_before"], 1, 6)
        self.assertEqual(facts["moment_before"], facts["moment_after"])
        self.finetune("cadft", "--batch", "1", "--steps", "5", "--second-moment", "5")
        self.assertLess(self.digest("cadft")[2]["moment_before"], facts["moment_before"])

    def test_evaluation(self):
        """Held out is what is trained on: NLL before is that of a step of all samples."""
        self.finetune("out", "--eval-file", str(self.at / "train.jsonl"), "--batch", "100",
                      "--steps", "1")
        _, rows, facts = self.digest("out")
        self.assertAlmostEqual(float(rows[0]["token_nll"]), facts["nll_before"], 6)
        self.assertAlmostEqual(float(rows[0]["mean_p"]), facts["p_before"], 6)
        self.assertAlmostEqual(float(rows[0]["eval_nll"]), facts["nll_after"], 6)

    # ------------------------------------------------------------- behaviour

    def test_trains(self):
        done = self.finetune("out", "--epochs", "4", "--objective", "sft")
        facts = self.digest("out")[2]
        self.assertLess(facts["nll_after"], facts["nll_before"] - 0.5)
        self.assertIn("sft", done.stdout)

    def test_finished(self):
        first = self.finetune("out")
        before = self.tree()
        second = self.finetune("out")
        self.assertIn("all 12 steps were done", second.stderr)
        self.assertEqual(first.stdout, second.stdout)
        self.assertEqual(before, self.tree())

    def test_objectives(self):
        done = self.finetune("out", "--objective", "sft,dft,cadft,eaft+w")
        rows = {}
        for name in "sft", "dft", "cadft", "eaft+w":
            self.assertIn(name, done.stdout)
            rows[name] = self.digest(f"out/{name}")[1]
            self.assertEqual(rows[name][0]["nll"], rows["sft"][0]["nll"])
        self.assertEqual({float(r["mean_w"]) for r in rows["dft"]}, {1.0})
        self.assertLess(float(rows["cadft"][0]["mean_w"]), 1)
        self.assertNotEqual(rows["sft"][5]["nll"], rows["dft"][5]["nll"])
        for name in "sft", "cadft":
            self.finetune(name, "--objective", name)
            self.assertEqual(self.digest(name), self.digest(f"out/{name}"))

    def test_objectives_stopped(self):
        """In the second of two: the first is not done again."""
        more = "--objective", "sft,cadft", "--epochs", "8"
        self.finetune("straight", *more)
        path = self.at / "out" / "cadft" / "metrics.csv"
        with subprocess.Popen(self.command("out", *more), stderr=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL) as child:
            while child.poll() is None and not path.exists():
                time.sleep(0.001)
            child.send_signal(signal.SIGINT)
        self.assertEqual(child.returncode, 130)
        done = self.finetune("out", *more)
        self.assertIn("out/sft: all 95 steps were done", done.stderr)
        for name in "sft", "cadft":
            self.assertEqual(self.digest(f"straight/{name}"), self.digest(f"out/{name}"))

    def test_dry_run(self):
        before = self.tree()
        done = self.finetune("out", "--dry-run")
        self.assertEqual(before, self.tree())
        for text in "steps", "activations", "optimizer", "held out":
            self.assertIn(text, done.stdout)
        self.assertRegex(done.stdout, "rewriting +off")
        done = self.finetune("out", "--dry-run", "--rewrite", "--steps", "12")
        self.assertRegex(done.stdout, "rewriting, first at step +[1-9]")

    def test_freeze(self):
        self.finetune("out", "--freeze", "model.embed*", "--freeze", "*.mlp.*")
        old = (self.at / "model" / "model.safetensors").read_bytes()
        new = (self.at / "out" / "final" / "model.safetensors").read_bytes()
        head = json.loads(new[8:8 + struct.unpack("<Q", new[:8])[0]])
        for name, same in {"model.embed_tokens.weight": True, "model.norm.weight": False,
                           "model.layers.0.mlp.up_proj.weight": True}.items():
            found = []
            for file in old, new:
                size = struct.unpack("<Q", file[:8])[0]
                begin, end = json.loads(file[8:8 + size])[name]["data_offsets"]
                found.append(file[8 + size + begin:8 + size + end])
            self.assertEqual(found[0] == found[1], same, name)
        self.assertIn("model.norm.weight", head)

    def test_rewriting(self):
        """Prompts short and long, which cannot all be continued together; a target of two
        parts, which is left alone."""
        with (self.at / "train.jsonl").open("w") as file:
            for i in range(60):
                file.write(json.dumps({"prompt": "?" * (i * 4 + 1), "completion": "abc" * 4}) + "\n")
            for _ in range(4):
                file.write('{"tokens": [1, 2, 3, 4, 5], "labels": [-100, 2, -100, 4, 5]}\n')
        every = ("--rewrite", "--set", "rewrite.interval=1", "--set", "rewrite.warmup_steps=8",
                 "--set", "rewrite.fraction=1", "--set", "rewrite.probability=1",
                 "--set", "rewrite.min_observations=1", "--set", "rewrite.threshold=-9",
                 "--micro-tokens", "600", "--steps", "16", "--eval-share", "0")
        self.finetune("all", *every, "--set", "rewrite.require_end=0")
        self.assertEqual(self.digest("all")[1][-1]["rewrites"], "60")
        self.finetune("ended", *every)
        most, some = ([int(row["rewrites"]) for row in self.digest(out)[1]]
                      for out in ("all", "ended"))
        self.assertEqual(most[7], 0)
        self.assertGreater(most[8], 40)
        self.assertLess(some[8], most[8])

    def test_held_out_file(self):
        write_data(self.at / "held.jsonl", 9, seed=5)
        done = self.finetune("out", "--eval-file", str(self.at / "held.jsonl"), "--dry-run")
        self.assertRegex(done.stdout, r"samples to train on +100\b")
        self.assertRegex(done.stdout, r"samples held out +9\b")

    # ------------------------------------------------- going on with others

    def test_other_settings(self):
        write_data(self.at / "other.jsonl", 100, seed=9)
        write_model(self.at / "other", seed=3)
        self.finetune("out", "--steps", "6")
        before = self.tree()
        for more, named in {
                ("--steps", "7"): "steps", ("--steps", "6", "--lr", "1e-3"): "optimizer.lr",
                ("--steps", "6", "--seed", "2"): "the ",
                ("--steps", "6", "--objective", "dft"): "loss.weighting",
                ("--steps", "6", "--set", "loss.beta=2"): "loss.beta",
                ("--steps", "6", "--freeze", "*norm*"): "freeze",
                ("--steps", "6", "--data", str(self.at / "other.jsonl")): "data",
                ("--steps", "6", "--model", str(self.at / "other")): "the model"}.items():
            with self.subTest(named):
                done = self.finetune("out", *more, status=1)
                self.assertIn(named, done.stderr)
                self.assertIn("--fresh", done.stderr)
                self.assertEqual(before, self.tree())
        self.finetune("out", "--steps", "6", "--threads", "2", "--lr", "0.003")
        self.finetune("out", "--steps", "4", "--lr", "1e-3", "--fresh")
        self.finetune("new", "--steps", "4", "--lr", "1e-3")
        self.assertEqual(self.digest("out"), self.digest("new"))
        self.assertEqual(sorted(os.listdir(self.at / "out")), sorted(os.listdir(self.at / "new")))

    def test_damaged_checkpoint(self):
        self.finetune("out", "--steps", "6")
        for file in "host.state", "model.safetensors", "optimizer.safetensors", "checkpoint.json":
            with self.subTest(file):
                path = self.at / "out" / "step-00000006" / file
                good = path.read_bytes()
                path.write_bytes(good[:-20] + b"x" + good[-19:])
                done = self.finetune("out", "--steps", "6", status=1)
                self.assertIn("step-00000006", done.stderr)
                self.assertIn("remove that checkpoint", done.stderr)
                path.write_bytes(good)
        self.finetune("out", "--steps", "6")

    def test_full_disk(self):
        """A file may not grow beyond a limit: the checkpoint that fails leaves the one
        before it, from which the next run goes on."""
        self.finetune("straight", "--steps", "6")
        size = (self.at / "model" / "model.safetensors").stat().st_size

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size - 9, size - 9))
        done = self.run_it(self.command("full", "--steps", "6"), status=1, preexec_fn=limit,
                           restore_signals=False)
        self.assertIn("full", done.stderr)
        self.finetune("full", "--steps", "6")
        self.assertEqual(self.digest("full"), self.digest("straight"))

    # --------------------------------------------------------------- refusals

    def test_usage(self):
        for command, said in {
                ("--model", "x"): "--data FILE is missing",
                ("--batch", "0"): "whole number from 1",
                ("--batch", "2.5"): "whole number from 1",
                ("--steps", "x"): "whole number from 1",
                ("--set", "loss=1"): "NOUN.KEY=VALUE",
                ("--set", "host.x=1"): "NOUN.KEY=VALUE",
                ("--set", "loss.objective=sft"): "use --objective",
                ("--set", "loss.gamma=1"): '"gamma" is not a key of loss',
                ("--objective", "sft,,dft"): "names between commas",
                ("--objective", "sft,sft"): "twice",
                ("--objective", "../x"): "names between commas",
                ("--format", "html"): "auto, plain, chat",
                ("--max-length", "4096"): "--micro-tokens",
                ("--nonsense",): "unrecognized option",
                ("more",): "more"}.items():
            with self.subTest(command):
                done = self.run_it([FINETUNE, *command] if "--model" in command
                                   else self.command("out", *command), status=2)
                self.assertIn(said, done.stderr)

    def test_refusals(self):
        at = self.at
        (at / "empty.jsonl").write_text("")
        (at / "bad.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "c"}\n')
        (at / "file").write_text("")
        (at / "gone").mkdir()
        (at / "nonsense").mkdir()
        (at / "nonsense" / "config.json").write_text("{}")
        before = self.tree()
        for more, said in {
                ("--data", f"{at}/none.jsonl"): "none.jsonl",
                ("--data", f"{at}/empty.jsonl"): "empty.jsonl",
                ("--data", f"{at}/model"): "model",
                ("--data", f"{at}/bad.jsonl"): "bad.jsonl, line 2",
                ("--model", f"{at}/gone"): "config.json",
                ("--model", f"{at}/nonsense"): "vocab_size",
                ("--tokenizer", f"{at}/gone"): "tokenizer",
                ("--format", "chat"): "chat template",
                ("--batch", "1000"): "95 samples to train on",
                ("--max-length", "4"): "no line can be used",
                ("--out", f"{at}/file"): "file",
                ("--out", f"{at}/file/out"): "file",
                ("--objective", "best"): "best",
                ("--set", "loss.beta=-1"): "loss.beta",
                ("--lr", "much"): "optimizer.lr",
                ("--scope", "all"): "loss.scope",
                ("--dtype", "f8"): "model.weight_dtype",
                ("--freeze", "nothing*"): "nothing*",
                ("--freeze", "*"): "",
                ("--set", "optimizer.warmup_steps=100", "--steps", "10"): "warm"}.items():
            with self.subTest(more):
                done = self.finetune("out/deep", *more, status=1)
                self.assertIn(said, done.stderr)
                self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
                self.assertEqual(before.keys(), self.tree().keys())

    def test_two_at_once(self):
        with subprocess.Popen(self.command("out", "--steps", "2000"), stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as child:
            while not (self.at / "out" / "metrics.csv").exists():
                time.sleep(0.01)
            done = self.finetune("out", "--steps", "2000", status=1)
            child.kill()
        self.assertIn("another finetune", done.stderr)

    def test_bad_lines(self):
        with (self.at / "train.jsonl").open("a") as file:
            file.write('{"prompt": "a", "completion": ""}\n')
        done = self.finetune("out", "--bad-lines", "skip")
        self.assertIn("1 bad lines skipped", done.stderr)
        self.assertIn("line 101", done.stderr)


if __name__ == "__main__":
    unittest.main()
