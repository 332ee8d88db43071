"""BLEU and chrF, which judge a set as a whole: n-grams are counted over all texts before anything is divided.

Counted and computed by sacrebleu, in its usual settings (BLEU: 13a, exponential smoothing; chrF2: characters up to 6),
so that a set has the figure that others report. The score of one answer is sacrebleu's for a sentence.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from rhapsode.evaluate.arrays import Floats
from rhapsode.evaluate.scorers.scorer import Judged, require_wanted


class _Metric(Protocol):
    """From 0 to 100."""

    def counted(self, answers: Sequence[str], wanted: Sequence[str]) -> list[list[int]]: ...
    def summed(self, sums: list[int]) -> float: ...


class _Bleu(BLEU):
    def counted(self, answers: Sequence[str], wanted: Sequence[str]) -> list[list[int]]:
        counts: list[list[int]] = self._extract_corpus_statistics(answers, [wanted])
        return counts

    def summed(self, sums: list[int]) -> float:
        return float(self._compute_score_from_stats(sums).score)


class _Chrf(CHRF):
    def counted(self, answers: Sequence[str], wanted: Sequence[str]) -> list[list[int]]:
        counts: list[list[int]] = self._extract_corpus_statistics(answers, [wanted])
        return counts

    def summed(self, sums: list[int]) -> float:
        return float(self._compute_score_from_stats(sums).score)


class _NGrams:
    """What both have in common."""

    def __init__(self, name: str, *, of_set: _Metric, of_one: _Metric) -> None:
        self.name = name
        self._of_set, self._of_one = of_set, of_one

    def score(self, answer: str, wanted: str) -> float:
        require_wanted(wanted)
        return _within(self._of_one.summed(self._of_one.counted([answer], [wanted])[0]))

    def judge(self, answers: Sequence[str], wanted: Sequence[str]) -> Judged:
        scores = np.array([self.score(*pair) for pair in zip(answers, wanted, strict=True)], dtype=float)
        return Judged(scores, np.array(self._of_set.counted(answers, wanted), dtype=float))

    def figure(self, sums: Floats) -> Floats:
        rows = sums.astype(np.int64).reshape(-1, sums.shape[-1])
        found: Floats = np.array([_within(self._of_set.summed(row.tolist())) for row in rows])
        return found.reshape(sums.shape[:-1])


class Bleu(_NGrams):
    """Precision of n-grams up to 4 words, with a penalty for answers that are too short (Papineni et al. 2002)."""

    def __init__(self) -> None:
        super().__init__("bleu", of_set=_Bleu(force=True), of_one=_Bleu(force=True, effective_order=True))


class Chrf(_NGrams):
    """F2 of n-grams of characters (Popović 2015): for languages with many endings, and for short sets."""

    def __init__(self) -> None:
        super().__init__("chrf", of_set=_Chrf(), of_one=_Chrf())


def _within(score: float) -> float:
    """Rounding can make 100.00000000000004 of a perfect answer."""
    return min(1.0, score / 100)
