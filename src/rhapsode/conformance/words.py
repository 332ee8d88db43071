"""Tokens of the whole vocabulary, each as a text of its own: whoever builds one from other merges is found out.

The evidence holds four hexadecimal digits of each word's ids. One word in 65,536 that differs goes unnoticed, which is
little among the many that a wrong merge or a wrong pre-tokenizer changes.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.tokenizer import Tokenizer

MOST_WORDS = 4096
LONGEST_WORD = 64
DIGITS = 4


def sampled(vocabulary: int) -> range:
    """Tokens spread over a vocabulary; all of them if they are few."""
    step = -(-vocabulary // MOST_WORDS)
    return range(step - 1, vocabulary, step)


def words(tokenizer: Tokenizer) -> list[str]:
    """The texts of the sampled tokens; "" for those that are not whole characters, or a hole in the vocabulary."""
    return [_word(tokenizer, token) for token in sampled(tokenizer.vocab_size)]


def marks(encoded: Iterable[Sequence[int]]) -> str:
    """The digits of every word's ids, one word after the other."""
    return "".join(map(mark, encoded))


def split(digits: str) -> Iterator[str]:
    """The digits of each word."""
    return (digits[start : start + DIGITS] for start in range(0, len(digits), DIGITS))


def mark(ids: Sequence[int]) -> str:
    return f"{zlib.crc32(np.array(ids, '<i8').tobytes()):08x}"[:DIGITS]


def _word(tokenizer: Tokenizer, token: int) -> str:
    try:
        return tokenizer.token_bytes(token).decode()[:LONGEST_WORD]
    except (UnicodeDecodeError, RhapsodeError):
        return ""
