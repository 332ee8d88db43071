"""Where llama.cpp reads text in another way than a model was trained with, whatever a file says.

The tokenizer beside a model follows the publisher's. In a few places llama.cpp cannot: then strings that spell such a
place may have other ids there, and nothing else may differ. What is left out is told, never passed over.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gguf import TokenType

from rhapsode.conformance.readers.llamacpp import LlamaCpp
from rhapsode.weights.gguf.container import read_gguf

MARK = "\u2581"
"""How SentencePiece's tokens write a space."""


class Quirk(NamedTuple):
    """A spelling, and what llama.cpp does with it."""

    spelling: str
    reason: str


def quirks_of(file: Path, reader: LlamaCpp) -> list[Quirk]:
    """Those of the vocabulary in `file`, which `reader` has loaded."""
    metadata = read_gguf(file).metadata
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    forced = [token for token in reader.controls() if types[token] not in (TokenType.CONTROL, TokenType.UNKNOWN)]
    found = [Quirk(tokens[token], "which llama.cpp takes for the end of an answer") for token in forced]
    own = (text for text, kind in zip(tokens, types, strict=True) if kind == TokenType.USER_DEFINED)
    if metadata["tokenizer.ggml.model"] == "llama" and any(" " in text for text in own):
        found.append(Quirk(MARK, "which the model takes for a space, and llama.cpp does not"))
    return found


def without(text: str, left_out: Sequence[Quirk]) -> str:
    """The text, with nothing in it that spells a quirk."""
    for quirk in left_out:
        text = text.replace(quirk.spelling, "")
    return text
