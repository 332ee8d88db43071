"""The answer is one of a few labels: how many are right, and how each label fares.

Labels are compared as people read them: case, accents' composition, white space around, quotes, a full stop at the end
and the difference between `card_lost`, `card-lost` and `card lost` do not count. An answer that names no known label is
wrong, and counts for no other label.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.arrays import Floats, Ints
from rhapsode.evaluate.scorers.scorer import Judged, require_wanted, share

_JOINTS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W_])")
_AROUND = " \t\r\n\"'`\u2018\u2019\u201c\u201d."


def plain(label: str) -> str:
    """A label as it is compared."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return _JOINTS.sub(" ", folded.strip(_AROUND) or folded.strip())


def accuracy(answer: str, wanted: str) -> float:
    """1 if the answer is the wanted label.

    Raises:
        RhapsodeError: the label is empty.
    """
    require_wanted(wanted)
    return float(plain(answer) == plain(wanted))


class Recall:
    """Of the items that want one label, how many get it: of requests out of scope, how many are seen to be."""

    def __init__(self, label: str) -> None:
        self.name = f"recall:{label}"
        self._label = plain(label)

    def score(self, answer: str, wanted: str) -> float:
        return accuracy(answer, wanted)

    def judge(self, answers: Sequence[str], wanted: Sequence[str]) -> Judged:
        """As of any scorer. Raises: RhapsodeError: no item wants the label."""
        concerned = np.array([plain(label) == self._label for label in wanted])
        if not concerned.any():
            some = ", ".join(sorted(set(wanted))[:8])
            raise RhapsodeError(f"no held-out row wants the label of {self.name}", f"they want {some}")
        right = _right(answers, wanted) * concerned
        return Judged(np.where(concerned, right, np.nan), np.stack([right, concerned], axis=1).astype(float))

    def figure(self, sums: Floats) -> Floats:
        return share(sums[..., 0], of=sums[..., 1])


class MacroF1:
    """The mean of the F1 of every label that is wanted anywhere: rare labels count as much as common ones."""

    name = "macro_f1"

    def score(self, answer: str, wanted: str) -> float:
        return accuracy(answer, wanted)

    def judge(self, answers: Sequence[str], wanted: Sequence[str]) -> Judged:
        """Counts are, for each label one after the other: right, wrongly given, missed."""
        right = _right(answers, wanted)
        numbers = numbered(wanted)
        asked, given = place(wanted, numbers), place(answers, numbers)
        counts = np.zeros((len(wanted), len(numbers), 3))
        item = np.arange(len(wanted))
        counts[item, asked, 0] = right
        counts[item, asked, 2] = 1 - right
        is_other = (given >= 0) & (given != asked)
        counts[item[is_other], given[is_other], 1] = 1
        return Judged(right, counts.reshape(len(wanted), -1))

    def figure(self, sums: Floats) -> Floats:
        hits, false, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
        occurs = hits + false + missed > 0
        f1 = np.where(occurs, share(2 * hits, of=2 * hits + false + missed), 0.0)
        return share(f1.sum(-1), of=occurs.sum(-1))


def numbered(wanted: Sequence[str]) -> dict[str, int]:
    """Every label that is wanted, as it is compared, and its number in alphabetical order."""
    return {label: number for number, label in enumerate(sorted({plain(label) for label in wanted}))}


def place(labels: Sequence[str], numbers: Mapping[str, int]) -> Ints:
    """[N] the number of each label; -1 where it is none of them."""
    return np.array([numbers.get(plain(label), -1) for label in labels], dtype=np.int64)


def _right(answers: Sequence[str], wanted: Sequence[str]) -> Floats:
    return np.array([accuracy(*pair) for pair in zip(answers, wanted, strict=True)], dtype=float)
