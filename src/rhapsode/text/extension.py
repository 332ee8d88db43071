"""A tokenizer.json with more tokens, which every reader reads alike.

New pieces are words of the vocabulary with merges of their own, and no added tokens: those are looked for in the raw
text before anything else, in the middle of words too, and where two of them overlap readers differ. Readers make tokens
in two ways. Byte-level ones follow the list of merges; SentencePiece's, such as llama.cpp's, join any two tokens whose
union is a token, in the order in which unions first stand in the list. Both do the same where the list has every pair
that a new token takes part in, each beside the other pairs of its union.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from rhapsode.text.definition import Definition, read_definition

Pair = tuple[str, str]


def extended(source: str, *, pieces: Sequence[str], special: Sequence[str]) -> str:
    """The text of a tokenizer.json with these tokens behind its own, in this order.

    Args:
        pieces: as the vocabulary spells them.
        special: found where a template writes them, and never in what people write.
    """
    value, definition = json.loads(source), read_definition(source)
    model = value["model"]
    # ids that only the added tokens have become the vocabulary's: their place there is what gives them their number
    words: dict[str, int] = {**definition.words, **{token.content: token.id for token in definition.added}}
    first = 1 + max(words.values())
    words |= {word: first + number for number, word in enumerate([*pieces, *special])}
    model["vocab"] = dict(sorted(words.items(), key=lambda item: item[1]))
    model["merges"] = _merges(model["merges"], definition, pieces)
    value["added_tokens"] = [*(value.get("added_tokens") or []), *(_special(name, words[name]) for name in special)]
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def extended_config(config: Mapping[str, Any], *, special: Mapping[str, int]) -> dict[str, Any]:
    """A tokenizer_config.json that knows the new special tokens, where it repeats those of tokenizer.json at all.

    Some of transformers' classes make a tokenizer of words and merges alone, and take its added tokens from here.
    """
    known = config.get("added_tokens_decoder")
    if known is None:
        return dict(config)
    rows = {str(token): _special(name, token) for name, token in special.items()}
    shown = {token: {key: value for key, value in row.items() if key != "id"} for token, row in rows.items()}
    return {**config, "added_tokens_decoder": {**known, **shown}}


def taken_words(definition: Definition) -> Set[str]:
    """What is in a vocabulary and is no text of its own: found before anything is joined, or a byte."""
    return {token.content for token in definition.added}


def joinable(definition: Definition) -> Set[str]:
    """The tokens that text is joined from and to."""
    letters = {word for word in definition.words if len(word) == 1}
    return (letters | definition.products) - taken_words(definition)


def _merges(old: Sequence[Any], definition: Definition, pieces: Sequence[str]) -> list[Any]:
    """The merges with those of the new pieces: of an old union at its first place, of new ones behind all."""
    new, known = frozenset(pieces), joinable(definition) | frozenset(pieces)
    beside = _reached(known - new, new, known)
    as_pair = list if not old or isinstance(old[0], list) else " ".join
    found: list[Any] = []
    for merge in old:
        found.append(merge)
        if beside:
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            found += map(as_pair, beside.pop(left + right, ()))
    return found + [as_pair(pair) for piece in pieces for pair in _halves(piece, known)]


def _reached(words: Set[str], new: Set[str], known: Set[str]) -> dict[str, list[Pair]]:
    """Old unions that a new piece is one side of."""
    found: defaultdict[str, list[Pair]] = defaultdict(list)
    lengths = {len(word) for word in new}
    for word in words:
        if any(word[:cut] in new or word[-cut:] in new for cut in lengths if cut < len(word)):
            found[word] = [pair for pair in _halves(word, known) if not new.isdisjoint(pair)]
    return dict(found)


def _halves(word: str, known: Set[str]) -> Iterator[Pair]:
    """Its divisions into two tokens, the longest left side first: a run of one letter is joined from the left."""
    cuts = range(len(word) - 1, 0, -1)
    return ((word[:cut], word[cut:]) for cut in cuts if word[:cut] in known and word[cut:] in known)


def _special(name: str, token: int) -> Mapping[str, Any]:
    looks = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token, "content": name, **looks, "special": True}
