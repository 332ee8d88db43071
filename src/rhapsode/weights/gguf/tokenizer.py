"""The tokenizer of a GGUF file as a tokenizer.json, which gives the same ids.

SentencePiece joins, of all neighbours whose union is a token, those whose union has the highest score. Byte-pair
encoding joins by a list of pairs in order. They are the same when the list has every pair whose union is a token, by
falling score: so that list is made. Tokens that are found before any joining (the user's own) become added tokens, as
do those that text cannot spell (control).
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from rhapsode.text.files import TokenizerFiles
from rhapsode.weights.gguf.container import Gguf
from rhapsode.weights.gguf.pre_tokenizers import pre_tokenizer
from rhapsode.weights.gguf.vocabulary import Kind, Vocabulary, read_template, read_vocabulary

SPACE = "\u2581"  # how SentencePiece writes a space
_ADDED = (Kind.CONTROL, Kind.UNKNOWN, Kind.USER_DEFINED)
_ROLE_NAMES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}


class GgufTokenizer(NamedTuple):
    """What a model directory needs to hold the tokenizer.

    Attributes:
        files: tokenizer.json, the names of tokens that have a role, the chat template.
        ids: bos_token_id, eos_token_id and pad_token_id, of those that there are.
        stops: every id that ends a generation, the end of text first.
    """

    files: TokenizerFiles
    ids: dict[str, int]
    stops: tuple[int, ...]


def read_tokenizer(file: Gguf) -> GgufTokenizer:
    """The tokenizer of a file.

    Raises:
        RhapsodeError: it is of a kind that is not understood, or contradicts itself; names the key.
    """
    vocabulary, template = read_vocabulary(file), read_template(file)
    if "eos" not in vocabulary.roles:
        raise vocabulary.wrong("it lacks the key 'tokenizer.ggml.eos_token_id'", "no text of this model would end")
    make = _sentencepiece if vocabulary.model == "llama" else _byte_level
    is_phi3 = file.metadata.get("general.architecture") == "phi3" and vocabulary.model == "llama"
    shape = make(vocabulary, swallows_space=is_phi3)
    words = shape["model"]["vocab"]
    spelled = {token: word for word, token in words.items()}
    roles = {name: vocabulary.roles[role] for role, name in _ROLE_NAMES.items() if role in vocabulary.roles}
    for name, token in roles.items():
        if token not in spelled:
            raise vocabulary.wrong(f"{name} is token {token}, which is marked as unused")
    names = {name: spelled[token] for name, token in roles.items()}
    return GgufTokenizer(
        TokenizerFiles(json.dumps(shape, ensure_ascii=False), names, template),
        ids={f"{name}_id": token for name, token in roles.items() if name != "unk_token"},
        stops=vocabulary.stops(),
    )


def _sentencepiece(v: Vocabulary, *, swallows_space: bool) -> dict[str, Any]:
    has_space_before = v.flag("add_space_prefix", default=True)
    if v.flag("remove_extra_whitespaces", default=False):
        raise v.wrong("its tokenizer removes spaces (remove_extra_whitespaces)", "no such model is known; report it")
    texts = [text.replace(" ", SPACE) if _is_marked(kind, has_space_before) else text for text, kind in _pairs(v)]
    words = _words(v, texts)
    if missing := [byte for byte in range(256) if v.kinds[words.get(f"<0x{byte:02X}>", 0)] != Kind.BYTE]:
        raise v.wrong(f"it has no token for the byte 0x{missing[0]:02x}", "not every text could be encoded")
    normal = {texts[token]: v.scores[token] for token, kind in enumerate(v.kinds) if kind == Kind.NORMAL}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    before = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace]}
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    unknown = v.roles["unknown"]
    return _shape(
        v,
        texts,
        swallows_space=swallows_space,
        is_normalized=not has_space_before,
        normalizer=before if has_space_before else replace,
        pre_tokenizer=None if has_space_before else split,
        post_processor=_template(v, texts, adds_bos=True),
        decoder={"type": "Sequence", "decoders": [*decoders, strip] if has_space_before else decoders},
        model={
            "unk_token": texts[unknown] if texts[unknown] in words else None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": words,
            "merges": list(merges_of(normal)),
        },
    )


def _byte_level(v: Vocabulary, *, swallows_space: bool) -> dict[str, Any]:
    name = v.keys.get("pre")
    if not isinstance(name, str):
        raise v.wrong(
            "it lacks the key 'tokenizer.ggml.pre'", "older files do not say how text is split; take a newer one"
        )
    before, words = pre_tokenizer(name, where=v.where), _words(v, v.tokens)
    return _shape(
        v,
        v.tokens,
        swallows_space=swallows_space,
        is_normalized=False,
        normalizer=before.normalizer,
        pre_tokenizer=before.pre_tokenizer,
        post_processor=_template(v, v.tokens, adds_bos=before.adds_bos),
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        model={
            "unk_token": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": before.ignore_merges,
            "vocab": words,
            "merges": list(_listed_merges(v, words)),
        },
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


def _listed_merges(v: Vocabulary, words: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Each pair once, where it comes first."""
    for number, merge in enumerate(dict.fromkeys(v.merges)):
        left, space, right = merge[:1] + merge[1:].partition(" ")[0], *merge[1:].partition(" ")[1:]
        if not space or any(part not in words for part in (left, right, left + right)):
            raise v.wrong(f"tokenizer.ggml.merges[{number}] is {merge[:40]!r}, which does not join two tokens to one")
        yield left, right


def _is_marked(kind: Kind, has_space_before: bool) -> bool:
    """Whether a token's spaces are written with the mark.

    llama.cpp has the user's own tokens with plain spaces. They are looked for after spaces were marked, which is
    SentencePiece's way, unless text begins with a space of its own, which they must not.
    """
    return kind == Kind.USER_DEFINED and not has_space_before


def _pairs(v: Vocabulary) -> Iterable[tuple[str, Kind]]:
    return zip(v.tokens, v.kinds, strict=True)


def _words(v: Vocabulary, texts: list[str]) -> dict[str, int]:
    """Text -> id; ids that only fill up the embedding have none."""
    used = [token for token, kind in enumerate(v.kinds) if kind != Kind.UNUSED and texts[token]]
    words = {texts[token]: token for token in used}
    if len(words) < len(used):
        twice = next(token for token in used if words[texts[token]] != token)
        raise v.wrong(f"tokens {twice} and {words[texts[twice]]} are both spelled {texts[twice][:40]!r}")
    return words


def _template(v: Vocabulary, texts: list[str], *, adds_bos: bool) -> dict[str, Any] | None:
    """What is put before and after a text."""
    wanted = {"bos": v.flag("add_bos_token", default=adds_bos), "eos": v.flag("add_eos_token", default=False)}
    ids = {role: v.roles.get(role) for role, is_added in wanted.items() if is_added}
    if not ids:
        return None
    if None in ids.values():
        raise v.wrong("it adds a token to every text that it does not name (add_bos_token, bos_token_id)")
    names = {role: texts[token] for role, token in ids.items() if token is not None}

    def around(letter: str, kind: int) -> list[dict[str, Any]]:
        def special(role: str) -> list[dict[str, Any]]:
            return [{"SpecialToken": {"id": names[role], "type_id": kind}}] if role in names else []

        return [*special("bos"), {"Sequence": {"id": letter, "type_id": kind}}, *special("eos")]

    tokens = {name: {"id": name, "ids": [v.roles[role]], "tokens": [name]} for role, name in names.items()}
    first = around("A", 0)
    return {"type": "TemplateProcessing", "single": first, "pair": first + around("B", 1), "special_tokens": tokens}


def _shape(
    v: Vocabulary,
    texts: list[str],
    *,
    swallows_space: bool,
    is_normalized: bool,
    model: dict[str, Any],
    **stages: dict[str, Any] | None,
) -> dict[str, Any]:
    """A whole tokenizer.json.

    Args:
        v: the vocabulary.
        texts: its tokens as they are written here.
        swallows_space: added tokens take the spaces after them (Phi-3), except those that open or end a text.
        is_normalized: the user's own tokens are looked for after the normalizer.
        model: the vocabulary and its merges.
        stages: normalizer, pre_tokenizer, post_processor and decoder.
    """
    added = [
        {
            "id": token,
            "content": texts[token],
            "single_word": False,
            "lstrip": False,
            "rstrip": swallows_space and texts[token] not in ("<unk>", "<s>", "<|endoftext|>"),
            "normalized": is_normalized and kind == Kind.USER_DEFINED,
            "special": kind != Kind.USER_DEFINED,
        }
        for token, kind in enumerate(v.kinds)
        if kind in _ADDED and texts[token]
    ]
    bpe = {"type": "BPE", "dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        **stages,
        "model": bpe | model,
    }
