"""SentencePiece's vocabularies as byte-pair encoding that falls back to bytes.

SentencePiece joins, of all neighbours whose union is a token, those whose union has the highest score. Byte-pair
encoding joins by a list of pairs in order. They are the same when the list has every pair whose union is a token, by
falling score: so that list is made.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from rhapsode.weights.gguf.vocabulary import Kind, Parts, Vocabulary

SPACE = "\u2581"  # how SentencePiece writes a space

_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_BEFORE = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, _MARK]}
# of no effect, since there is no space left; the published tokenizers of Gemma have it
_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
_DECODERS: list[dict[str, Any]] = [
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]
_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def sentencepiece(v: Vocabulary) -> Parts:
    """Raises RhapsodeError where a byte has no token, or spaces are removed."""
    has_space_before = v.flag("add_space_prefix", default=True)
    if v.flag("remove_extra_whitespaces", default=False):
        raise v.wrong("its tokenizer removes spaces (remove_extra_whitespaces)", "take the model's safetensors")
    texts = v.tokens if has_space_before else _marked(v)
    words = v.words(texts)
    if missing := [byte for byte in range(256) if v.kinds[words.get(f"<0x{byte:02X}>", 0)] != Kind.BYTE]:
        raise v.wrong(f"it has no token for the byte 0x{missing[0]:02x}", "not every text could be encoded")
    normal = {texts[token]: v.scores[token] for token, kind in enumerate(v.kinds) if kind == Kind.NORMAL}
    unknown = texts[v.roles["unknown"]]
    return Parts(
        texts,
        model={
            "unk_token": unknown if unknown in words else None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": words,
            "merges": list(merges_of(normal)),
        },
        normalizer=_BEFORE if has_space_before else _MARK,
        pre_tokenizer=None if has_space_before else _SPLIT,
        decoder={"type": "Sequence", "decoders": [*_DECODERS, _STRIP] if has_space_before else _DECODERS},
        adds_bos=True,
        is_normalized=not has_space_before,
    )


def merges_of(scores: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Every pair of tokens whose union is a token, by falling score of the union.

    Of equal scores, the pair with the longer left side comes first. So a run of one character, whose tokens
    SentencePiece's own trainer gives equal scores, is joined from the left into the longest token there is.
    """
    falling = sorted((word for word in scores if len(word) > 1), key=lambda word: -scores[word])
    for _, words in itertools.groupby(falling, key=scores.__getitem__):
        first, *others = words
        pairs = _halves(first, scores)
        if others:
            pairs += [pair for word in others for pair in _halves(word, scores)]
            pairs.sort(key=lambda pair: (-len(pair[0]), -len(pair[1])))
        yield from pairs


def _halves(word: str, known: Mapping[str, float]) -> list[tuple[str, str]]:
    """Its divisions into two tokens, the longest left side first."""
    cuts = range(len(word) - 1, 0, -1)
    return [(word[:cut], word[cut:]) for cut in cuts if word[:cut] in known and word[cut:] in known]


def _marked(v: Vocabulary) -> list[str]:
    """The tokens, with the spaces in the user's own written as the mark.

    llama.cpp has these with plain spaces. They are looked for after spaces were marked, which is SentencePiece's way;
    but not where a text begins with a space of its own, for that would be put before each of them.
    """
    pairs = zip(v.tokens, v.kinds, strict=True)
    return [text.replace(" ", SPACE) if kind == Kind.USER_DEFINED else text for text, kind in pairs]
