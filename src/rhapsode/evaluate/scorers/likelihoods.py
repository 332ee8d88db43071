"""How likely a model finds answers that people judged: whether it tells the better ones from the others.

A whole answer is the less likely the longer it is, so there are three ways to compare: as a whole, token by token, and
by what was gained since the model before, which is the reward that DPO and KTO imply (Rafailov et al. 2023,
arXiv:2305.18290). By the last, the model before can tell nothing apart: it is at 50 of 100, which is chance.
A model may be right by its reward and wrong as a whole (Chen et al. 2024, arXiv:2405.19534).

Shapes: N items, A answers, K numbers that are summed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.arrays import Floats, Ints
from rhapsode.evaluate.scorers.scorer import Judged, share

MOST_LEVELS = 512
"""More different values are put together by their rank; those of one level are as good as equal."""


class Likelihoods(NamedTuple):
    """[A] each: ln p of all of an answer's tokens together, how many they are, and ln p that the model before gave."""

    log_probs: Floats
    tokens: Ints
    before: Floats | None = None


Measure = Callable[[Likelihoods], Floats]
"""[A]: what is compared of an answer."""


def _reward(found: Likelihoods) -> Floats:
    assert found.before is not None, "a reward is what was gained since a model before"
    return found.log_probs - found.before


MEASURES: Mapping[str, Measure] = {
    "whole": lambda found: found.log_probs,
    "token": lambda found: found.log_probs / found.tokens,
    "reward": _reward,
}


class LikelihoodScorer(Protocol):
    """As a `Scorer`, of what a model finds likely and not of what it writes."""

    @property
    def name(self) -> str: ...

    def judge(self, found: Likelihoods, good_A: Sequence[bool]) -> Judged:
        """All answers of a set, and whether people wanted them.

        Raises:
            RhapsodeError: there is nothing to tell apart.
        """
        ...

    def figure(self, sums: Floats) -> Floats:
        """What sums [...,K] over items come to, from 0 to 1; not a number where nothing was counted."""
        ...


@dataclass(frozen=True)
class Pairs:
    """Of two answers that follow each other, the wanted one first, whether that is ahead; half where both are equal."""

    name: str
    measure: Measure

    def judge(self, found: Likelihoods, good_A: Sequence[bool]) -> Judged:
        assert all(good_A[0::2]), "the chosen answer of a pair comes first"
        assert not any(good_A[1::2]), "the chosen answer of a pair comes first"
        worth_A = self.measure(found)
        scores_N = 0.5 * (1 + np.sign(worth_A[0::2] - worth_A[1::2]))
        return Judged(scores_N, np.stack([scores_N, np.ones_like(scores_N)], axis=1))

    def figure(self, sums: Floats) -> Floats:
        return share(sums[..., 0], of=sums[..., 1])


@dataclass(frozen=True)
class Feedback:
    """How often a good answer is ahead of a bad one, over all pairs of both: the area under the ROC curve.

    An answer's score is the share of the other kind that it is on the right side of (Hanley and McNeil 1982). Sums
    hold, for each level of what is compared, the good and the bad answers that reach it.
    """

    name: str
    measure: Measure

    def judge(self, found: Likelihoods, good_A: Sequence[bool]) -> Judged:
        is_good = np.array(good_A, dtype=bool)
        if is_good.all() or not is_good.any():
            kind = "good" if is_good.any() else "bad"
            raise RhapsodeError(
                f"every held-out answer is {kind}, so there is nothing to tell apart",
                "raise data.split.validation, or add feedback of both kinds",
            )
        level_A, count = _levels(self.measure(found))
        kinds = np.zeros((len(level_A), 2, count))
        kinds[np.arange(len(level_A)), (~is_good).astype(int), level_A] = 1
        good_L, bad_L = kinds.sum(axis=0)
        below_good = (bad_L.cumsum() - bad_L / 2) / bad_L.sum()
        above_bad = (good_L[::-1].cumsum()[::-1] - good_L / 2) / good_L.sum()
        scores_A = np.where(is_good, below_good[level_A], above_bad[level_A])
        return Judged(scores_A, kinds.reshape(len(level_A), -1))

    def figure(self, sums: Floats) -> Floats:
        good, bad = np.moveaxis(sums.reshape(*sums.shape[:-1], 2, -1), -2, 0)
        ahead = (good * (bad.cumsum(-1) - bad / 2)).sum(-1)
        return share(ahead, of=good.sum(-1) * bad.sum(-1))


def _levels(worth_A: Floats) -> tuple[Ints, int]:
    """[A] the place of each value among those that occur, from 0 on, and how many places there are."""
    values, level_A = np.unique(worth_A, return_inverse=True)
    count = min(len(values), MOST_LEVELS)
    return np.asarray(level_A * count // len(values), dtype=np.int64), count
