# SPDX-License-Identifier: Apache-2.0
"""Model, optimizer, rewriting and checkpoints from Python."""
import gc
import tempfile
import unittest

import cadft
import numpy as np

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16,
          "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "vocab_size": 32, "max_position_embeddings": 64,
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
          "tie_word_embeddings": True, "torch_dtype": "float32"}
TOKENS = np.array([1, 5, 9, 2, 1, 7, 7, 3, 2], np.int32)
CU = np.array([0, 4, 9], np.int32)
LABELS = np.array([5, 9, 2, -100, 7, 7, 3, 2, -100], np.int32)
IDS = cadft.sample_ids_cu_seqlens(CU, len(TOKENS))


def new_model(context=None, **knobs):
    model = cadft.Model(context, **knobs)
    model.init(CONFIG, seed=3)
    return model


def train(model, optimizer, loss):
    model.zero_grad()
    logits = model.forward(TOKENS, cu_seqlens=CU)
    report = loss.compute(logits, LABELS, IDS, 2, grad=logits)
    model.backward(logits)
    return report, optimizer.step()


class Training(unittest.TestCase):
    def test_two_steps(self):
        with new_model() as model, cadft.Loss() as loss, \
                cadft.Optimizer(lr=1e-2, schedule="cosine", planned_steps=10) as optimizer:
            self.assertEqual(optimizer.add_model(model), model.get("parameters"))
            reports = [train(model, optimizer, loss) for _ in range(3)]
            self.assertLess(reports[1][0].nll, reports[0][0].nll)
            self.assertLess(reports[2][0].nll, reports[1][0].nll)
            self.assertEqual([step.step for _, step in reports], [1, 2, 3])
            self.assertEqual(reports[0][1].lr, 1e-2)
            self.assertLess(optimizer.lr(9), 1e-3)

    def test_parameters(self):
        with new_model() as model:
            names = [parameter.name for parameter in model.parameters()]
            self.assertIn("model.norm.weight", names)
            norm = model.parameter("model.norm.weight")
            self.assertIsNone(norm.grad)
            np.testing.assert_array_equal(np.asarray(norm.value), np.ones(16, np.float32))
            self.assertEqual(model.freeze("*"), len(names))
            self.assertFalse(model.parameter(0).trainable)
            with self.assertRaises(KeyError):
                model.parameter("nothing")
            with self.assertRaises(cadft.KnobError):
                model.set("hidden", 3)
            self.assertEqual(model.get("hidden"), 16)
            self.assertEqual(model.get("weight_dtype"), "float32")

    def test_own_parameters(self):
        value, grad = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
        with cadft.Optimizer(kind="sgd", lr=0.5, momentum=0, weight_decay=0,
                             clip_norm=0) as optimizer:
            optimizer.add("w", value, grad)
            self.assertEqual(optimizer.norm(), 6.0)
            optimizer.step()
            np.testing.assert_array_equal(value, np.full((2, 3), 0.5, np.float32))
            grad[:] = np.nan
            self.assertTrue(optimizer.step().skipped)
            self.assertEqual(optimizer.get("skipped"), 1)
            with self.assertRaises(ValueError):
                optimizer.add("v", np.frombuffer(bytes(24), np.float32), grad)

    def test_memory_of_the_model(self):
        context = cadft.Context()
        model = new_model(context)
        first = model.forward(TOKENS[:4])
        array = np.asarray(first)
        model.forward(TOKENS[:4])  # the memory stays
        with self.assertRaises(BufferError):
            model.forward(TOKENS)  # it would move
        for refused in (lambda: model.reserve(64), lambda: model.generate(TOKENS[:2], 2),
                        lambda: model.set("checkpointing", 1), model.close):
            with self.assertRaises(BufferError):
                refused()
        del array
        second = model.forward(TOKENS)
        with self.assertRaises(ValueError):
            memoryview(first)
        self.assertEqual(second.shape, (9, 32))
        weights = np.asarray(model.parameter(0).value)
        del model, second, refused
        gc.collect()
        self.assertTrue(np.isfinite(weights).all())
        self.assertGreater(context.bytes, weights.nbytes)
        del weights, first
        gc.collect()
        self.assertLess(context.bytes, 4096)

    def test_any_order(self):
        context = cadft.Context()
        model, loss = new_model(context), cadft.Loss(context)
        optimizer = cadft.Optimizer(context)
        optimizer.add_model(model)
        train(model, optimizer, loss)
        for handle in (context, model, loss):
            handle.close()
        self.assertEqual(optimizer.step().step, 2)  # it keeps the model
        optimizer.close()
        with self.assertRaises(ValueError):
            optimizer.step()


class Generation(unittest.TestCase):
    def test_greedy_and_drawn(self):
        with new_model() as model:
            greedy = model.generate(TOKENS, 5, cu_seqlens=CU)
            self.assertEqual([len(answer) for answer in greedy], [5, 5])
            one = model.generate(TOKENS[:4], 5)
            self.assertEqual(one[0], greedy[0])
            drawn = [model.generate(TOKENS, 5, cu_seqlens=CU, temperature=1.0, seed=seed,
                                    keys=[7, 8]) for seed in (1, 1, 2)]
            self.assertEqual(drawn[0], drawn[1])
            self.assertNotEqual(drawn[0], drawn[2])
            stop = greedy[0][1]
            stopped = model.generate(TOKENS[:4], 5, stop_tokens=[stop])[0]
            self.assertEqual(stopped[-1], stop)

    def test_callback(self):
        seen = []

        def watch(prompt, position, token, logprob):
            seen.append((prompt, position, token))
            self.assertLessEqual(logprob, 0)
            return position == 1

        with new_model() as model:
            answer = model.generate(TOKENS[:4], 5, on_token=watch)[0]
            self.assertEqual(seen, [(0, i, token) for i, token in enumerate(answer)])
            self.assertEqual(len(answer), 2)

            def fails(*_):
                raise LookupError("enough")

            with self.assertRaisesRegex(LookupError, "enough"):
                model.generate(TOKENS[:4], 5, on_token=fails)
            with self.assertRaises(cadft.PhaseError):
                model.generate(TOKENS[:4], 5, on_token=lambda *_: model.zero_grad())
            with self.assertRaises(cadft.ArgumentError):
                model.generate(TOKENS[:4], 0)


class Rewriting(unittest.TestCase):
    def test_a_pick(self):
        with cadft.Rewrite(10, warmup_steps=0, interval=1, fraction=0.2, probability=1.0,
                           min_observations=1) as rewrite:
            rewrite.observe(range(10), np.linspace(1, 2, 10), np.linspace(-1, 1, 10))
            self.assertTrue(rewrite.due(1))
            self.assertEqual(rewrite.select(1), [8, 9])
            self.assertEqual(rewrite.open(), [8, 9])
            self.assertTrue(rewrite.sample(9).is_open)
            self.assertEqual(rewrite.commit(8, [4, 2], ended=False), "not_ended")
            self.assertIsNone(rewrite.commit(9, [4, 2], ended=True))
            self.assertEqual(list(rewrite.target(9)), [4, 2])
            self.assertIsNone(rewrite.target(8))
            self.assertEqual(rewrite.get("rewritten"), 1)
            with cadft.Rewrite(10) as other:
                other.state_load(rewrite.state_save())
                self.assertEqual(list(other.target(9)), [4, 2])
            rewrite.restore(9)
            self.assertIsNone(rewrite.target(9))
            with self.assertRaises(cadft.PhaseError):
                rewrite.reject(0)
            with self.assertRaises(cadft.ArgumentError):
                rewrite.sample(10)


class Checkpoints(unittest.TestCase):
    def test_go_on(self):
        with tempfile.TemporaryDirectory() as folder, cadft.Context() as context:
            self.assertIsNone(cadft.find_checkpoint(folder))
            parts = {"model": new_model(context), "optimizer": cadft.Optimizer(context),
                     "loss": cadft.Loss(context)}
            parts["optimizer"].add_model(parts["model"])
            train(**parts)
            cadft.save_checkpoint(folder, 1, **parts, host=b"order", keep=2)
            expected = train(**parts)
            self.assertEqual(cadft.find_checkpoint(folder), 1)
            model, loss = cadft.Model(context), cadft.Loss(context)
            optimizer = cadft.Optimizer(context)
            cadft.load_checkpoint(folder, 1, model=model)
            optimizer.add_model(model)
            self.assertEqual(cadft.load_checkpoint(folder, 1, optimizer=optimizer, loss=loss),
                             b"order")
            self.assertEqual(train(model, optimizer, loss), expected)
            with self.assertRaises(cadft.DataError):
                cadft.load_checkpoint(folder, 1, rewrite=cadft.Rewrite(3, context))
            with self.assertRaises(OSError):
                cadft.load_checkpoint(folder, 2, loss=loss)
            loaded = cadft.Model(context)
            loaded.load(cadft.checkpoint_path(folder, 1))
            self.assertEqual(loaded.get("parameters"), model.get("parameters"))


if __name__ == "__main__":
    unittest.main()
