#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What examples/text/tokenizer.py answers, with a small tokenizer made here; and what the
program examples/generate makes of it, if it is given.

    protocol.py TOKENIZER.PY [PROGRAM]

Needs the packages tokenizers and jinja2, of the Python that CADFT_PYTHON names if it is set;
skipped (77) without."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import program

CORPUS = ["the quick brown fox jumps over the lazy dog", "What is 2+2? It is 4.",
          "Größe, naïve, 日本語, 🎉"] * 3
TEMPLATE = """{%- for m in messages %}
    {%- if m.role == 'system' and not loop.first %}
        {{- raise_exception('system must come first') }}
    {%- endif %}
    {{- '<|' + m.role + '|>' + m.content + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""


def use_other_python():
    """The Python that the programs use, if it is another one."""
    other = os.environ.get("CADFT_PYTHON")
    if other and os.environ.get("CADFT_PYTHON_USED") != other:
        os.execvpe(other, [other, *sys.argv], {**os.environ, "CADFT_PYTHON_USED": other})


use_other_python()
try:
    import jinja2  # pylint: disable=unused-import
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
except ImportError as missing:
    print(f"skipped: {missing}; {sys.executable} -m pip install tokenizers jinja2, or name a "
          "Python that has them in CADFT_PYTHON")
    sys.exit(77)

SCRIPT = PROGRAM = None


def byte_tokenizer():
    """Pairs of bytes merged, as in most models of today."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=320, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]))
    return tokenizer


def blank_tokenizer():
    """One that puts a blank in front of every text."""
    words = {"<unk>": 0, "</s>": 1, "▁": 2, **{c: i for i, c in enumerate("abcx:", 3)}, "▁x": 8}
    tokenizer = Tokenizer(models.BPE(words, [("▁", "x")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


class Folder(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        self.tokenizer = byte_tokenizer()
        self.config = {"eos_token": {"content": "<|end|>", "special": True}}
        self.write(self.tokenizer, TEMPLATE)
        self.child = None
        self.addCleanup(self.stop)

    def write(self, tokenizer, template=None, **config):
        tokenizer.save(str(self.folder / "tokenizer.json"))
        self.put("tokenizer_config.json", {**self.config, **config})
        if template is not None:
            (self.folder / "chat_template.jinja").write_text(template, encoding="utf-8")

    def put(self, name, value):
        (self.folder / name).write_text(json.dumps(value), encoding="utf-8")

    def stop(self):
        if self.child:
            self.child.stdin.close()
            self.child.stdout.close()
            self.child.wait()
        self.child = None

    def ask(self, **request):
        if self.child is None:
            self.child = subprocess.Popen([sys.executable, SCRIPT, self.folder],
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.child.stdin.write(json.dumps(request).encode() + b"\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def sample(self, **request):
        return self.ask(samples=[request])["samples"][0]

    def info(self):
        return self.ask(info=1)


def talk(*turns):
    return [{"role": role, "content": content} for role, content in turns]


class Info(Folder):
    def test_facts(self):
        self.assertEqual(self.info(), {"vocab": self.tokenizer.get_vocab_size(), "bos": None,
                                       "eos": [1], "chat": True})

    def test_end_of_generation(self):
        self.put("generation_config.json", {"eos_token_id": [2, 1]})
        self.put("config.json", {"eos_token_id": 3})
        self.assertEqual(self.info()["eos"], [1, 2])

    def test_end_by_config(self):
        self.config = {"bos_token": "<|begin|>"}
        self.write(self.tokenizer)
        self.put("config.json", {"eos_token_id": 3})
        self.assertEqual(self.info()["eos"], [3])
        self.assertEqual(self.info()["bos"], 0)

    def test_template_in_config(self):
        (self.folder / "chat_template.jinja").unlink()
        self.assertFalse(self.info()["chat"])
        self.stop()
        for entry in ("x", [{"name": "tool", "template": "y"},
                            {"name": "default", "template": "x"}]):
            self.write(self.tokenizer, chat_template=entry)
            self.assertTrue(self.info()["chat"])
            self.assertEqual(self.ask(prompt=[])["ids"], self.ids("x"))
            self.stop()


class Failures(Folder):
    def check(self, says):
        self.assertIn(says, self.info()["error"])
        self.assertEqual(self.child.wait(), 1)

    def test_missing(self):
        (self.folder / "tokenizer.json").unlink()
        self.check("tokenizer.json is missing")

    def test_damaged(self):
        for text in ("{}", "", "nonsense", "\0"):
            (self.folder / "tokenizer.json").write_text(text, encoding="utf-8")
            self.check("tokenizer.json: is not a tokenizer")
            self.stop()

    def test_damaged_config(self):
        (self.folder / "tokenizer_config.json").write_text("{", encoding="utf-8")
        self.check("tokenizer_config.json: cannot be read")

    def test_requests(self):
        self.assertIn("unknown request", self.ask(nonsense=1)["error"])
        self.assertIn("request refused", self.ask(decode=[-1])["error"])
        self.assertEqual(self.info()["eos"], [1])  # and goes on

    def test_template_that_is_none(self):
        self.write(self.tokenizer, "{% if %}")
        self.assertIn("template is not valid", self.sample(chat=talk(("user", "a")))["error"])

    def test_template_may_not_do_all(self):
        self.write(self.tokenizer, "{{ messages.__class__.__mro__ }}")
        self.assertIn("refuses", self.ask(prompt=[])["error"])


class Encode(Folder):
    def test_prompt(self):
        for text in ("the quick", "Größe 🎉", "", "a\0b", "<|end|>"):
            self.assertEqual(self.ask(encode=text)["ids"], self.ids(text))

    def test_begin_but_no_end(self):
        self.tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A <|end|>", special_tokens=[("<|begin|>", 0), ("<|end|>", 1)])
        self.write(self.tokenizer)
        self.assertEqual(self.ask(encode="the fox")["ids"], [0, *self.ids("the fox")])
        want = [0, *self.ids("the fox jumps")]
        self.assertEqual(self.sample(pair=["the fox", " jumps"]),
                         {"ids": [*want, 1], "targets": [[len(self.ids("the fox")) + 1,
                                                          len(want) + 1]]})
        # A chat template writes what begins by itself.
        self.assertNotIn(0, self.sample(chat=talk(("user", "a"), ("assistant", "b")))["ids"])

    def test_truncation_in_the_file(self):
        self.tokenizer.enable_truncation(3)
        self.tokenizer.enable_padding(length=50)
        self.write(self.tokenizer)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.assertEqual(self.ask(encode=CORPUS[0])["ids"], self.ids(CORPUS[0]))

    def test_pair(self):
        prompt, whole = self.ids("What is"), self.ids("What is 2+2?")
        self.assertEqual(whole[:len(prompt)], prompt)
        self.assertEqual(self.sample(pair=["What is", " 2+2?"]),
                         {"ids": [*whole, 1], "targets": [[len(prompt), len(whole) + 1]]})

    def test_pair_that_shares_a_token(self):
        text = "the quick"
        cut = next(i for i in range(1, len(text))
                   if self.ids(text)[:len(self.ids(text[:i]))] != self.ids(text[:i]))
        prompt, rest = self.ids(text[:cut]), self.ids(text[cut:])
        self.assertEqual(self.sample(pair=[text[:cut], text[cut:]]),
                         {"ids": [*prompt, *rest, 1], "split": True,
                          "targets": [[len(prompt), len(prompt) + len(rest) + 1]]})

    def test_pair_with_blanks_of_its_own(self):
        self.config = {"eos_token": "</s>"}
        self.write(blank_tokenizer())
        self.assertEqual(self.sample(pair=["a:", "b"])["ids"], [2, 3, 7, 4, 1])
        self.assertIn("share a token", self.sample(pair=["a: ", "x"])["error"])

    def test_without_an_end(self):
        self.config = {}
        self.write(self.tokenizer)
        self.assertIn("no eos token", self.sample(pair=["a", "b"])["error"])


class Chat(Folder):
    def turn(self, role, text):
        """As TEMPLATE writes it, put together from its tokens."""
        return [*self.ids(f"<|{role}|>"), *self.ids(text), 1, *self.ids("\n")]

    def test_prompt(self):
        self.assertEqual(self.ask(prompt=talk(("user", "What is 2+2?")))["ids"],
                         [*self.turn("user", "What is 2+2?"), *self.ids("<|assistant|>")])

    def test_every_turn_of_the_assistant(self):
        turns = [("system", "naïve"), ("user", "the fox"), ("assistant", "jumps"),
                 ("user", "over"), ("assistant", "the lazy dog")]
        ids, targets = [], []
        for role, text in turns:
            if role == "assistant":  # the words and the end, not what follows
                targets.append([len(ids) + 1, len(ids) + 2 + len(self.ids(text))])
            ids += self.turn(role, text)
        self.assertEqual(self.sample(chat=talk(*turns)), {"ids": ids, "targets": targets})

    def test_refused_by_the_template(self):
        bad, good = talk(("user", "a"), ("system", "b"), ("assistant", "c")), \
            talk(("user", "a"), ("assistant", "c"))
        answers = self.ask(samples=[{"chat": bad}, {"chat": good}, {"pair": ["a", "b"]}])
        self.assertIn("system must come first", answers["samples"][0]["error"])
        self.assertIn("ids", answers["samples"][1])
        self.assertIn("ids", answers["samples"][2])

    def test_template_whose_prefix_does_not_match(self):
        chat = talk(("user", "a"), ("assistant", "b"), ("user", "a"), ("assistant", "c"))
        for template in ("{% for m in messages %}{% if loop.last or m.role == 'user' %}"
                         "{{ m.content }}{% endif %}{% endfor %}<|assistant|>",
                         "{{ messages | length }}{% for m in messages %}{{ m.content }}"
                         "{% endfor %}"):
            self.write(self.tokenizer, template)
            self.assertIn("cannot be told from the prompt", self.sample(chat=chat)["error"])
            self.stop()

    def test_names_that_templates_use(self):
        template = ("{%- for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}\n"
                    "    {% generation %}{{ m | tojson }}{% endgeneration %}\n"
                    "{% endfor %}{{ eos_token }}{{ strftime_now('%Y') | length }}"
                    "{{ {'é': [1]} | tojson(indent=1) }}")
        self.write(self.tokenizer, template)
        want = '{"role": "user", "content": "é"}<|end|>4{\n "é": [\n  1\n ]\n}'
        self.assertEqual(self.ask(prompt=talk(("user", "é"), ("user", "b")))["ids"],
                         self.ids(want))


class Decode(Folder):
    def pieces(self, ids):
        return [self.ask(piece=i)["text"] for i in ids] + [self.ask(flush=1)["text"]]

    def test_pieces_are_whole_characters(self):
        for text in ("the quick brown fox", "Größe 🎉 日本語 end", "🎉", "a\0b"):
            pieces = self.pieces(self.ids(text))
            self.assertEqual("".join(pieces), text)
            self.assertEqual(pieces[-1], "")
            self.assertNotIn("\N{REPLACEMENT CHARACTER}", "".join(pieces))

    def test_incomplete_character(self):
        ids = self.ids("🎊")  # not in the corpus: one of its tokens is not enough
        self.assertGreater(len(ids), 2)
        self.assertEqual(self.pieces(ids), [""] * (len(ids) - 1) + ["🎊", ""])
        self.assertEqual(self.pieces(ids[:2]),
                         ["", "", self.tokenizer.decode(ids[:2])])
        self.assertEqual("".join(self.pieces([*ids[:2], *self.ids("a")])),
                         self.tokenizer.decode([*ids[:2], *self.ids("a")]))

    def test_special_tokens(self):
        self.assertEqual("".join(self.pieces([2, *self.ids("a"), 1, *self.ids("b")])), "ab")

    def test_blanks(self):
        """Where how a token reads depends on the one before."""
        self.write(blank_tokenizer())
        ids = self.ask(encode="ab x a")["ids"]
        self.assertEqual("".join(self.pieces(ids)), "ab x a")
        self.assertEqual("".join(self.pieces(ids)), "ab x a")  # begins anew

    def test_decode(self):
        self.assertEqual(self.ask(decode=self.ids(CORPUS[2]))["text"], CORPUS[2])


class Program(Folder):
    """The C side of the pipe."""

    def setUp(self):
        if PROGRAM is None:
            self.skipTest("no program was given")
        super().setUp()
        program.write_model(self.folder, self.tokenizer.get_vocab_size())

    def generate(self, *arguments):
        return subprocess.run([PROGRAM, "--model", self.folder, "--tokenizer-script", SCRIPT,
                               "--max-new-tokens", "60", *arguments],
                              env={**os.environ, "CADFT_PYTHON": sys.executable},
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)

    def by_ids(self, prompt, *arguments):
        """The text as the tokens say it, without the program's own decoding."""
        done = self.generate("--ids", "--prompt", " ".join(map(str, prompt)), *arguments)
        ids = [*map(int, done.stdout.split())]
        ids = ids[:ids.index(1)] if 1 in ids else ids
        return self.tokenizer.decode(ids) + "\n"

    def test_text(self):
        for seed in range(5):
            more = ["--temperature", "1", "--seed", str(seed)]
            for prompt, ids, chat in (
                    ("the fox", self.ids("the fox"), []),
                    ("Größe", [*self.ids("<|user|>"), *self.ids("Größe"), 1, *self.ids("\n"),
                               *self.ids("<|assistant|>")], ["--chat"])):
                done = self.generate("--prompt", prompt, *more, *chat)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(done.stdout.decode(), self.by_ids(ids, *more))

    def test_refused(self):
        (self.folder / "tokenizer.json").unlink()
        done = self.generate("--prompt", "a")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stderr.count(b"\n"), 1)
        self.assertIn(b"tokenizer.json is missing", done.stderr)


if __name__ == "__main__":
    SCRIPT = sys.argv.pop(1)
    PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else None
    unittest.main()
