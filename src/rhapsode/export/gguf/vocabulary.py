"""A tokenizer.json as a GGUF file says it: tokens with their types, merges or scores.

llama.cpp has two kinds that matter here. "gpt2" is byte-level BPE: merges in order, and the name of the way that text
is split first. "llama" is SentencePiece's: of all pairs whose union is a token, the one with the highest score joins
first. Scores are thus the order of the merges, which is where a tokenizer.json has them from.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gguf import TokenType

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.definition import AddedToken, Definition, leaves

BYTE_WORDS = tuple(f"<0x{byte:02X}>" for byte in range(256))
NEVER = -1000.0
"""The score of tokens that are not made by joining."""


class Vocabulary(NamedTuple):
    """Token number -> text and type, and how tokens are joined; is_spelled sets "llama" apart from "gpt2"."""

    is_spelled: bool
    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[str]

    def metadata(self) -> dict[str, Any]:
        """Keys, without what they begin with, and their values."""
        joins = {"scores": self.scores} if self.is_spelled else {"merges": self.merges}
        model = "llama" if self.is_spelled else "gpt2"
        return {"model": model, "tokens": self.tokens, "token_type": self.types, **joins}


def read_vocabulary(model: Mapping[str, Any], definition: Definition, *, size: int) -> Vocabulary:
    """The vocabulary of a tokenizer.json, filled up to `size` where the model's embedding has more rows.

    Args:
        model: its part of that name.
        definition: the whole, checked.

    Raises:
        RhapsodeError: there are more tokens than rows.
    """
    merges = [_pair(merge) for merge in model["merges"]]
    known = {token: text for text, token in definition.words.items()}
    types = dict.fromkeys(known, int(TokenType.NORMAL))
    if definition.has_byte_words:
        types |= {definition.words[name]: int(TokenType.BYTE) for name in BYTE_WORDS if name in definition.words}
    for added in definition.added:
        known[added.id], types[added.id] = _added(added, space=definition.space)
    unknown = definition.words.get(model.get("unk_token") or "")
    if unknown is not None and definition.space is not None:
        types[unknown] = int(TokenType.UNKNOWN)
    if max(known) >= size:
        raise RhapsodeError(
            f"tokenizer.json has a token {max(known)}, config.json a vocabulary of {size}",
            "put the tokenizer beside the model that it was trained with",
        )
    return Vocabulary(
        is_spelled=definition.space is not None,
        tokens=[known.get(token, f"[PAD{token}]") for token in range(size)],
        types=[types.get(token, int(TokenType.UNUSED)) for token in range(size)],
        scores=_scores(known, types, merges, size=size),
        merges=[" ".join(pair) for pair in merges],
    )


def has_space_before(definition: Definition) -> bool:
    """Whether a space is put before every text."""
    for stage in (*leaves(definition.normalizer), *leaves(definition.pre_tokenizer)):
        if stage["type"] == "Prepend":
            return True
        if stage["type"] == "Metaspace":
            old = "always" if stage.get("add_prefix_space", True) else "never"
            return bool(stage.get("prepend_scheme", old) != "never")
        if stage["type"] == "ByteLevel" and stage.get("add_prefix_space"):
            return True
    return False


def _added(token: AddedToken, *, space: str | None) -> tuple[str, int]:
    """Text and type; llama.cpp looks for those that are not special in the raw text, where a space is a space."""
    if token.is_special:
        return token.content, int(TokenType.CONTROL)
    return token.content.replace(space, " ") if space else token.content, int(TokenType.USER_DEFINED)


def _scores(
    known: Mapping[int, str], types: Mapping[int, int], merges: Iterable[tuple[str, str]], *, size: int
) -> list[float]:
    """The first merge that makes a token is its place in the order; what no merge makes comes last."""
    first: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        first.setdefault(left + right, rank)
    scores = []
    for index in range(size):
        if types.get(index) == TokenType.BYTE:
            scores.append(0.0)
        elif types.get(index) == TokenType.NORMAL:
            scores.append(-float(first.get(known[index], len(first) + index)))
        else:
            scores.append(NEVER)
    return scores


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """Both spellings of a merge: "a b" and ["a", "b"]."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right
