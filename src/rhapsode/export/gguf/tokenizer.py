"""Everything that a GGUF file says about text: the vocabulary, how text is split, and the tokens with a role."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rhapsode.core.errors import RhapsodeError
from rhapsode.export.gguf.vocabulary import has_space_before, read_vocabulary
from rhapsode.model.spec import ModelSpec
from rhapsode.text.definition import read_definition
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.gguf.pre_tokenizers import name_of

ROLES = {"bos_token": "bos", "unk_token": "unknown", "pad_token": "padding", "mask_token": "mask"}
STOPS = ("eos", "eot", "eom")
"""llama.cpp's names for tokens that end an answer: of a text, of a turn, of a message."""


def tokenizer_metadata(
    directory: Path, *, spec: ModelSpec, tokenizer: Tokenizer, stops: Sequence[int]
) -> dict[str, Any]:
    """Keys `tokenizer.*` and their values.

    Args:
        stops: the tokens that end an answer.

    Raises:
        RhapsodeError: a GGUF file has no way to say it.
    """
    source = (directory / "tokenizer.json").read_text(encoding="utf-8")
    shape = json.loads(source)
    definition = read_definition(source).with_special(tokenizer.names.values())
    vocabulary = read_vocabulary(shape["model"], definition, size=spec.vocab_size)
    values = vocabulary.metadata() | {
        "pre": "default" if vocabulary.is_spelled else name_of(shape),
        "add_bos_token": bool(tokenizer.prefix),
        "add_eos_token": False,
        "add_space_prefix": has_space_before(definition),
    }
    values |= {f"{name}_token_id": token for name, token in _roles(tokenizer, stops).items()}
    template = {"tokenizer.chat_template": tokenizer.chat_template} if tokenizer.has_chat_template else {}
    return {f"tokenizer.ggml.{key}": value for key, value in values.items()} | template


def _roles(tokenizer: Tokenizer, stops: Sequence[int]) -> Mapping[str, int]:
    """llama.cpp's name of a role -> its token."""
    roles = {ours: tokenizer.special(tokenizer.names[role]) for role, ours in ROLES.items() if role in tokenizer.names}
    if tokenizer.prefix and tokenizer.prefix != [roles.get("bos", tokenizer.prefix[0])]:
        raise RhapsodeError(
            f"tokenizer.json puts {[tokenizer.show(token) for token in tokenizer.prefix]} before a text; "
            "a GGUF file can only say that bos comes first",
            "export safetensors, which hold the tokenizer as it is",
        )
    first = {"bos": tokenizer.prefix[0]} if tokenizer.prefix else {}
    ends = dict.fromkeys((tokenizer.eos, tokenizer.end_of_turn, *stops))
    return roles | first | dict(zip(STOPS, ends, strict=False))
