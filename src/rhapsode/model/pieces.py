"""Which part of a parameter a process holds where several divide a model: rows of it, columns, or all.

A parameter is seen as rows of its last dimension, a vector as rows of one number. A narrower decoder
(`model/narrow.py`) has a share of each of the matrices that are stacked in a parameter: its piece is several runs of
the whole one's rows.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from rhapsode.model.narrow import narrow
from rhapsode.model.parameters import shapes, stacked_rows
from rhapsode.model.spec import ModelSpec


class Place(NamedTuple):
    """Where a piece lies in a tensor of `shape`.

    Attributes:
        runs: the whole one's rows that the piece has one below another; each of one of the matrices stacked there.
        columns: those that it has of each of them.
        is_first: of processes that hold the same piece, one writes and counts it.
    """

    shape: tuple[int, ...]
    runs: tuple[range, ...]
    columns: range
    is_first: bool = True

    @property
    def num_rows(self) -> int:
        return sum(map(len, self.runs))

    def within(self, rows: range) -> "Place":
        """The place of some of the piece's own rows."""
        runs, at = [], 0
        for run in self.runs:
            runs.append(run[max(rows.start - at, 0) : max(rows.stop - at, 0)])
            at += len(run)
        return self._replace(runs=tuple(filter(len, runs)))

    def views(self, piece: Tensor, whole: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Each run of the piece [..., rows, columns], and beside it what it is of the whole [..., R, C]."""
        at, columns = 0, slice(self.columns.start, self.columns.stop)
        for run in self.runs:
            yield piece[..., at : at + len(run), :], whole[..., run.start : run.stop, columns]
            at += len(run)


def as_rows(tensor: Tensor) -> Tensor:
    """The same memory as [rows, columns]."""
    return tensor.view(-1, tensor.shape[-1] if tensor.ndim > 1 else 1)


def everything(shape: Sequence[int]) -> Place:
    """All of a tensor, in one piece."""
    rows, columns = (math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (shape[0], 1)
    return Place(tuple(shape), (range(rows),), range(columns))


def _stack(name: str, spec: ModelSpec) -> tuple[range, ...]:
    """The rows of each of the matrices, or vectors, that the decoder stacks in a parameter."""
    heights = stacked_rows(name, spec)
    return tuple(itertools.starmap(range, itertools.pairwise((0, *itertools.accumulate(heights)))))


def piece(name: str, spec: ModelSpec, *, index: int, count: int) -> Place:
    """What the `index`-th of `count` narrower decoders has of the parameter `name` of the whole one."""
    shape, own = shapes(spec)[name], shapes(narrow(spec, count))[name]
    place = everything(shape)._replace(runs=_stack(name, spec))
    if own == shape:
        return place._replace(is_first=index == 0)
    if len(shape) > 1 and own[-1] < shape[-1]:
        return place._replace(columns=_share(place.columns, index, count))
    return place._replace(runs=tuple(_share(rows, index, count) for rows in place.runs))


def _share(numbers: range, index: int, count: int) -> range:
    each = len(numbers) // count
    return numbers[index * each : (index + 1) * each]
