"""The end of the split: no side is left empty when there are two groups, and what came out is counted."""

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rhapsode.corpus.config import SplitConfig
from rhapsode.corpus.shards import DOCUMENTS, Shards, put_aside, read_shards
from rhapsode.corpus.split import SIDES, Positions, Side, crossing

Mask = npt.NDArray[np.bool_]


class Count(NamedTuple):
    """What lies on one side."""

    documents: int
    groups: int
    text_bytes: int


class Balance(NamedTuple):
    """Both sides, whether a group crossed over, and how many texts stand on both (0 after deduplication)."""

    sides: dict[Side, Count]
    has_moved: bool
    shared_texts: int


class Rows(NamedTuple):
    """Of each row of a side: its group's place in the split, a digest of its text, and the text's length in bytes."""

    positions: Positions
    texts: Positions
    sizes: Positions

    def only(self, chosen: Mask) -> "Rows":
        return Rows(*(column[chosen] for column in self))


class Split(NamedTuple):
    """The rows of both sides, and whether a group crossed over."""

    sides: dict[Side, Rows]
    has_moved: bool

    def without(self, side: Side, gone: Mask) -> "Split":
        return self._replace(sides={**self.sides, side: self.sides[side].only(~gone)})

    def totals(self) -> Balance:
        shared = len(np.intersect1d(self.sides["train"].texts, self.sides["validation"].texts))
        counts = {
            side: Count(len(rows.positions), len(np.unique(rows.positions)), int(rows.sizes.sum()))
            for side, rows in self.sides.items()
        }
        return Balance(counts, self.has_moved, shared)


def balance(
    folder: Path,
    split: SplitConfig,
    *,
    positions: Mapping[Side, "array[int]"],
    texts: Mapping[Side, "array[int]"],
    sizes: Mapping[Side, "array[int]"],
) -> Split:
    """Let a group cross over where the hash left a side empty.

    Args:
        folder: where the shards of both sides lie.
        split: how they were split.
        positions, texts, sizes: as in `Rows`.
    """
    rows = {side: Rows(*(np.array(column[side], np.uint64) for column in (positions, texts, sizes))) for side in SIDES}
    group = crossing(rows["train"].positions, rows["validation"].positions, share=split.validation)
    if group is None:
        return Split(rows, has_moved=False)
    full: Side = "train" if len(rows["train"].positions) else "validation"
    empty: Side = "validation" if full == "train" else "train"
    crosses = rows[full].positions == np.uint64(group)
    _rewrite(folder, full, empty, crosses)
    moved = {full: rows[full].only(~crosses), empty: rows[full].only(crosses)}
    return Split({side: moved[side] for side in SIDES}, has_moved=True)


def _rewrite(folder: Path, full: Side, empty: Side, crosses: Mask) -> None:
    """Deal the rows of the full side out again."""
    with (
        put_aside(folder, *SIDES) as aside,
        Shards(folder, full, DOCUMENTS) as stays,
        Shards(folder, empty, DOCUMENTS) as goes,
    ):
        for row, moves in zip(read_shards(aside, full), crosses, strict=True):
            (goes if moves else stays).add(tuple(row.values()), size=len(row["text"].encode()))
