# SPDX-License-Identifier: Apache-2.0
"""Writes the golden models tests/golden/models/<case>/ with transformers; run by hand.

    python3 -m venv env && env/bin/pip install torch transformers numpy safetensors
    env/bin/python tests/reference/generate_models.py            write the folders
    env/bin/python tests/reference/generate_models.py --check    make them anew and compare;
                                                                 1: they differ

The committed ones are of torch 2.15.0, transformers 5.23.0, numpy 2.4.6, safetensors 0.8.0.

A folder is a small random model as transformers' save_pretrained writes it, and
expected.safetensors, described in model_truth.py: what the model is to compute, in float64,
for packed sequences of unequal length. Nothing is at its trivial value: norm weights and
biases are random, dimensions are not multiples of 16, weights are exact in the stored type.

A case with `hub` has config.json rewritten to the form in which most published models have
it: rope_theta and rope_scaling apart instead of rope_parameters, torch_dtype instead of
dtype, and without keys that have their default. transformers must read the same model out of
both. Its Qwen2 has a sliding_window with use_sliding_window false, which is to be ignored.

Each run prints, per case, how far transformers' float32 is from float64, and the error of
the gradient against differences of the loss."""
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "golden" / "models"
LIMIT = 1_900_000  # bytes in all
GREEDY, MARGIN = 24, 1e-3
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 256}


def theta(value):
    return {"rope_type": "default", "rope_theta": value}


# lengths: of the sequences; prompts: rows of each before those counted, and of the greedy
# prompts; shard: bytes a file at most, for two files.
CASES = {
    # Heads and key-value heads alike, tied, one float32 file.
    "llama_tied": dict(
        kind="Llama", dtype="float32", seed=1, lengths=[9, 1, 41, 20], prompts=[3, 1, 12, 1],
        config=dict(vocab_size=61, hidden_size=32, intermediate_size=44, num_attention_heads=4,
                    num_key_value_heads=4, tie_word_embeddings=True, rms_norm_eps=1e-5,
                    rope_parameters=theta(10000.0))),
    # 3 heads a key-value head, all of them wider than hidden; wavelengths in the three
    # ranges of llama3.
    "llama_rope": dict(
        kind="Llama", dtype="bfloat16", seed=2, lengths=[1, 38, 5, 27], prompts=[1, 9, 2, 14],
        config=dict(vocab_size=59, hidden_size=24, intermediate_size=52, num_attention_heads=6,
                    num_key_value_heads=2, head_dim=10, tie_word_embeddings=False,
                    rms_norm_eps=1e-5, rope_parameters=LLAMA3)),
    # Biases everywhere, an epsilon that matters.
    "llama_bias": dict(
        kind="Llama", dtype="float16", seed=3, lengths=[35, 12, 1], prompts=[6, 5, 1],
        config=dict(vocab_size=67, hidden_size=40, intermediate_size=36, num_attention_heads=4,
                    num_key_value_heads=2, attention_bias=True, mlp_bias=True,
                    tie_word_embeddings=False, rms_norm_eps=1e-2,
                    rope_parameters=theta(500000.0))),
    "qwen2": dict(
        kind="Qwen2", dtype="bfloat16", seed=4, hub=dict(sliding_window=8, max_window_layers=1),
        lengths=[17, 36, 1, 2], prompts=[4, 10, 1, 1],
        config=dict(vocab_size=61, hidden_size=36, intermediate_size=50, num_attention_heads=6,
                    num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-6,
                    rope_parameters=theta(1000000.0))),
    "qwen3": dict(
        kind="Qwen3", dtype="float32", seed=5, shard=45000, lengths=[6, 34, 1, 15],
        prompts=[2, 8, 1, 5],
        config=dict(vocab_size=63, hidden_size=28, intermediate_size=42, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=12, tie_word_embeddings=False,
                    rms_norm_eps=1e-3, rope_parameters=theta(1000000.0))),
    # A row sees itself and the 6 rows before it.
    "mistral": dict(
        kind="Mistral", dtype="float16", seed=6, lengths=[7, 40, 1, 8], prompts=[3, 11, 1, 8],
        config=dict(vocab_size=61, hidden_size=32, intermediate_size=40, num_attention_heads=4,
                    num_key_value_heads=1, sliding_window=7, tie_word_embeddings=False,
                    rms_norm_eps=1e-5, rope_parameters=theta(10000.0))),
    # Sequences longer than the tiles of an attention kernel, and than a tile and a window.
    "llama_long": dict(
        kind="Llama", dtype="bfloat16", seed=7, hub={}, lengths=[300, 64, 1, 129],
        prompts=[140, 20, 1, 60],
        config=dict(vocab_size=37, hidden_size=24, intermediate_size=36, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=10, tie_word_embeddings=False,
                    rms_norm_eps=1e-5, rope_parameters=dict(LLAMA3, rope_theta=500000.0))),
    "mistral_long": dict(
        kind="Mistral", dtype="bfloat16", seed=8, hub={}, lengths=[65, 210, 3],
        prompts=[40, 150, 2],
        config=dict(vocab_size=41, hidden_size=24, intermediate_size=36, num_attention_heads=4,
                    num_key_value_heads=2, sliding_window=70, tie_word_embeddings=False,
                    rms_norm_eps=1e-5, rope_parameters=theta(10000.0))),
}


def make_model(case):
    """The model in its stored type with random parameters."""
    import torch
    import transformers
    rng = np.random.default_rng(case["seed"])
    kind = getattr(torch, case["dtype"])
    config = getattr(transformers, case["kind"] + "Config")(
        num_hidden_layers=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
        dtype=kind, **case["config"])
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=kind)
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        draw = rng.standard_normal(shape)
        if name.endswith("norm.weight"):
            draw = 1 + 0.3 * draw
        elif len(shape) == 1:
            draw = 0.3 * draw
        elif "embed" in name:
            draw = 0.5 * draw
        else:  # queries and keys larger, so that attention is not even
            gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.3
            draw = gain / np.sqrt(shape[1]) * draw
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(draw))
    return model


def make_batch(case):
    rng = np.random.default_rng([case["seed"], 1])
    lengths = case["lengths"]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(0, case["config"]["vocab_size"], starts[-1])
    labels = np.concatenate([tokens[1:], [0]])
    for start, end, prompt in zip(starts[:-1], starts[1:], case["prompts"]):
        labels[start:start + prompt - 1] = -100
        labels[end - 1] = -100
    batch = {"tokens": tokens, "cu_seqlens": starts, "labels": labels}
    return {name: values.astype(np.int32) for name, values in batch.items()}


def hub_form(path, extra):
    """Rewrites config.json as published models have it."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    for key in ("attention_bias", "mlp_bias"):
        if not config.get(key, True):
            del config[key]
    if config.get("head_dim") == config["hidden_size"] // config["num_attention_heads"]:
        del config["head_dim"]
    config.update(extra)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make_folder(name, case, folder):
    import torch
    from safetensors.numpy import save_file
    from transformers import AutoConfig, AutoModelForCausalLM
    import model_truth
    model = make_model(case)
    model.save_pretrained(folder, **({"max_shard_size": case["shard"]} if "shard" in case else {}))
    files = sorted(folder.glob("model*.safetensors"))
    assert len(files) == (2 if "shard" in case else 1), files
    if "hub" in case:
        hub_form(folder / "config.json", case["hub"])
    # What is measured is what is stored.
    config = AutoConfig.from_pretrained(folder)
    stored = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert stored.dtype == getattr(torch, case["dtype"])
    state = {key: value.clone() for key, value in stored.state_dict().items()}
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    batch = make_batch(case)
    single = model_truth.Truth(config, state, double=False, attention="eager")
    truth = model_truth.Truth(config, state)
    result = truth.evaluate(batch)
    slope = truth.check_gradient(batch, result[2], np.random.default_rng(case["seed"]))
    greedy = truth.continuations(batch, case["prompts"], GREEDY)
    check_greedy(truth, single, batch, greedy)
    diff = model_truth.difference(single.evaluate(batch), result)
    expected = model_truth.expected(batch, result)
    expected.update(greedy)
    save_file(expected, folder / "expected.safetensors")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{name}: {size} bytes, {len(batch['tokens'])} rows, loss {result[1]:.4f}, largest "
          f"logit {np.abs(result[0]).max():.1f}, float32 less float64: logits "
          f"{diff['logits']:.1e}, loss {diff['loss']:.1e}, grad {diff['grad']:.1e} of the "
          f"largest; slope {slope:.0e}; margin {greedy['greedy_margin'].min():.1e}, "
          f"{len(np.unique(greedy['greedy']))} tokens")
    return size


def check_greedy(truth, single, batch, greedy):
    """The cached continuation against one pass over all of it, and against float32."""
    assert greedy["greedy_margin"].min() > MARGIN, "a tie: take another seed"
    for i, n in enumerate(greedy["greedy_prompt"]):
        start = batch["cu_seqlens"][i]
        prompt, tokens = batch["tokens"][start:start + n], greedy["greedy"][i]
        whole = truth.forward(np.concatenate([prompt, tokens])).logits[0].argmax(-1).numpy()
        assert (whole[n - 1:-1] == tokens).all()
        assert (np.array(single.greedy(prompt, GREEDY)[0]) == tokens).all()


def differences(new, old):
    """What differs between two folders of a case; expected numbers to float32's last bits."""
    from safetensors.numpy import load_file
    names = {path.name for path in new.iterdir()}
    if not old.is_dir():
        yield "missing"
        return
    if names != {path.name for path in old.iterdir()}:
        yield "other files"
        return
    for name in sorted(names - {"expected.safetensors"}):
        texts = [(folder / name).read_bytes() for folder in (new, old)]
        if name.endswith(".json"):
            texts = [json.loads(text) for text in texts]
            for text in texts:
                text.pop("transformers_version", None)
        if texts[0] != texts[1]:
            yield name
    a, b = (load_file(folder / "expected.safetensors") for folder in (new, old))
    if a.keys() != b.keys():
        yield "expected.safetensors: names"
        return
    for name, value in a.items():
        close = value.shape == b[name].shape and value.dtype == b[name].dtype and (
            np.abs(value - b[name]).max() <= 1e-6 * np.abs(value).max()
            if value.dtype.kind == "f" else (value == b[name]).all())
        if not close:
            yield f"expected.safetensors: {name}"


def main(arguments):
    total, failed = 0, False
    with tempfile.TemporaryDirectory() as scratch:
        for name, case in CASES.items():
            folder = pathlib.Path(scratch) / name
            total += make_folder(name, case, folder)
            if "--check" in arguments:
                found = list(differences(folder, FOLDER / name))
                failed |= bool(found)
                print(f"{name}: {', '.join(found) or 'same'}")
            else:
                shutil.rmtree(FOLDER / name, ignore_errors=True)
                shutil.copytree(folder, FOLDER / name)
    if FOLDER.is_dir():
        for path in sorted(FOLDER.iterdir()):
            if path.name not in CASES:
                print(f"{path.name}: no case writes it")
                failed = True
    print(f"{total} bytes")
    return 1 if failed or total > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
