"""A small vocabulary, learned once, and the kinds that other models bring, learned from the same words."""

import argparse
import json
import json.decoder
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from rhapsode.text.stages import SPLIT
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer

Shape = dict[str, Any]
Make = Callable[..., Path]

WORDS = "Der Rhapsode trägt vor. Ο ραψωδός τραγουδά. 吟遊詩人は歌う。 Рапсод поёт. 👩‍👩‍👧 🎶\r\n\t" * 3
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES = {**GPT2, "use_regex": False}
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
TO_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
FROM_MARK = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
WITHOUT_FIRST = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def _texts() -> list[str]:
    return [*(Path(m.__file__ or "").read_text(encoding="utf-8") for m in (argparse, json.decoder)), WORDS]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(_texts(), vocab_size=1000)


@pytest.fixture
def saved(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    tokenizer.save(tmp_path / "model", model_max_length=512)
    return tmp_path / "model"


@pytest.fixture(scope="session")
def kinds() -> dict[str, Shape]:
    """Vocabularies as common models publish them, in small: tokenizer.json values by name."""
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    one_digit = {**split, "pattern": {"Regex": SPLIT.replace("{1,3}", "")}}
    digits = {"type": "Digits", "individual_digits": True}
    bytes_learned, text_learned = _learn_bytes(), _learn_text()
    byte_level = partial(_byte_level, *bytes_learned)
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    llama2 = {
        "normalizer": _sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, TO_MARK),
        "decoder": _sequence("decoders", FROM_MARK, {"type": "ByteFallback"}, {"type": "Fuse"}, WITHOUT_FIRST),
    }
    sentencepiece = partial(_sentencepiece, *text_learned)
    return {
        "llama3": byte_level(
            special=["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
            pre_tokenizer=_sequence("pretokenizers", split, BYTES),
            begin="<|begin_of_text|>",
            ignore_merges=True,
        ),
        "qwen": byte_level(
            special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            pieces=["<tool_call>", "</tool_call>", "<think>", "</think>"],
            pre_tokenizer=_sequence("pretokenizers", one_digit, BYTES),
            normalizer={"type": "NFC"},
        ),
        "gpt2": byte_level(special=["<|endoftext|>"], pieces=["    "], pre_tokenizer=GPT2),
        "smollm": byte_level(
            special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            pre_tokenizer=_sequence("pretokenizers", digits, GPT2),
        ),
        "gemma": sentencepiece(
            special=["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
            pieces=["\n\n", "\n\n\n", "<b>", "</b>"],
            begin="<bos>",
            normalizer=TO_MARK,
            pre_tokenizer={
                "type": "Split",
                "pattern": {"String": " "},
                "behavior": "MergedWithPrevious",
                "invert": False,
            },
        ),
        "llama2": sentencepiece(special=["<unk>", "<s>", "</s>"], begin="<s>", **llama2),
        "mistral": sentencepiece(
            special=["<unk>", "<s>", "</s>", "[INST]", "[/INST]"],
            begin="<s>",
            pre_tokenizer=metaspace,
            decoder=llama2["decoder"],
        ),
        "phi3": sentencepiece(
            special=["<unk>", "<s>", "</s>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"],
            begin="<s>",
            rstrip=["</s>", "<|user|>", "<|assistant|>", "<|end|>"],
            **llama2,
        ),
    }


NAMES = {
    "llama3": ("<|begin_of_text|>", "<|end_of_text|>"),
    "qwen": (None, "<|endoftext|>"),
    "gpt2": ("<|endoftext|>", "<|endoftext|>"),
    "smollm": ("<|im_start|>", "<|im_end|>"),
    "gemma": ("<bos>", "<eos>"),
    "llama2": ("<s>", "</s>"),
    "mistral": ("<s>", "</s>"),
    "phi3": ("<s>", "<|endoftext|>"),
}


@pytest.fixture
def make(kinds: dict[str, Shape], tmp_path: Path) -> Make:
    """Writes the directory of a model with a vocabulary of that kind, as its authors would have."""

    def made(kind: str, *, chat_template: str | None = None, shape: Shape | None = None, **config: Any) -> Path:
        shape = shape or kinds[kind]
        directory = tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        bos, eos = NAMES[kind]
        flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
        decoder = {str(token["id"]): {flag: token[flag] for flag in flags} for token in shape["added_tokens"]}
        values = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "added_tokens_decoder": decoder,
            "bos_token": bos,
            "eos_token": eos,
            "chat_template": chat_template,
            **config,
        }
        kept = {key: value for key, value in values.items() if value is not None}
        (directory / "tokenizer.json").write_text(json.dumps(shape, ensure_ascii=False), encoding="utf-8")
        (directory / "tokenizer_config.json").write_text(json.dumps(kept), encoding="utf-8")
        return directory

    return made


@pytest.fixture(params=list(NAMES))
def foreign(request: pytest.FixtureRequest, make: Make) -> Path:
    """A directory with a vocabulary of each kind in turn."""
    return make(request.param)


def _learn_bytes() -> tuple[list[str], list[list[str]]]:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(_texts(), trainer)
    return _learned(backend)


def _learn_text() -> tuple[list[str], list[list[str]]]:
    """Pieces of text with "▁" for the space, of which only runs of line ends hold a line end."""
    backend = tokenizers.Tokenizer(models.BPE())
    lines = pre_tokenizers.Split(tokenizers.Regex(r"\n+"), behavior="isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([lines, pre_tokenizers.Metaspace(prepend_scheme="never")])
    trainer = trainers.BpeTrainer(vocab_size=900, limit_alphabet=80, show_progress=False)
    backend.train_from_iterator([*_texts(), "\n\n" * 9, " \n  \n    " * 9], trainer)
    return _learned(backend)


def _learned(backend: tokenizers.Tokenizer) -> tuple[list[str], list[list[str]]]:
    model = json.loads(backend.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), model["merges"]


def _byte_level(
    words: Sequence[str], merges: Sequence[Any], *, special: Sequence[str], pieces: Sequence[str] = (), **stages: Any
) -> Shape:
    """Added tokens come after the vocabulary, as byte-level models have them."""
    model = {"type": "BPE", "merges": merges, "ignore_merges": stages.pop("ignore_merges", False)}
    vocab = {word: index for index, word in enumerate(words)}
    ids = {name: len(words) + index for index, name in enumerate([*special, *pieces])}
    shape = {"decoder": GPT2, "post_processor": GPT2, **stages, "model": {**model, "vocab": vocab}}
    return _shape(shape, ids, special=special)


def _sentencepiece(
    words: Sequence[str], merges: Sequence[Any], *, special: Sequence[str], pieces: Sequence[str] = (), **stages: Any
) -> Shape:
    """Special tokens, bytes and pieces come first and are in the vocabulary, as SentencePiece has them."""
    firsts = [word for word in dict.fromkeys([*special, *BYTE_TOKENS, *pieces]) if word not in words]
    vocab = {word: index for index, word in enumerate([*firsts, *words])}
    model = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "merges": merges}
    decoder = _sequence("decoders", FROM_MARK, {"type": "ByteFallback"}, {"type": "Fuse"})
    ids = {name: vocab[name] for name in [*special, *pieces]}
    return _shape({"decoder": decoder, **stages, "model": {**model, "vocab": vocab}}, ids, special=special)


def _shape(shape: Shape, ids: dict[str, int], *, special: Sequence[str]) -> Shape:
    begin, rstrip = shape.pop("begin", None), shape.pop("rstrip", [])
    if begin:
        token = {"id": begin, "ids": [ids[begin]], "tokens": [begin]}
        first, text = {"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        template = {"single": [first, text], "pair": [first, text], "special_tokens": {begin: token}}
        shape["post_processor"] = {"type": "TemplateProcessing", **template}
    added = [
        {
            "id": token,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": name in rstrip,
            "normalized": False,
            "special": name in special,
        }
        for name, token in sorted(ids.items(), key=lambda item: item[1])
    ]
    empty = {"normalizer": None, "pre_tokenizer": None, "post_processor": None}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **empty, **shape}


def _sequence(key: str, *steps: Shape) -> Shape:
    return {"type": "Sequence", key: list(steps)}
