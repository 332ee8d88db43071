"""What a scorer is: it gives one answer a score, and a set of answers a figure.

Every figure is a function of sums over items: an accuracy of right answers and of answers, a macro-F1 of every label's
hits and misses, BLEU and chrF of counted n-grams. So a set may be joined or divided without judging anything again, and
one way of making intervals (`evaluate/jackknife.py`) serves them all.

Shapes: N items, K numbers that are summed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.arrays import Floats


class Judged(NamedTuple):
    """Answers of a set.

    Attributes:
        scores: [N], from 0 to 1; not a number where an item is none of this scorer's business.
        counts: [N,K], what of every item is summed.
    """

    scores: Floats
    counts: Floats


class Scorer(Protocol):
    """Higher is better, and 1 is the best."""

    @property
    def name(self) -> str: ...

    def score(self, answer: str, wanted: str) -> float:
        """What an answer is worth, from 0 to 1, given what its row of the data says of the right one.

        Raises:
            RhapsodeError: what the row says cannot be used; never because of the answer.
        """
        ...

    def judge(self, answers: Sequence[str], wanted: Sequence[str]) -> Judged:
        """All answers of a set.

        Raises:
            RhapsodeError: as for one.
        """
        ...

    def figure(self, sums: Floats) -> Floats:
        """What sums [...,K] over items come to, from 0 to 1; not a number where nothing was counted."""
        ...


@dataclass(frozen=True)
class Mean:
    """A scorer whose figure is the mean of its scores."""

    name: str
    rule: Callable[[str, str], float]

    def score(self, answer: str, wanted: str) -> float:
        return self.rule(answer, wanted)

    def judge(self, answers: Sequence[str], wanted: Sequence[str]) -> Judged:
        scores = np.array([self.score(*pair) for pair in zip(answers, wanted, strict=True)], dtype=float)
        return Judged(scores, np.stack([scores, np.ones_like(scores)], axis=1))

    def figure(self, sums: Floats) -> Floats:
        return share(sums[..., 0], of=sums[..., 1])


def share(top: Floats, *, of: Floats) -> Floats:
    """top / of; not a number where `of` is 0."""
    found: Floats = np.divide(top, of, out=np.full(np.shape(top), np.nan), where=np.asarray(of) > 0)
    return found


def require_wanted(wanted: str) -> None:
    """Raises: RhapsodeError: there is nothing to compare an answer with."""
    if not wanted.strip():
        raise RhapsodeError(
            "the wanted answer of a row is empty, so every answer would be as far from it", "give every row its answer"
        )
