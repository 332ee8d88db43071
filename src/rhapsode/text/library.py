"""The seam to the tokenizers library: what it raises becomes our errors, and a vocabulary can be run in other ways.

The library is written in Rust; where it meets what it did not expect it panics, and a panic is no `Exception`.
Tokenizers made here share one vocabulary, so another way to run it costs little memory.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tokenizers
from tokenizers import models
from tokenizers.normalizers import Normalizer

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.definition import Definition

_PANIC = "PanicException"  # the library makes this type while it runs; it cannot be imported
_RESTORE = "restore the file"


@contextmanager
def guarded(what: str, hint: str = _RESTORE) -> Iterator[None]:
    """What the library raises within is a RhapsodeError that begins with `what`."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, RhapsodeError) or not (isinstance(error, Exception) or type(error).__name__ == _PANIC):
            raise
        raise RhapsodeError(f"{what}: {str(error)[:300]}", hint) from error


def load(source: str, definition: Definition) -> tokenizers.Tokenizer:
    """The library's tokenizer for a tokenizer.json, whose special tokens are text unless asked for.

    Raises:
        RhapsodeError: the library does not understand the file, or would give a token another id than it says.
    """
    with guarded("tokenizer.json is damaged"):
        backend = tokenizers.Tokenizer.from_str(source)
        backend.no_truncation()
        backend.no_padding()
        backend.model.dropout = None
        known = backend.get_added_tokens_decoder()
        special = [token for token in definition.added if token.is_special]
        plain = [token for token in special if not (token.id in known and known[token.id].special)]
        backend.add_tokens([tokenizers.AddedToken(t.content, special=True, normalized=False) for t in plain])
        backend.encode_special_tokens = True
        ids = {token.content: backend.token_to_id(token.content) for token in definition.added}
    for token in definition.added:
        if ids[token.content] != token.id:
            raise RhapsodeError(
                f"tokenizer.json gives the added token {token.content!r} the id {token.id}, but its place is "
                f"{ids[token.content]}: the id is another token's, or ids before it are missing",
                _RESTORE,
            )
    return backend


def added_tokens(backend: tokenizers.Tokenizer) -> dict[int, tokenizers.AddedToken]:
    """Its added tokens in the order of their ids."""
    return dict(sorted(backend.get_added_tokens_decoder().items()))


def finder(added: Sequence[tokenizers.AddedToken], *, normalizer: Normalizer | None = None) -> tokenizers.Tokenizer:
    """Finds `added` in a text and in what the normaliser makes of it, and nothing else."""
    made = tokenizers.Tokenizer(models.BPE())
    if normalizer is not None:
        made.normalizer = normalizer
    made.add_tokens(list(added))
    return made


def sharing(backend: tokenizers.Tokenizer, *, added: Sequence[tokenizers.AddedToken]) -> tokenizers.Tokenizer:
    """The same vocabulary and stages with other added tokens."""
    made = tokenizers.Tokenizer(backend.model)
    if backend.normalizer is not None:
        made.normalizer = backend.normalizer
    if backend.pre_tokenizer is not None:
        made.pre_tokenizer = backend.pre_tokenizer
    made.add_tokens(list(added))
    return made


def with_stages(backend: tokenizers.Tokenizer, normalizer: Any, pre_tokenizer: Any) -> tokenizers.Tokenizer:
    """The same vocabulary behind other stages, which are JSON values of a tokenizer.json."""
    empty = {"type": "BPE", "vocab": {}, "merges": []}
    with guarded("tokenizer.json is damaged"):
        made = tokenizers.Tokenizer.from_str(
            json.dumps({"added_tokens": [], "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "model": empty})
        )
        made.model = backend.model
        made.add_tokens(list(added_tokens(backend).values()))
        made.encode_special_tokens = True
    return made
