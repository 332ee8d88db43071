"""What a vocabulary merges within: its words, spelled in its own way.

Byte-level vocabularies cut a text before they merge, and no token reaches over such a cut. SentencePiece's have no cuts
of their own: there a word is letters, or marks, each with what stands before it, as the others have it. Words are what
new pieces are learned from, so none spans two of them.
"""

from collections.abc import Iterator, Set

import tokenizers
from tokenizers import Regex, pre_tokenizers

from rhapsode.text.blocks import line_blocks

_LETTERS = r"[^\s\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+"


class Words:
    """Cuts text into words and a word into the tokens that spell it.

    Args:
        backend: the vocabulary behind its stages.
        space: its mark for the space, None for byte-level.
        apart: tokens that are no text, so that nothing may be joined with them: bytes, what stands for the unknown.
    """

    def __init__(self, backend: tokenizers.Tokenizer, *, space: str | None, apart: Set[str]) -> None:
        self._normalizer, self._model, self.space, self.apart = backend.normalizer, backend.model, space, apart
        self._cut = backend.pre_tokenizer
        if space is not None:
            marks = rf"{space}?[^\s\p{{L}}\p{{M}}\p{{N}}{space}]+"
            self._cut = pre_tokenizers.Split(Regex(rf"{_LETTERS}|{marks}|{space}+|\s+|\p{{N}}"), behavior="isolated")

    def of(self, text: str) -> Iterator[str]:
        """The words of a text, one after the other."""
        for block in line_blocks(text):
            yield from (word for word, _ in self._cut.pre_tokenize_str(self._normal(block)))

    def whole(self, text: str) -> list[str]:
        """The words of a short text that somebody wants to be one; SentencePiece's vocabularies join anything."""
        return list(self.of(text)) if self.space is None else [self._normal(text)]

    def tokens(self, word: str) -> list[str]:
        """The tokens that spell a word, as they are written in the vocabulary."""
        return [token.value for token in self._model.tokenize(word)]

    def ids(self, word: str) -> list[int]:
        return [token.id for token in self._model.tokenize(word)]

    def has(self, word: str) -> bool:
        """Whether it is a token."""
        return self._model.token_to_id(word) is not None

    def _normal(self, text: str) -> str:
        """What is cut; some mark spaces only afterwards, which is too late here."""
        found = text if self._normalizer is None else str(self._normalizer.normalize_str(text))
        return found if self.space is None else found.replace(" ", self.space)
