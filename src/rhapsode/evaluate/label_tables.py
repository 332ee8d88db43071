"""Where labels are wanted: how each fares, and which are taken for which."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rhapsode.evaluate.arrays import Ints
from rhapsode.evaluate.scorers.labels import numbered, place, plain
from rhapsode.evaluate.task_evaluation import Confusion, LabelScore

MOST_CONFUSIONS = 40


def label_scores(wanted: Sequence[str], after: Sequence[str], before: Sequence[str] | None) -> tuple[LabelScore, ...]:
    """A line for each label, in alphabetical order."""
    numbers, names = numbered(wanted), _names(wanted)
    asked = place(wanted, numbers)
    items = np.bincount(asked, minlength=len(numbers)).tolist()
    right = _right(asked, place(after, numbers), count=len(numbers))
    earlier = [None] * len(numbers) if before is None else _right(asked, place(before, numbers), count=len(numbers))
    return tuple(LabelScore(names[label], items[i], earlier[i], right[i]) for label, i in numbers.items())


def confusions(wanted: Sequence[str], after: Sequence[str], before: Sequence[str] | None) -> tuple[Confusion, ...]:
    """What was given in place of what was wanted, the most frequent first."""
    counts = [_confused(wanted, said) for said in (after, before) if said is not None]
    together = sum(counts, start=Counter[tuple[str, str]]())
    frequent = sorted(together, key=lambda pair: (-together[pair], pair))[:MOST_CONFUSIONS]
    return tuple(Confusion(*pair, None if before is None else counts[1][pair], counts[0][pair]) for pair in frequent)


def num_unknown(wanted: Sequence[str], said: Sequence[str]) -> int:
    """Answers that name no label that is wanted anywhere."""
    return int((place(said, numbered(wanted)) < 0).sum())


def _confused(wanted: Sequence[str], said: Sequence[str]) -> Counter[tuple[str, str]]:
    numbers, names = numbered(wanted), _names(wanted)
    spelled = [names[label] for label in numbers] + [""]
    pairs = zip(place(wanted, numbers), place(said, numbers), strict=True)
    return Counter((spelled[asked], spelled[given]) for asked, given in pairs if asked != given)


def _right(asked: Ints, given: Ints, *, count: int) -> list[int]:
    found: list[int] = np.bincount(asked[asked == given], minlength=count).tolist()
    return found


def _names(wanted: Sequence[str]) -> dict[str, str]:
    """How each label is spelled, the first time that it is wanted."""
    names: dict[str, str] = {}
    for label in wanted:
        names.setdefault(plain(label), label)
    return names
