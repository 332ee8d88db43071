"""New pieces for a vocabulary: byte-pair encoding goes on where it ended.

The words of the text are taken as the vocabulary cuts them now, and the neighbours that stand together most often
become one, again and again: each such union saves as many ids as it has places, so the pieces are those that save most
("continued BPE training", Purason et al. 2025, arXiv:2512.03989). Whatever the vocabulary joined before, it joins
before: new merges come after all old ones, and join what those left apart.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import pairwise
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.words import Words

LEAST = 2
"""Places that a union must have: what was seen once is not worth a token."""


class Piece(NamedTuple):
    """A new token as the vocabulary spells it, and the old ones that spell it without it."""

    word: str
    ids: tuple[int, ...]


def learn_pieces(counts: Mapping[str, int], words: Words, *, count: int, taken: Set[str]) -> list[Piece]:
    """At most `count` pieces, those that save most first; fewer where no two neighbours stand together twice.

    Args:
        counts: how often each word occurs. Numbers stay as they are read now: words with digits are passed over.
        taken: what no piece may be spelled like: special tokens and others that are found before anything is joined.
    """
    learning = _Learning(is_free=lambda union: union not in taken and not words.has(union))
    for word, times in sorted(counts.items()):
        if not any(char.isnumeric() for char in word):
            for run in _runs(words.tokens(word), apart=words.apart):
                learning.add(run, times)
    found: dict[str, Piece] = {}
    while len(found) < count and (union := learning.best()) is not None:
        found.setdefault(union, Piece(union, tuple(words.ids(union))))
        learning.join(union)
    return list(found.values())


def given_pieces(texts: Sequence[str], words: Words, *, taken: Set[str]) -> list[Piece]:
    """Pieces that make every text one token; those on the way to it are among them, for two tokens join at a time.

    Raises:
        RhapsodeError: a text is one token already, is cut before anything is joined, or has what no token spells.
    """
    found: dict[str, Piece] = {}
    for text in texts:
        tokens = _tokens_of(text, words, taken=taken)
        for union in found:
            tokens = _joined(tokens, union)
        for last in range(2, len(tokens) + 1):
            union = "".join(tokens[:last])
            if not words.has(union):
                found[union] = Piece(union, tuple(words.ids(union)))
    return list(found.values())


class _Learning:
    """Words as lists of tokens, and the unions of neighbours with their places."""

    def __init__(self, *, is_free: Callable[[str], bool]) -> None:
        self._is_free = is_free
        self._words: list[list[str]] = []
        self._times: list[int] = []
        self._counts: Counter[str] = Counter()
        self._where: defaultdict[str, set[int]] = defaultdict(set)
        self._heap: list[tuple[int, str]] | None = None

    def add(self, tokens: list[str], times: int) -> None:
        """A word, before the first question."""
        if len(tokens) > 1:
            self._words.append(tokens)
            self._times.append(times)
            self._count(len(self._words) - 1, times)

    def best(self) -> str | None:
        """The union with most places, of equal ones the first by its letters; None where none has enough."""
        if self._heap is None:
            self._heap = [(-times, union) for union, times in self._counts.items()]
            heapq.heapify(self._heap)
        while self._heap:
            times, union = heapq.heappop(self._heap)
            if -times != self._counts[union]:
                continue  # another entry has its present number
            if -times < LEAST:
                return None
            if self._is_free(union):
                return union
        return None

    def join(self, union: str) -> None:
        """Make it one token wherever neighbours spell it."""
        assert self._heap is not None, "it was asked for"
        touched: set[str] = set()
        for number in sorted(self._where.pop(union)):
            touched |= self._count(number, -self._times[number])
            self._words[number] = _joined(self._words[number], union)
            touched |= self._count(number, self._times[number])
        for other in touched - {union}:
            heapq.heappush(self._heap, (-self._counts[other], other))

    def _count(self, number: int, times: int) -> set[str]:
        unions = [left + right for left, right in pairwise(self._words[number])]
        for union in unions:
            self._counts[union] += times
            if times > 0:
                self._where[union].add(number)
        return set(unions)


def _tokens_of(text: str, words: Words, *, taken: Set[str]) -> list[str]:
    cut = words.whole(text)
    if len(cut) != 1:
        raise RhapsodeError(
            f"the new piece {text!r} cannot be one token: the base cuts it into {cut} before it joins anything",
            "give its parts, or make it a special token (data.tokens.new_special)",
        )
    tokens = words.tokens(cut[0])
    if len(tokens) < 2 or cut[0] in taken:
        raise RhapsodeError(f"the new piece {text!r} is a token of the base already", "leave it out")
    if not words.apart.isdisjoint(tokens):
        raise RhapsodeError(
            f"the new piece {text!r} has a letter that the base spells in bytes, which nothing is joined with",
            "leave it out, or make it a special token (data.tokens.new_special)",
        )
    return tokens


def _runs(tokens: Sequence[str], *, apart: Set[str]) -> Iterator[list[str]]:
    """The tokens between those that nothing is joined with."""
    run: list[str] = []
    for token in tokens:
        if token in apart:
            yield run
            run = []
        else:
            run.append(token)
    yield run


def _joined(tokens: Sequence[str], union: str) -> list[str]:
    """The neighbours that spell `union` made one, from the left."""
    out: list[str] = []
    at = 0
    while at < len(tokens):
        is_pair = at + 1 < len(tokens) and tokens[at] + tokens[at + 1] == union
        out.append(union if is_pair else tokens[at])
        at += 1 + is_pair
    return out
