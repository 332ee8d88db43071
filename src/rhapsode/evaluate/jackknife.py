"""Error bars for any figure of sums, such as an accuracy, a macro-F1 or BLEU, and for the difference of two.

Items of one group are not independent (the same prompt, the same document), groups are. Each group in turn is left out,
and how far the figure moves says how much it owes to the choice of groups: the jackknife (Efron and Tibshirani 1993,
chapter 11), with clusters as in MacKinnon, Nielsen and Webb 2023 (CV3), and Student's quantile. It draws nothing at
random, and for a mean of independent items it is the textbook's interval.

Groups that are all alike tell nothing of how groups differ. What they say then is how rare another kind can be: of n
alike, others are fewer than 3 in n (the rule of three, Hanley and Lippman-Hand 1983).

Shapes: N items, G groups, K numbers that are summed.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rhapsode.evaluate.arrays import Floats
from rhapsode.evaluate.interval import FEWEST_DOCUMENTS, Interval
from rhapsode.evaluate.repeats import student

FEWEST_GROUPS = FEWEST_DOCUMENTS
_ALIKE = 1e-12

Figure = Callable[[Floats], Floats]
"""From sums [...,K] to figures [...]."""


class Spread(NamedTuple):
    """A figure, its interval, and how many groups had a part in it; no interval where they are too few."""

    value: float
    low: float | None
    high: float | None
    groups: int

    @property
    def interval(self) -> Interval:
        return Interval(self.value, self.low, self.high)


def group_sums(counts_NK: Floats, groups: Sequence[str]) -> Floats:
    """[G,K] the counts of each group, in the order of their names."""
    names, group_N = np.unique(np.array(groups), return_inverse=True)
    sums_GK = np.zeros((len(names), counts_NK.shape[1]))
    np.add.at(sums_GK, group_N, counts_NK)
    return sums_GK


def spread(sums_GK: Floats, figure: Figure, *, confidence: float) -> Spread:
    """A figure from 0 to 1, and its interval."""
    return _jackknife(sums_GK, figure, confidence=confidence, lowest=0.0)


def spread_of_difference(after_GK: Floats, before_GK: Floats, figure: Figure, *, confidence: float) -> Spread:
    """What `figure` is more after than before, and its interval; the groups are the same, in the same order.

    A group is left out on both sides at once: what makes it easy or hard for both is no part of the interval.
    """
    size = after_GK.shape[1]

    def gained(sums: Floats) -> Floats:
        return figure(sums[..., :size]) - figure(sums[..., size:])

    return _jackknife(np.concatenate([after_GK, before_GK], axis=1), gained, confidence=confidence, lowest=-1.0)


def _jackknife(sums_GK: Floats, figure: Figure, *, confidence: float, lowest: float) -> Spread:
    sums_GK = sums_GK[sums_GK.any(axis=1)]
    total_K, n = sums_GK.sum(axis=0), len(sums_GK)
    value = float(figure(total_K))
    if n < FEWEST_GROUPS:
        return Spread(value, None, None, n)
    moved_G = figure(total_K - sums_GK) - value
    error = float(np.sqrt((n - 1) / n * (moved_G**2).sum()))
    of_other_kinds = 1 - (1 - confidence) ** (1 / n)
    reach = student(confidence, freedom=n - 1) * error if error > _ALIKE else of_other_kinds
    return Spread(value, max(lowest, value - reach), min(1.0, value + reach), n)
