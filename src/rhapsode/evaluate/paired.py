"""Two models that answered the same items: how far apart they are, and whether that is more than chance.

Verdicts are words, and no difference is called no difference. Differences are told in points, hundredths of a score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import bdtr

from rhapsode.evaluate.arrays import Floats
from rhapsode.evaluate.jackknife import FEWEST_GROUPS, Spread, group_sums, spread_of_difference
from rhapsode.evaluate.scorers.scorer import Judged

_ALIKE = 1e-9


@dataclass(frozen=True)
class Change:
    """What a scorer says of a model beside another.

    Attributes:
        difference, low, high: of the figure, after less before; no interval where there are too few groups.
        groups: that had a part in it.
        wins, losses, ties: items with a higher, a lower and the same score.
        p_value: of the exact test of McNemar, that wins and losses are equally likely; None where scores are not 0 or
            1, or where items are not independent of each other.
        verdict: in words.
    """

    scorer: str
    difference: float
    low: float | None
    high: float | None
    groups: int
    wins: int
    losses: int
    ties: int
    p_value: float | None
    verdict: str

    @property
    def is_none(self) -> bool:
        """The interval holds zero: other items of this kind could have turned it round."""
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high


class Figured(Protocol):
    """A scorer of answers or of likelihoods."""

    @property
    def name(self) -> str: ...

    def figure(self, sums: Floats) -> Floats: ...


def change(scorer: Figured, after: Judged, before: Judged, groups: Sequence[str], *, confidence: float) -> Change:
    """Compare what `scorer` found of two models on the same items, whose groups are given."""
    now, then = (group_sums(judged.counts, groups) for judged in (after, before))
    found = spread_of_difference(now, then, scorer.figure, confidence=confidence)
    gain_N = after.scores - before.scores
    wins, losses = int((gain_N > _ALIKE).sum()), int((gain_N < -_ALIKE).sum())
    ties = int(np.isfinite(gain_N).sum()) - wins - losses
    is_plain = len(set(groups)) == len(groups) and _is_yes_or_no(after.scores) and _is_yes_or_no(before.scores)
    p_value = mcnemar(wins, losses) if is_plain else None
    return Change(scorer.name, *found, wins, losses, ties, p_value, verdict(found))


def mcnemar(wins: int, losses: int) -> float:
    """The chance that so many of either, or more, come out one-sided though both are equally likely (exact)."""
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def verdict(found: Spread) -> str:
    """A difference in words: better by 31.0 points ± 4.1."""
    size = f"{points(abs(found.value))} points"
    if found.low is None or found.high is None:
        direction = "higher" if found.value > 0 else "lower" if found.value < 0 else "apart"
        few = f"{found.groups} independent items are too few for an interval, which needs {FEWEST_GROUPS}"
        return f"{size} {direction}; {few}"
    if found.low <= 0 <= found.high:
        return f"no difference: {points(found.value)} points, interval {points(found.low)} to {points(found.high)}"
    word = "better" if found.value > 0 else "worse"
    return f"{word} by {size}{around(found.value, found.low, found.high)}"


def around(value: float, low: float, high: float) -> str:
    """An interval in points, to stand behind the value: " ± 4.1", or its ends where what is possible cuts it off."""
    above, below = high - value, value - low
    if abs(above - below) < _ALIKE:
        return f" ± {points(above)}"
    return f", interval {points(low)} to {points(high)}"


def points(share: float) -> str:
    """0.314 -> "31.4"; what would be 0.0 and is not gets as many digits as it needs."""
    text = f"{100 * share:z.1f}"
    return text if text != "0.0" or abs(share) < _ALIKE else f"{100 * share:.1g}"


def _is_yes_or_no(scores: Floats) -> bool:
    known = scores[np.isfinite(scores)]
    return bool(np.isin(known, (0.0, 1.0)).all())
