#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fine-tune a small transformers model on the CPU with the CADFT loss.

    python3 finetune_transformers.py [--model FOLDER] [--data FILE.jsonl] [--output FOLDER]

FILE has a JSON object with "prompt" and "completion" a line. Without a folder
the model is a small random Llama whose tokens are bytes; without data it learns
to reverse words. It logs mean_p, which rises, and nll, which DFT does not minimise
and which may rise, too. Needs torch, transformers, accelerate and this package."""
import argparse
import json
import random
import tempfile

import cadft.trainer
import torch
import transformers

END = 256  # after the bytes


class Trainer(cadft.trainer.TrainerMixin, transformers.Trainer):
    """The loss of this trainer is CADFT, over each whole optimizer step."""


class Bytes:
    """A tokenizer of bytes, as far as this program needs one."""

    eos_token_id = END

    def __call__(self, text):
        return {"input_ids": list(text.encode())}


def small_model():
    config = transformers.LlamaConfig(
        vocab_size=END + 1, hidden_size=96, intermediate_size=256, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=256, bos_token_id=None, eos_token_id=END)
    return transformers.LlamaForCausalLM(config)


def reversed_words(n, seed):
    """Demonstrations; a few are noise, which no model can agree with."""
    draw = random.Random(seed)
    for i in range(n):
        word = "".join(draw.choices("abcdefgh", k=draw.randint(3, 8)))
        answer = "".join(draw.sample(word, len(word))) if i % 8 == 0 else word[::-1]
        yield {"prompt": f"reverse {word}: ", "completion": answer}


def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def tokenize(example, tokenizer):
    """The prompt is read, not trained on."""
    prompt = tokenizer(example["prompt"])["input_ids"]
    answer = [*tokenizer(example["completion"])["input_ids"], tokenizer.eos_token_id]
    return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a model")
    parser.add_argument("--data", help="JSON lines with prompt and completion")
    parser.add_argument("--output", help="where the model goes; without it, nowhere")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=8, help="samples in a micro-batch")
    parser.add_argument("--accumulate", type=int, default=4, help="micro-batches in a step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--scope", default="exact", choices=["exact", "running", "local"])
    return parser.parse_args()


def main():
    args = parse()
    torch.manual_seed(0)
    if args.model:
        model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    else:
        model, tokenizer = small_model(), Bytes()
    data = read(args.data) if args.data else list(reversed_words(2048, seed=1))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=model, criterion={"beta": args.beta, "scope": args.scope},
            train_dataset=[tokenize(example, tokenizer) for example in data],
            # Packed: one row, whose position_ids say where samples begin.
            data_collator=transformers.DataCollatorWithFlattening(),
            args=transformers.TrainingArguments(
                output_dir=args.output or scratch, max_steps=args.steps, use_cpu=True,
                per_device_train_batch_size=args.batch, learning_rate=args.lr, warmup_steps=5,
                gradient_accumulation_steps=args.accumulate, logging_steps=5, report_to=[],
                save_strategy="no", disable_tqdm=True))
        trainer.train()
        if args.output:
            trainer.save_model(args.output)


if __name__ == "__main__":
    main()
