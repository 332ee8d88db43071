"""The tokenizer of a GGUF file as a tokenizer.json, which gives the same ids.

Tokens that are found before any joining (the user's own) become added tokens, as do those that text cannot spell
(control). What is put around a text becomes a template.
"""

import json
from typing import Any, NamedTuple

from rhapsode.text.files import TokenizerFiles
from rhapsode.weights.gguf.byte_level import byte_level
from rhapsode.weights.gguf.container import Gguf
from rhapsode.weights.gguf.pieces import sentencepiece
from rhapsode.weights.gguf.vocabulary import Kind, Parts, Vocabulary, read_template, read_vocabulary

_ADDED = (Kind.CONTROL, Kind.UNKNOWN, Kind.USER_DEFINED)
_AROUND_TEXTS = ("<unk>", "<s>", "<|endoftext|>")
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
    is_sentencepiece = vocabulary.model == "llama"
    parts = sentencepiece(vocabulary) if is_sentencepiece else byte_level(vocabulary)
    is_phi3 = is_sentencepiece and file.metadata.get("general.architecture") == "phi3"
    shape = _whole(vocabulary, parts, swallows_space=is_phi3)
    spelled = {token: word for word, token in parts.model["vocab"].items()}
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


def _whole(v: Vocabulary, parts: Parts, *, swallows_space: bool) -> dict[str, Any]:
    """A whole tokenizer.json; `swallows_space` if added tokens take the spaces after them (Phi-3)."""
    bpe = {"type": "BPE", "dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(v, parts, swallows_space=swallows_space),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": _template(v, parts),
        "decoder": parts.decoder,
        "model": bpe | parts.model,
    }


def _added(v: Vocabulary, parts: Parts, *, swallows_space: bool) -> list[dict[str, Any]]:
    return [
        {
            "id": token,
            "content": parts.texts[token],
            "single_word": False,
            "lstrip": False,
            "rstrip": swallows_space and parts.texts[token] not in _AROUND_TEXTS,
            "normalized": parts.is_normalized and kind == Kind.USER_DEFINED,
            "special": kind != Kind.USER_DEFINED,
        }
        for token, kind in enumerate(v.kinds)
        if kind in _ADDED and parts.texts[token]
    ]


def _template(v: Vocabulary, parts: Parts) -> dict[str, Any] | None:
    """What is put before and after a text."""
    wanted = {"bos": v.flag("add_bos_token", default=parts.adds_bos), "eos": v.flag("add_eos_token", default=False)}
    ids = {role: v.roles.get(role) for role, is_added in wanted.items() if is_added}
    if not ids:
        return None
    if None in ids.values():
        raise v.wrong("it adds a token to every text that it does not name (add_bos_token, bos_token_id)")
    names = {role: parts.texts[token] for role, token in ids.items() if token is not None}

    def around(letter: str, kind: int) -> list[dict[str, Any]]:
        def special(role: str) -> list[dict[str, Any]]:
            return [{"SpecialToken": {"id": names[role], "type_id": kind}}] if role in names else []

        return [*special("bos"), {"Sequence": {"id": letter, "type_id": kind}}, *special("eos")]

    tokens = {name: {"id": name, "ids": [v.roles[role]], "tokens": [name]} for role, name in names.items()}
    first = around("A", 0)
    return {"type": "TemplateProcessing", "single": first, "pair": first + around("B", 1), "special_tokens": tokens}
