#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Trainer of transformers and the SFTTrainer of TRL with cadft.trainer.

    PYTHON tests/bindings/huggingface.py [-v] [TEST...]

By hand, with a Python that has the cadft package and, from PyPI, torch,
transformers, trl, datasets and accelerate; the versions are printed. Models are
small and random, nothing is fetched. Gradients are those at the first optimizer
step; differences are relative to the largest entry of a parameter's gradient."""
import logging
import os
import re
import subprocess
import sys
import tempfile
import unittest
import warnings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
warnings.filterwarnings("ignore")

import cadft  # noqa: E402
import cadft.torch  # noqa: E402
import cadft.trainer  # noqa: E402
import datasets  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402
from tokenizers import Tokenizer, models  # noqa: E402

VOCAB, SEQUENCES, MOST = 97, 16, 24
transformers.logging.set_verbosity_error()
logging.disable(logging.WARNING)


def model(dtype=torch.float32):
    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.3)
    return transformers.LlamaForCausalLM(config).to(dtype)


def tokenizer():
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, **{f"w{i}": i for i in range(4, VOCAB)}}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")), pad_token="<pad>",
        bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def examples():
    """Prompt and answer of various lengths; the prompt is not trained on."""
    g = torch.Generator().manual_seed(3)
    rows = []
    for _ in range(SEQUENCES):
        prompt, answer = (int(torch.randint(2, MOST // 2, (1,), generator=g)) for _ in range(2))
        ids = torch.randint(4, VOCAB, (prompt + answer,), generator=g).tolist()
        rows.append({"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]})
    return datasets.Dataset.from_list(rows)


def padded(rows):
    width = max(len(r["input_ids"]) for r in rows)

    def pad(values, filler):
        return torch.tensor([list(v) + [filler] * (width - len(v)) for v in values])

    return {"input_ids": pad([r["input_ids"] for r in rows], 0),
            "labels": pad([r["labels"] for r in rows], -100),
            "attention_mask": pad([[1] * len(r["input_ids"]) for r in rows], 0)}


COLLATORS = {"padded": padded, "packed": transformers.DataCollatorWithFlattening()}


class Gradients(transformers.TrainerCallback):
    """Keeps the gradient of each step."""

    def __init__(self):
        self.steps = []

    @property
    def found(self):
        return self.steps[0]

    def on_pre_optimizer_step(self, args, state, control, model=None, **rest):
        self.steps.append({n.removeprefix("module.").removeprefix("_orig_mod."): p.grad.clone()
                           for n, p in model.named_parameters()})


class HfTrainer(cadft.trainer.TrainerMixin, transformers.Trainer):
    pass


class SftTrainer(cadft.trainer.TrainerMixin, trl.SFTTrainer):
    pass


def arguments(folder, batch, accumulate, kind=transformers.TrainingArguments, **more):
    return kind(output_dir=folder, per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulate, use_cpu=True, report_to=[],
                save_strategy="no", max_grad_norm=0, seed=1, data_seed=1, disable_tqdm=True,
                **{"max_steps": 1, "logging_steps": 1, "learning_rate": 1e-3, **more})


def train(kind, batch, accumulate, collator="padded", attach=None, before=None, extra=None,
          **names):
    """The gradient of the first step, the log, the trainer."""
    kept = Gradients()
    with tempfile.TemporaryDirectory() as folder:
        trainer = kind(model=names.pop("model", None) or model(),
                       args=arguments(folder, batch, accumulate, **(extra or {})),
                       train_dataset=examples(), data_collator=COLLATORS[collator],
                       callbacks=[kept], **names)
        if attach is not None:
            attach.attach(trainer)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return kept.found, trainer.state.log_history, trainer


def sft(kind, batch, accumulate, padding_free, names=None, **config):
    kept = Gradients()
    with tempfile.TemporaryDirectory() as folder:
        trainer = kind(
            model=model(), train_dataset=examples(), processing_class=tokenizer(),
            args=arguments(folder, batch, accumulate, trl.SFTConfig, max_length=None,
                           padding_free=padding_free, gradient_checkpointing=False, bf16=False,
                           **config), callbacks=[kept], **(names or {}))
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return kept.found, trainer.state.log_history, trainer


def distance(a, b):
    return max(float((a[n] - b[n]).abs().max() / b[n].abs().max()) for n in b)


class Case(unittest.TestCase):
    def close(self, what, a, b, bound=1e-6):
        found = distance(a, b)
        print(f"\n  {what}: {found:.1e}", end="", flush=True)
        self.assertLess(found, bound)


class Exact(Case):
    def test_accumulation(self):
        """8 micro-batches against one large batch."""
        for collator in COLLATORS:
            one, log, _ = train(HfTrainer, 16, 1, collator)
            many, logs, _ = train(HfTrainer, 2, 8, collator)
            self.close(f"Trainer, {collator}, 8 micro-batches", many, one)
            for key in ("loss", "nll", "mean_w", "mean_p"):
                self.assertAlmostEqual(log[0][key], logs[0][key], places=5)
            self.assertLess(log[0]["mean_w"], 1)
            knobs = dict(reduction="sample_mean", beta=2.0, objective="power")
            self.close(f"Trainer, {collator}, sample_mean",
                       train(HfTrainer, 2, 8, collator, criterion=knobs)[0],
                       train(HfTrainer, 16, 1, collator, criterion=knobs)[0])

    def test_padded_is_packed(self):
        self.close("Trainer, packed against padded", train(HfTrainer, 2, 8, "packed")[0],
                   train(HfTrainer, 2, 8, "padded")[0], 2e-6)

    def test_accumulation_trl(self):
        for padding_free in (False, True):
            name = "padding-free" if padding_free else "padded"
            one, log, _ = sft(SftTrainer, 16, 1, padding_free)
            many, logs, _ = sft(SftTrainer, 2, 8, padding_free)
            self.close(f"SFTTrainer, {name}, 8 micro-batches", many, one)
            for key in ("loss", "nll", "mean_w", "mean_p"):
                self.assertAlmostEqual(log[0][key], logs[0][key], places=5)
            self.close(f"SFTTrainer against Trainer, {name}", many,
                       train(HfTrainer, 2, 8, "packed" if padding_free else "padded")[0], 2e-6)

    def test_against_float64(self):
        """The same step by autograd alone, in float64."""
        sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                        "../../examples/python/tests/pytorch"))
        from reference import cadft as expected, shifted
        exact, batch = model(torch.float64), padded(examples())
        ids = torch.arange(SEQUENCES)[:, None].expand(batch["labels"].shape).masked_fill(
            batch["attention_mask"] == 0, -1)
        logits = exact(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss, _ = expected(logits, shifted(batch["labels"], ids), ids)
        loss.backward()
        want = {n: p.grad for n, p in exact.named_parameters()}
        for collator in COLLATORS:
            found, log, _ = train(HfTrainer, 2, 8, collator)
            self.close(f"Trainer, {collator}, against float64", found, want, 2e-5)
            self.assertAlmostEqual(log[0]["loss"], float(loss.detach()), places=4)

    def test_plain_is_the_trainers_own_loss(self):
        """objective sft without weights: num_items_in_batch is honoured."""
        for collator in COLLATORS:
            own = train(transformers.Trainer, 2, 8, collator)[0]
            plain = dict(objective="sft", weighting=0)
            self.close(f"cross-entropy, {collator}, mixin",
                       train(HfTrainer, 2, 8, collator, criterion=plain)[0], own, 2e-6)
            self.close(f"cross-entropy, {collator}, compute_loss_func",
                       train(transformers.Trainer, 2, 8, collator,
                             attach=cadft.trainer.LossFunction(**plain))[0], own, 2e-6)
        self.close("TRL's dft, padding-free", sft(
            SftTrainer, 2, 8, True, dict(criterion=dict(objective="dft", weighting=0)))[0],
            sft(trl.SFTTrainer, 2, 8, True, loss_type="dft")[0], 2e-6)

    def test_processes(self):
        """Two processes, each with half of the sequences, under DDP."""
        with tempfile.TemporaryDirectory() as folder:
            env = {**os.environ, "MASTER_ADDR": "localhost", "MASTER_PORT": "29731",
                   "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
            children = [subprocess.Popen([sys.executable, __file__, "--process", folder],
                                         env={**env, "RANK": str(r), "LOCAL_RANK": str(r)})
                        for r in range(2)]
            self.assertEqual([c.wait(600) for c in children], [0, 0])
            found, nll = torch.load(os.path.join(folder, "found"))
        whole, _, trainer = train(HfTrainer, 16, 1)
        self.close("two processes with DDP, 4 micro-batches each", found, whole, 2e-6)
        self.assertAlmostEqual(trainer.evaluate(examples())["eval_nll"], nll, places=4)


class OnePass(Case):
    def test_compute_loss_func(self):
        loss = cadft.trainer.LossFunction(beta=1.0)
        found, log, _ = train(transformers.Trainer, 8, 2, attach=loss)
        self.assertTrue({"nll", "mean_w", "mean_p"} <= set(log[0]))
        self.assertLess(log[0]["mean_w"], 1)
        mixed, logs, _ = train(HfTrainer, 8, 2, criterion=dict(scope="local"))
        self.close("scope local, compute_loss_func against mixin", found, mixed)
        for key in ("loss", "nll", "mean_w", "mean_p"):
            self.assertAlmostEqual(log[0][key], logs[0][key], places=5)

    def test_running(self):
        _, log, trainer = train(HfTrainer, 4, 2, criterion=dict(scope="running"),
                                extra=dict(max_steps=4))
        self.assertEqual(len([e for e in log if "nll" in e]), 4)
        self.assertGreater(trainer.criterion.report.sigma, 0)

    def test_refusals(self):
        for loss in (cadft.trainer.LossFunction(scope="exact"),
                     cadft.trainer.LossFunction(reduction="sample_mean")):
            with self.assertRaisesRegex(cadft.UnsupportedError, "TrainerMixin"):
                train(transformers.Trainer, 4, 2, attach=loss)
        train(transformers.Trainer, 16, 1, attach=cadft.trainer.LossFunction(scope="exact"))
        with self.assertRaisesRegex(cadft.PhaseError, "attach"):
            train(transformers.Trainer, 4, 2, compute_loss_func=cadft.trainer.LossFunction())

    def test_mistakes(self):
        """What would be ignored is refused."""
        smooth = dict(label_smoothing_factor=0.1)
        with self.assertRaisesRegex(cadft.UnsupportedError, "label_smoothing"):
            train(HfTrainer, 4, 2, extra=smooth)
        with self.assertRaisesRegex(cadft.UnsupportedError, "label_smoothing"):
            train(transformers.Trainer, 4, 2, attach=cadft.trainer.LossFunction(), extra=smooth)
        with self.assertRaisesRegex(TypeError, "compute_loss_func"):
            train(HfTrainer, 4, 2, compute_loss_func=cadft.trainer.LossFunction())
        with self.assertRaisesRegex(TypeError, "Wrong: expected TrainerMixin before Trainer"):
            type("Wrong", (transformers.Trainer, cadft.trainer.TrainerMixin), {})

    def test_trl(self):
        loss = cadft.trainer.LossFunction(beta=1.0)
        kept = Gradients()
        with tempfile.TemporaryDirectory() as folder:
            trainer = trl.SFTTrainer(
                model=model(), train_dataset=examples(), processing_class=tokenizer(),
                compute_loss_func=loss, callbacks=[kept], args=arguments(
                    folder, 8, 2, trl.SFTConfig, max_length=None, padding_free=True,
                    gradient_checkpointing=False, bf16=False))
            loss.attach(trainer)
            trainer.remove_callback(transformers.PrinterCallback)
            trainer.train()
        log = trainer.state.log_history[0]
        self.assertTrue({"nll", "mean_w", "mean_p", "mean_token_accuracy"} <= set(log))
        self.close("SFTTrainer, compute_loss_func against mixin", kept.found,
                   sft(SftTrainer, 8, 2, True, dict(criterion=dict(scope="local")))[0])


class Runs(Case):
    def test_training_and_evaluation(self):
        with tempfile.TemporaryDirectory() as folder:
            trainer = HfTrainer(
                model=model(), args=arguments(folder, 2, 4, max_steps=8, logging_steps=2,
                                              eval_strategy="steps", eval_steps=4,
                                              learning_rate=3e-3),
                train_dataset=examples(), eval_dataset=examples().select(range(4)),
                data_collator=COLLATORS["padded"])
            trainer.remove_callback(transformers.PrinterCallback)
            trainer.train()
        log = trainer.state.log_history
        nll = [e["nll"] for e in log if "loss" in e]
        self.assertEqual(len(nll), 4)
        self.assertLess(nll[-1], nll[0])
        evaluated = [e for e in log if "eval_loss" in e]
        self.assertEqual(len(evaluated), 2)
        self.assertTrue({"eval_nll", "eval_mean_w", "eval_mean_p"} <= set(evaluated[0]))
        trainer.args.disable_tqdm = True
        one, other = examples().select(range(4)), examples().select(range(4, 12))
        nll = trainer.evaluate(one)["eval_nll"]
        self.assertIn("test_nll", trainer.predict(other).metrics)
        self.assertEqual(trainer.evaluate(one)["eval_nll"], nll)
        print("\n  " + str({k: round(v, 4) for k, v in log[0].items()}), end="")

    def test_last_step_is_shorter(self):
        """11 sequences in steps of 4, 4 and 3; what must not change them."""
        def steps(batch, accumulate, **extra):
            kept = Gradients()
            with tempfile.TemporaryDirectory() as folder:
                trainer = HfTrainer(
                    model=model(), train_dataset=examples().select(range(11)), callbacks=[kept],
                    eval_dataset=examples().select(range(3)), data_collator=padded,
                    args=arguments(folder, batch, accumulate, learning_rate=0.0, max_steps=-1,
                                   num_train_epochs=1, **extra))
                trainer.remove_callback(transformers.PrinterCallback)
                trainer.train()
            self.assertEqual(len(kept.steps), 3)
            return kept.steps

        parts = steps(1, 4)
        for name, extra in {
                "checkpointing": dict(gradient_checkpointing=True),
                "workers": dict(dataloader_num_workers=2),
                "evaluation between": dict(eval_strategy="steps", eval_steps=1),
                "torch.compile": dict(torch_compile=True, torch_compile_backend="aot_eager"),
        }.items():
            for number, (a, b) in enumerate(zip(steps(1, 4, **extra), parts), 1):
                self.close(f"step {number}, {name}", a, b)
        for number, (a, b) in enumerate(zip(parts, steps(4, 1)), 1):
            self.close(f"step {number}, of micro-batches against one", a, b)
        for number, (a, b) in enumerate(zip(steps(1, 4, bf16=True), steps(4, 1, bf16=True)), 1):
            self.close(f"step {number}, autocast", a, b, 2e-2)

    def test_page_and_program(self):
        """The class of pytorch.md, and the program, as they stand."""
        folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples/python")
        with open(os.path.join(folder, "pytorch.md"), encoding="utf-8") as page:
            text, = (p for p in re.findall(r"```python\n(.*?)```", page.read(), re.S)
                     if "TrainerMixin" in p)
        with tempfile.TemporaryDirectory() as scratch:
            names = dict(cadft=cadft, transformers=transformers, model=model(), data=examples(),
                         arguments=arguments(scratch, 4, 2))
            exec(text, names)
            names["trainer"].data_collator = padded
            names["trainer"].train()
            self.assertIn("nll", names["trainer"].state.log_history[0])
            output = subprocess.run(
                [sys.executable, os.path.join(folder, "programs/finetune_transformers.py"),
                 "--steps", "10", "--output", scratch], check=True, text=True,
                stdout=subprocess.PIPE).stdout
            self.assertLess(*(float(n) for n in re.findall(r"'nll': '([^']*)'", output)[::-1]))
            transformers.AutoModelForCausalLM.from_pretrained(scratch)

    def test_bfloat16(self):
        found, log, _ = train(HfTrainer, 2, 8, model=model(torch.bfloat16))
        self.assertTrue(all(bool(g.isfinite().all()) for g in found.values()))
        full = train(HfTrainer, 2, 8)[1]
        self.assertAlmostEqual(log[0]["nll"], full[0]["nll"], delta=0.05)


def process(folder):
    found, _, trainer = train(HfTrainer, 2, 4)
    assert trainer.args.world_size == 2
    nll = trainer.evaluate(examples())["eval_nll"]
    if int(os.environ["RANK"]) == 0:
        torch.save((found, nll), os.path.join(folder, "found"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        process(sys.argv[2])
    else:
        print(", ".join(f"{m.__name__} {m.__version__}" for m in (torch, transformers, trl,
                                                                 datasets)))
        unittest.main()
