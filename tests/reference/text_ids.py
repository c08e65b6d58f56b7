# SPDX-License-Identifier: Apache-2.0
"""Compares examples/text/tokenizer.py with transformers' AutoTokenizer; run by hand.

    python3 -m venv env && env/bin/pip install transformers tokenizers jinja2
    env/bin/python tests/reference/text_ids.py FOLDER QUESTIONS.jsonl

FOLDER is a model folder, QUESTIONS a file of JSON lines with `question` and `answer` (GSM8K).
Of each line: the prompt and the whole conversation by the chat template, the question and the
question with its answer as plain text, and what the ids read as, whole and piece by piece. All
ids must be equal; 1 if any differs.

Run with transformers 5.23.0, tokenizers 0.23.3, jinja2 3.1.6."""
import json
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "examples/text/tokenizer.py"
PIECES = 200  # lines that are decoded piece by piece too


class Helper:
    def __init__(self, folder):
        self.child = subprocess.Popen([sys.executable, SCRIPT, folder], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE)

    def ask(self, **request):
        self.child.stdin.write(json.dumps(request).encode() + b"\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())


def compare(helper, theirs, line, with_pieces):
    """(name, ours, transformers') of everything that is compared."""
    user = [{"role": "user", "content": line["question"]}]
    chat = [*user, {"role": "assistant", "content": line["answer"]}]
    ours, pair = helper.ask(samples=[{"chat": chat}, {"pair": [line["question"],
                                                               line["answer"]]}])["samples"]
    prompt = theirs.apply_chat_template(user, add_generation_prompt=True, return_dict=False)
    yield "chat prompt", helper.ask(prompt=user)["ids"], prompt
    yield "chat", ours["ids"], theirs.apply_chat_template(chat, return_dict=False)
    (begin, end), = ours["targets"]
    yield "chat target begins", ours["ids"][:begin], prompt
    yield "chat target", ours["ids"][begin:end], \
        [*theirs(line["answer"], add_special_tokens=False).input_ids, theirs.eos_token_id]
    question = theirs(line["question"]).input_ids
    yield "plain prompt", helper.ask(encode=line["question"])["ids"], question
    yield "plain", pair["ids"], \
        [*theirs(line["question"] + line["answer"]).input_ids, theirs.eos_token_id]
    yield "plain target begins", pair["ids"][:pair["targets"][0][0]], question
    text = theirs.decode(pair["ids"], skip_special_tokens=True)
    yield "text", helper.ask(decode=pair["ids"])["text"], text
    if with_pieces:
        pieces = [helper.ask(piece=i)["text"] for i in pair["ids"]]
        yield "pieces", "".join([*pieces, helper.ask(flush=1)["text"]]), text


def main(folder, questions):
    from transformers import AutoTokenizer
    theirs = AutoTokenizer.from_pretrained(folder)
    helper = Helper(folder)
    equal, differ, tokens = {}, {}, 0
    with open(questions, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            for name, ours, other in compare(helper, theirs, json.loads(line),
                                             number <= PIECES):
                tokens += len(ours) if name == "chat" else 0
                if ours == other:
                    equal[name] = equal.get(name, 0) + 1
                    continue
                if name not in differ:
                    print(f"line {number}, {name}:\n  {ours}\n  {other}")
                differ[name] = differ.get(name, 0) + 1
    print(f"{number} lines, {tokens} tokens in conversations")
    for name in dict.fromkeys([*equal, *differ]):
        print(f"{name:20} {equal.get(name, 0):6} equal {differ.get(name, 0):6} differ")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
