#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a Hugging Face model folder, for programs that cannot link one.

    pip install tokenizers jinja2
    tokenizer.py FOLDER

Reads requests from standard input and answers each in turn on standard output, one JSON
object a line; ends when the input ends. Of FOLDER it reads tokenizer.json,
tokenizer_config.json, chat_template.jinja, generation_config.json and config.json; all but
the first may be missing. `messages` is a list of {"role": TEXT, "content": TEXT, ...}.

    {"info": 1}            {"vocab": N, "bos": ID or null, "eos": [ID, ...],
                            "chat": is there a chat template}
    {"encode": TEXT}       {"ids": [...]}: a prompt, with the tokens that the tokenizer
                           puts before a text (bos) and without those it puts behind it
    {"prompt": messages}   {"ids": [...]}: a prompt by the chat template, up to where the
                           assistant speaks
    {"samples": [S, ...]}  {"samples": [R, ...]}, to train on. S is
         {"pair": [PROMPT, COMPLETION]}: both as they are, and eos
         {"chat": messages}: by the chat template; each turn of the assistant is a target
       R is {"ids": [...], "targets": [[BEGIN, END], ...]}, with "split": true when
       prompt and completion would share a token and were encoded one by one;
       or {"error": SENTENCE}
    {"decode": [ID, ...]}  {"text": TEXT}
    {"piece": ID}          {"text": TEXT}: what one more token adds to a text, "" while a
                           character is incomplete; special tokens are left out
    {"flush": 1}           {"text": TEXT}: what was kept back; the next piece starts anew

A request that cannot be answered gets {"error": SENTENCE}; so does the first one when the
folder cannot be used."""
import datetime
import json
import pathlib
import sys

# What tokenizer_config.json says of these, templates may use.
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token",
           "mask_token")


class Refused(Exception):
    """A sentence for the user."""


def read_json(path):
    """The object in a file, {} where there is no file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise Refused(f"{path}: is not a JSON object")
    return value


def text_of(token):
    """A special token is a text, or an object with its `content`."""
    return token.get("content") if isinstance(token, dict) else token


def read_template(folder, config):
    """The chat template, or None. A folder may name several; one is the default."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        template = {entry.get("name"): entry.get("template") for entry in template}.get("default")
    return template


def compile_template(text):
    """As transformers does: a sandbox, and the few names that templates rely on."""
    try:
        from jinja2 import TemplateError, ext, sandbox
    except ImportError as error:
        raise Refused("chat templates need the Python package jinja2: pip install jinja2") \
            from error

    class Generation(ext.Extension):
        """{% generation %} marks the assistant's words; here it is only read over."""
        tags = {"generation"}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(["name:endgeneration"], drop_needle=True)

    def raise_exception(message):
        raise TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent,
                          separators=separators, sort_keys=sort_keys)

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    try:
        return environment.from_string(text)
    except TemplateError as error:
        raise Refused(f"the chat template is not valid: {error}") from error


def starts_with(ids, start):
    return ids[:len(start)] == start


class Folder:
    """A model folder's tokenizer."""

    def __init__(self, folder):
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise Refused("the Python package tokenizers is missing: "
                          f"{sys.executable} -m pip install tokenizers jinja2") from error
        path = folder / "tokenizer.json"
        if not folder.is_dir():
            raise Refused(f"{folder}: no such folder")
        if not path.is_file():
            raise Refused(f"{path} is missing")
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            raise Refused(f"{path}: is not a tokenizer: {error}") from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        config = read_json(folder / "tokenizer_config.json")
        self.special = {name: text_of(config[name]) for name in SPECIAL if config.get(name)}
        self.template_text = read_template(folder, config)
        self.template = None
        self.bos = self.id_of("bos_token")
        self.eos = self.read_eos(folder)
        # Do two encodings, one behind the other, read as the two texts do? Not where
        # every text is given a blank in front.
        self.glues = self.text(self.plain("x") * 2) == "xx"
        self.held, self.start, self.shown = [], 0, 0

    def id_of(self, name):
        return self.tokenizer.token_to_id(self.special[name]) if name in self.special else None

    def read_eos(self, folder):
        """The end as tokenizer_config.json names it, then all where generation stops."""
        stops = read_json(folder / "generation_config.json").get("eos_token_id")
        if stops is None:
            stops = read_json(folder / "config.json").get("eos_token_id")
        stops = stops if isinstance(stops, list) else [stops]
        found = [self.id_of("eos_token"), *stops]
        return [*dict.fromkeys(i for i in found if i is not None)]

    # ------------------------------------------------------------------ encode

    def plain(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    @staticmethod
    def opened(encoding):
        """The ids without what the tokenizer adds behind a text."""
        n = len(encoding.ids)
        while n and encoding.special_tokens_mask[n - 1]:
            n -= 1
        return encoding.ids[:n]

    def render(self, messages, prompt):
        """The text of a conversation; with `prompt` up to where the assistant speaks."""
        if self.template_text is None:
            raise Refused("the model folder has no chat template")
        if self.template is None:
            self.template = compile_template(self.template_text)
        try:
            return self.template.render(messages=messages, tools=None, documents=None,
                                        add_generation_prompt=prompt, **self.special)
        except Exception as error:
            raise Refused(f"the chat template refuses the messages: {error}") from error

    def chat_texts(self, messages):
        """Before and with each of the assistant's turns; then all."""
        turns = [k for k, message in enumerate(messages) if message["role"] == "assistant"]
        parts = [self.render(messages[:k + more], not more) for k in turns for more in (0, 1)]
        return [*parts, self.render(messages, False)]

    def chat_sample(self, encodings):
        *parts, whole = [encoding.ids for encoding in encodings]
        targets = []
        for before, upto in zip(parts[::2], parts[1::2]):
            if not starts_with(whole, before) or not starts_with(whole, upto):
                raise Refused("the chat template writes the messages up to one of the "
                              "assistant's turns in other tokens when more follows, so its "
                              "words cannot be told from the prompt")
            end = len(upto)
            # Behind the end of the turn there is only what leads to the next one.
            while end > len(before) and whole[end - 1] not in self.eos:
                end -= 1
            targets.append([len(before), end if end > len(before) else len(upto)])
        return {"ids": whole, "targets": targets}

    def pair_sample(self, encodings, completion):
        before, whole = map(self.opened, encodings)
        if not self.eos:
            raise Refused("the model folder names no eos token")
        split = not starts_with(whole, before)
        if split and not self.glues:
            raise Refused("prompt and completion share a token; with this tokenizer a blank "
                          "between them belongs to the completion")
        if split:
            whole = before + self.plain(completion)
        return {"ids": whole + self.eos[:1], "targets": [[len(before), len(whole) + 1]],
                **({"split": True} if split else {})}

    def texts_of(self, sample):
        if "chat" in sample:
            return self.chat_texts(sample["chat"])
        prompt, completion = sample["pair"]
        return [prompt, prompt + completion]

    def samples(self, wanted):
        """All texts are encoded at once, which uses all cores."""
        texts, answers = {True: [], False: []}, []
        for sample in wanted:
            chat = "chat" in sample
            try:
                more = self.texts_of(sample)
                answers.append((chat, len(texts[chat]), len(more)))
                texts[chat] += more
            except Refused as error:
                answers.append({"error": str(error)})
        done = {chat: self.tokenizer.encode_batch(texts[chat], add_special_tokens=not chat)
                for chat in texts}
        for i, sample in enumerate(wanted):
            if isinstance(answers[i], dict):
                continue
            chat, first, n = answers[i]
            encodings = done[chat][first:first + n]
            try:
                answers[i] = self.chat_sample(encodings) if chat else \
                    self.pair_sample(encodings, sample["pair"][1])
            except Refused as error:
                answers[i] = {"error": str(error)}
        return answers

    # ------------------------------------------------------------------ decode

    def text(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def kept(self):
        """What the ids since the last piece add, decoded with those of that piece, as how
        a token reads may depend on the one before it."""
        known = self.text(self.held[self.start:self.shown])
        return self.text(self.held[self.start:])[len(known):]

    def piece(self, token):
        self.held.append(token)
        text = self.kept()
        if not text or text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        self.held = self.held[self.shown:]
        self.start, self.shown = 0, len(self.held)
        return text

    def flush(self):
        text = self.kept()
        self.held, self.start, self.shown = [], 0, 0
        return text

    # ------------------------------------------------------------------ answer

    def answer(self, request):
        if "samples" in request:
            return {"samples": self.samples(request["samples"])}
        if "piece" in request:
            return {"text": self.piece(request["piece"])}
        if "flush" in request:
            return {"text": self.flush()}
        if "encode" in request:
            return {"ids": self.opened(self.tokenizer.encode(request["encode"]))}
        if "prompt" in request:
            return {"ids": self.plain(self.render(request["prompt"], True))}
        if "decode" in request:
            return {"text": self.text(request["decode"])}
        if "info" in request:
            return {"vocab": self.tokenizer.get_vocab_size(), "bos": self.bos,
                    "eos": self.eos, "chat": self.template_text is not None}
        raise Refused("unknown request: " + ", ".join(request))


def serve(folder, requests, answers):
    failure = None
    try:
        folder = Folder(pathlib.Path(folder))
    except Refused as error:
        failure = str(error)
    for line in requests:
        try:
            answer = {"error": failure} if failure else folder.answer(json.loads(line))
        except Refused as error:
            answer = {"error": str(error)}
        except Exception as error:
            answer = {"error": f"request refused: {type(error).__name__}: {error}"}
        answers.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
        answers.flush()
        if failure:
            return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(serve(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer))
