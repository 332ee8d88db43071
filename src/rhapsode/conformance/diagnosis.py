"""The name of what is wrong, from what is different.

Most readers that garble a model do one of a few things, and each leaves its own mark in the ids.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rhapsode.conformance.evidence import Case, Vectors
from rhapsode.conformance.words import mark
from rhapsode.core.errors import RhapsodeError
from rhapsode.text.tokenizer import Tokenizer

Kind = Literal[
    "double BOS", "added BOS", "no BOS", "merge", "tokens", "template", "weights", "greedy text", "end tokens"
]

ADVICE: dict[Kind, str] = {
    "double BOS": "the beginning is put before a text twice: once by the template and once by the tokenizer, or by a "
    "post_processor of tokenizer.json that says it twice",
    "added BOS": "the model was trained without the special token that is put before its texts: see post_processor in "
    "tokenizer.json and add_bos_token",
    "no BOS": "the beginning that the model was trained with is left out: see post_processor in tokenizer.json and "
    "add_bos_token",
    "merge": "the same text is cut into other tokens: see merges and pre_tokenizer in tokenizer.json",
    "tokens": "the ids spell another text: see normalizer and vocab in tokenizer.json",
    "template": "conversations are written differently: see chat_template.jinja and the chat_template of "
    "tokenizer_config.json",
    "weights": "the same ids get other scores: see the weights and config.json",
    "greedy text": "the likeliest tokens are others",
    "end tokens": "answers end elsewhere: see eos_token_id in generation_config.json",
}
AROUND = 3


class Mismatch(NamedTuple):
    """Something that is not as the evidence says.

    Attributes:
        kind: its name.
        where: which text or conversation.
        what: what was expected and what was found.
    """

    kind: Kind
    where: str
    what: str


class Diagnosis:
    """Knows the evidence and the tokenizer that tokens are shown with."""

    def __init__(self, vectors: Vectors, tokenizer: Tokenizer) -> None:
        self._vectors, self._tokenizer = vectors, tokenizer

    def ids(self, case: Case, found: Sequence[int]) -> Mismatch | None:
        """What is wrong with the ids of a case, if anything is."""
        expected, got = list(case.ids), list(found)
        if got == expected:
            return None
        return Mismatch(self._kind(case, expected, got), case.name, self._first_difference(expected, got))

    def word(self, word: str, found: Sequence[int], *, digits: str) -> Mismatch | None:
        """What is wrong with the ids of a word, of whose right ones only `digits` are known."""
        if mark(found) == digits:
            return None
        own = self._tokenizer.ids(word)
        if mark(own) == digits:
            return self.ids(Case(text=word, ids=tuple(own)), found)
        return Mismatch("merge", f"word {word!r}", f"it is {self._some(found, 0)}, and was cut otherwise")

    def forges(self, case: Case, found: Sequence[int]) -> bool:
        """Whether a reader took for special tokens what is only spelled like them."""
        return case.is_look_alike and self._num_special(found) > self._num_special(case.ids)

    def show(self, token: int) -> str:
        """A token for people to read, also one that is half a character or that the tokenizer does not have."""
        try:
            data = self._tokenizer.token_bytes(token)
            return repr(data.decode() or self._tokenizer.show(token))
        except UnicodeDecodeError:
            return repr(self._bytes(token))
        except RhapsodeError:
            return f"unknown token {token}"

    def is_special(self, token: int) -> bool:
        try:
            return not self._tokenizer.token_bytes(token)
        except RhapsodeError:
            return False

    def _kind(self, case: Case, expected: list[int], found: list[int]) -> Kind:
        begin = self._beginning(case)
        added = found[: max(0, len(found) - len(expected))]
        if added and found == added + expected and all(map(self.is_special, added)):
            return "double BOS" if added[-len(begin) :] == begin else "added BOS"
        if begin and found == expected[len(begin) :]:
            return "no BOS"
        if self._spelled(expected) == self._spelled(found):
            return "merge"
        return "template" if case.messages else "tokens"

    def _beginning(self, case: Case) -> list[int]:
        """What stands before a text because it is a text; a template may write the same."""
        prefix = list(self._vectors.prefix)
        return prefix if list(case.ids[: len(prefix)]) == prefix else []

    def _num_special(self, ids: Sequence[int]) -> int:
        return sum(map(self.is_special, ids))

    def _spelled(self, ids: Sequence[int]) -> list[bytes | int]:
        """The bytes between special tokens, and those tokens themselves."""
        pieces: list[bytes | int] = [b""]
        for token in ids:
            if self.is_special(token):
                pieces += [token, b""]
            else:
                assert isinstance(pieces[-1], bytes)
                pieces[-1] += self._bytes(token)
        return pieces

    def _bytes(self, token: int) -> bytes:
        try:
            return self._tokenizer.token_bytes(token)
        except RhapsodeError:
            return f"unknown token {token}".encode()

    def _first_difference(self, expected: Sequence[int], found: Sequence[int]) -> str:
        pairs = zip(expected, found, strict=False)
        place = next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(expected), len(found)))
        return (
            f"{len(expected)} tokens expected and {len(found)} found; from token {place} on "
            f"{self._some(expected, place)} expected, {self._some(found, place)} found"
        )

    def _some(self, ids: Sequence[int], place: int) -> str:
        shown = " ".join(map(self.show, ids[place : place + AROUND]))
        return (shown or "the end") + (" ..." if len(ids) > place + AROUND else "")
