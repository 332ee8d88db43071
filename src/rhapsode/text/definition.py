"""What a tokenizer.json says, checked before the library that runs it sees it.

The file comes with a model and may be damaged or hostile; the library answers some faults by renumbering tokens and
others by ending the program. Two kinds of vocabulary are understood, both byte-pair encoding: byte-level, where a
token is spelled in 256 visible characters that stand for bytes, and SentencePiece's, where it is spelled in text with
a mark for the space and bytes stand apart as <0x00> to <0xFF>.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple, NoReturn

from rhapsode.core.errors import RhapsodeError

# Far above every published file (the largest have 35 MB, 300,000 tokens, stages of 2 KB), far below what hurts.
_MOST_CHARS = 48 * 2**20
_MOST_VALUES = 2**22
_MOST_IDS = 2**22
_MOST_HOLES = 2**12
_LONGEST_STAGE = 2**13
_LONGEST_ADDED = 2**10
_MOST_GROWTH = 64

_STAGES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_PARTS = ("normalizers", "pretokenizers", "decoders", "processors")


class AddedToken(NamedTuple):
    """A token that is found in text before any other: a special one, or a piece of text that is never cut."""

    id: int
    content: str
    is_special: bool
    strips_space: bool


@dataclass(frozen=True)
class Definition:
    """A checked tokenizer.json. The stages are its own JSON values."""

    words: Mapping[str, int]
    products: frozenset[str]
    added: Sequence[AddedToken]
    normalizer: Any
    pre_tokenizer: Any
    space: str | None  # the mark for the space; None for byte-level
    has_byte_words: bool  # <0x00> to <0xFF> stand for bytes
    ignores_merges: bool

    def with_special(self, names: Iterable[str]) -> Definition:
        """The same, where the tokens that bear a role are special whether the file says so or not."""
        added = {token.content: token for token in self.added}
        for name in names:
            if name in added:
                added[name] = added[name]._replace(is_special=True)
            elif name in self.words:
                added[name] = AddedToken(self.words[name], name, is_special=True, strips_space=False)
        return replace(self, added=tuple(added.values()))

    def forgeable(self) -> dict[str, int]:
        """Special tokens that the vocabulary would also make from text spelled like them."""
        special = {token.content: token.id for token in self.added if token.is_special and token.content in self.words}
        return {
            content: token
            for content, token in special.items()
            if content in self.products or self.ignores_merges or len(content) == 1
        }


def read_definition(source: str) -> Definition:
    """The definition that the text of a tokenizer.json holds.

    Raises:
        RhapsodeError: it is damaged, too large, contradicts itself, or is of another kind; the error says where.
    """
    try:
        with _uncollected():
            return _definition(_parsed(source))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        _refuse(f"is damaged: {type(error).__name__}: {str(error)[:200]}")


@contextmanager
def _uncollected() -> Iterator[None]:
    """A million values are made and none of them is garbage: looking for some again and again doubles the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def leaves(stage: Any) -> list[dict[str, Any]]:
    """The steps of a normaliser, pre-tokenizer or decoder, sequences taken apart."""
    if stage is None:
        return []
    if stage["type"] != "Sequence":
        return [stage]
    return [leaf for part in stage[sequence_key(stage)] for leaf in leaves(part)]


def sequence_key(sequence: Mapping[str, Any]) -> str:
    """Under which key a sequence of stages keeps them."""
    return next((key for key in _PARTS if key in sequence), "type")


def _parsed(source: str) -> dict[str, Any]:
    if len(source) > _MOST_CHARS:
        _refuse(f"has {len(source):,} characters, {_MOST_CHARS:,} are allowed")
    values = source.count(",") + source.count("[") + source.count("{")
    if values > _MOST_VALUES:
        _refuse(f"has {values:,} values, {_MOST_VALUES:,} are allowed")
    value = json.loads(source)
    if not isinstance(value, dict) or not isinstance(value.get("model"), dict):
        _refuse("has no object `model`")
    for stage in _STAGES:
        if len(json.dumps(value.get(stage))) > _LONGEST_STAGE:
            _refuse(f"has a `{stage}` of more than {_LONGEST_STAGE:,} characters")
    return value


def _definition(value: dict[str, Any]) -> Definition:
    model = value["model"]
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        _refuse(f"holds a {kind} model, neither byte-level BPE nor SentencePiece's", _OTHER_KIND)
    decoders = leaves(value.get("decoder"))
    normalizer, pre_tokenizer = value.get("normalizer"), value.get("pre_tokenizer")
    _check_growth(normalizer)
    words = _words(model["vocab"])
    return Definition(
        words=words,
        products=_products(model["merges"], words),
        added=_added(value.get("added_tokens") or []),
        normalizer=normalizer,
        pre_tokenizer=pre_tokenizer,
        space=_space(decoders),
        has_byte_words=bool(model.get("byte_fallback")) or any(step["type"] == "ByteFallback" for step in decoders),
        ignores_merges=bool(model.get("ignore_merges")),
    )


def _words(vocab: Any) -> dict[str, int]:
    if not isinstance(vocab, dict) or not vocab:
        _refuse("has no tokens in model.vocab")
    wrong = next((word for word, token in vocab.items() if type(token) is not int or not 0 <= token < _MOST_IDS), None)
    if wrong is not None:
        _refuse(f"gives {wrong[:40]!r} the id {str(vocab[wrong])[:40]} in model.vocab")
    if len(set(vocab.values())) < len(vocab):
        _refuse("gives two tokens one id in model.vocab")
    if max(vocab.values()) >= len(vocab) + _MOST_HOLES:
        _refuse(f"has {len(vocab):,} tokens in model.vocab, but ids up to {max(vocab.values()):,}")
    return vocab


def _products(merges: Any, words: Mapping[str, int]) -> frozenset[str]:
    """Every token that a merge makes. There may be half a million, so they are looked at together."""
    if not isinstance(merges, list) or not {type(merge) for merge in merges} <= {str, list}:
        _refuse("has no list of pairs in model.merges")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    if not set(map(len, pairs)) <= {2}:
        _refuse(f"has no pair of tokens in model.merges[{[len(pair) == 2 for pair in pairs].index(False)}]")
    products = frozenset(map("".join, pairs))
    if not (products <= words.keys() and set(chain.from_iterable(pairs)) <= words.keys()):
        number, (left, right) = next(
            (number, pair) for number, pair in enumerate(pairs) if not {*pair, "".join(pair)} <= words.keys()
        )
        _refuse(f"joins {left[:40]!r} and {right[:40]!r} in model.merges[{number}], which model.vocab does not know")
    return products


def _added(rows: list[Any]) -> tuple[AddedToken, ...]:
    added = []
    for number, row in enumerate(rows):
        token, content = row["id"], row["content"]
        if type(token) is not int or not 0 <= token < _MOST_IDS or not isinstance(content, str):
            _refuse(f"has no id or no content in added_tokens[{number}]")
        if not 0 < len(content) <= _LONGEST_ADDED:
            _refuse(f"has {len(content)} characters in added_tokens[{number}].content")
        added.append(AddedToken(token, content, bool(row.get("special")), _strips(row)))
    for what in ("id", "content"):
        if len({getattr(token, what) for token in added}) < len(added):
            _refuse(f"has one {what} twice in added_tokens")
    return tuple(added)


def _strips(row: dict[str, Any]) -> bool:
    return bool(row.get("lstrip") or row.get("rstrip"))


def _space(decoders: Sequence[dict[str, Any]]) -> str | None:
    """The character that stands for the space, None where bytes have spellings of their own."""
    if any(step["type"] == "ByteLevel" for step in decoders):
        return None
    marks = [step.get("replacement", "▁") for step in decoders if step["type"] == "Metaspace"]
    marks += [
        step["pattern"].get("String") for step in decoders if step["type"] == "Replace" and step["content"] == " "
    ]
    if not marks or not isinstance(marks[0], str) or len(marks[0]) != 1:
        _refuse("is not byte-level BPE, nor SentencePiece's: its decoder is of another kind", _OTHER_KIND)
    return str(marks[0])


def _check_growth(normalizer: Any) -> None:
    """A chain of replacements can make a gigabyte of a letter."""
    growth = 1
    for step in leaves(normalizer):
        growth *= max(1, len(step.get("content", ""))) if step["type"] == "Replace" else 1
        if growth > _MOST_GROWTH:
            _refuse(f"has a normalizer that makes text more than {_MOST_GROWTH} times as long")


_RESTORE = "restore the file"
_OTHER_KIND = "choose a model whose tokenizer is byte-level or SentencePiece-style BPE"


def _refuse(what: str, hint: str = _RESTORE) -> NoReturn:
    raise RhapsodeError(f"tokenizer.json {what}", hint)
