"""From what scorers say of single items to figures of a model, differences of two, and a list item by item."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from rhapsode.core.events import Events
from rhapsode.evaluate.arrays import Floats
from rhapsode.evaluate.jackknife import group_sums, spread
from rhapsode.evaluate.paired import Change, Figured, change
from rhapsode.evaluate.scorers.scorer import Judged
from rhapsode.evaluate.task_evaluation import ItemScores, Score


class Grouped(Protocol):
    """An item, and the group to which it belongs."""

    @property
    def id(self) -> str: ...
    @property
    def group(self) -> str: ...


def scores_of(
    scorers: Sequence[Figured],
    judged: Sequence[Judged],
    items: Sequence[Grouped],
    *,
    confidence: float,
    events: Events,
    name: str,
) -> tuple[Score, ...]:
    """A model's figures, each with its interval; `events` hears "scored" of each, with the model's `name`."""
    groups, found = [item.group for item in items], []
    for scorer, one in zip(scorers, judged, strict=True):
        score = Score(scorer.name, *spread(group_sums(one.counts, groups), scorer.figure, confidence=confidence))
        events.emit("scored", name=name, scorer=score.scorer, value=score.value, low=score.low, high=score.high)
        found.append(score)
    return tuple(found)


def changes_of(
    scorers: Sequence[Figured],
    after: Sequence[Judged],
    before: Sequence[Judged] | None,
    items: Sequence[Grouped],
    *,
    confidence: float,
) -> tuple[Change, ...]:
    """A line for each scorer; none where there is nothing to compare with."""
    groups = [item.group for item in items]
    pairs = zip(scorers, after, before or (), strict=before is not None)
    return tuple(change(*pair, groups, confidence=confidence) for pair in pairs)


def item_scores(
    items: Sequence[Grouped], after: Sequence[Judged], before: Sequence[Judged] | None
) -> tuple[ItemScores, ...]:
    """What every scorer says of each item."""
    own = _by_item(after)
    others = [None] * len(items) if before is None else _by_item(before)
    return tuple(
        ItemScores(item.id, item.group, other, one) for item, one, other in zip(items, own, others, strict=True)
    )


def gains_of(after: Sequence[Judged], before: Sequence[Judged] | None) -> Floats:
    """[N] by how much the first scorer's score has risen; not a number where there is nothing to compare with."""
    return after[0].scores - before[0].scores if before else np.full_like(after[0].scores, np.nan)


def _by_item(judged: Sequence[Judged]) -> list[tuple[float | None, ...]]:
    rows = np.stack([one.scores for one in judged], axis=1)
    return [tuple(float(value) if np.isfinite(value) else None for value in row) for row in rows]
