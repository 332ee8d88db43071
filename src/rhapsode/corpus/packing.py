"""Documents packed into rows of equal length, planned before training: no token dropped, almost no padding.

A document of n ids has n - 1 targets. Pieces of at most `context` targets go into rows by best-fit decreasing: longest
first, each into the fullest row that still has room (Ding et al. 2024, "Fewer Truncations Improve Language Modeling").
Every target of every document lies in exactly one piece.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

NO_TARGET = -100  # the index that cross-entropy ignores


class Piece(NamedTuple):
    """Inputs start..start+length-1 of a document; the targets are the ids one further on."""

    document: int
    start: int
    length: int


class Rows(NamedTuple):
    """Rows as [B, T] int64 arrays, T the context.

    `positions` restart with each piece; `documents` numbers a row's pieces from 1, and is 0 where there is padding.
    """

    ids: Ints
    targets: Ints
    positions: Ints
    documents: Ints


@dataclass(frozen=True)
class Packing:
    """Row r holds the pieces row_offsets[r]..row_offsets[r+1]-1."""

    context: int
    row_offsets: Ints
    piece_document: Ints
    piece_start: Ints
    piece_length: Ints

    @property
    def num_rows(self) -> int:
        return len(self.row_offsets) - 1

    @property
    def num_targets(self) -> int:
        return int(self.piece_length.sum())

    @property
    def efficiency(self) -> float:
        """Targets per place for a target, from 0 to 1."""
        return self.num_targets / (self.num_rows * self.context) if self.num_rows else 1.0

    def row(self, index: int) -> list[Piece]:
        if not 0 <= index < self.num_rows:
            raise IndexError(f"row {index} of {self.num_rows}")
        part = slice(self.row_offsets[index], self.row_offsets[index + 1])
        columns = (self.piece_document, self.piece_start, self.piece_length)
        return [Piece(*values) for values in zip(*(column[part].tolist() for column in columns), strict=True)]

    def save(self, path: Path) -> None:
        """Write an .npz; equal packings give equal bytes."""
        with path.open("wb") as file:
            np.savez(
                file,
                context=np.int64(self.context),
                row_offsets=self.row_offsets,
                piece_document=self.piece_document,
                piece_start=self.piece_start,
                piece_length=self.piece_length,
            )

    @classmethod
    def load(cls, path: Path) -> "Packing":
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        return cls(context=int(columns.pop("context")), **columns)


class Documents(Protocol):
    """Where rows take their ids from: `TokenSplit`, or a list in a test."""

    def document(self, index: int) -> npt.NDArray[np.unsignedinteger]: ...


def pack(lengths: Sequence[int] | Ints, *, context: int) -> Packing:
    """Plan the rows for documents of these many ids, bos and eos included. The same lengths give the same plan."""
    if context < 1:
        raise ValueError(f"context {context} has no room for a target")
    targets = np.maximum(np.asarray(lengths, dtype=np.int64) - 1, 0)
    document, start, length = _pieces(targets, context)
    longest_first = np.argsort(-length, kind="stable")
    row = np.empty(len(length), dtype=np.int64)
    row[longest_first] = _best_fit(length[longest_first], context)
    by_row = longest_first[np.argsort(row[longest_first], kind="stable")]
    counts = np.bincount(row) if len(row) else np.empty(0, dtype=np.int64)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
    return Packing(context, offsets, document[by_row], start[by_row], length[by_row])


def batch(
    split: Documents, packing: Packing, row_indices: Sequence[int] | Ints, *, pad: int, begin: int | None = None
) -> Rows:
    """The named rows, ready for a model. Padding has the id `pad`, no target, position 0 and document 0.

    Args:
        begin: the id that every piece begins with, in the place of its first: some models have never read a text
            without it, and are lost. None leaves pieces from the middle of a document as they are.
    """
    shape = (len(row_indices), packing.context)
    rows = Rows(np.full(shape, pad), np.full(shape, NO_TARGET), np.zeros(shape, np.int64), np.zeros(shape, np.int64))
    positions = np.arange(packing.context)
    for b, index in enumerate(row_indices):
        place = 0
        for number, (document, start, length) in enumerate(packing.row(int(index)), start=1):
            ids = split.document(document)[start : start + length + 1]
            here = slice(place, place + length)
            rows.ids[b, here] = ids[:-1]
            if begin is not None:
                rows.ids[b, place] = begin
            rows.targets[b, here] = ids[1:]
            rows.positions[b, here] = positions[:length]
            rows.documents[b, here] = number
            place += length
    return rows


def _pieces(targets: Ints, context: int) -> tuple[Ints, Ints, Ints]:
    """(document, start, length) of every piece, in document order."""
    counts = -(-targets // context)
    document = np.repeat(np.arange(len(targets)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    start = (np.arange(len(document)) - first) * context
    return document, start, np.minimum(targets[document] - start, context)


def _best_fit(lengths: Ints, context: int) -> Ints:
    """The row of each piece; `lengths` must fall. Pieces of one length are placed together, which changes nothing:

    best fit puts the next piece of the same length into the same row as long as it fits, for no row is fuller.
    """
    row_of = np.empty(len(lengths), dtype=np.int64)
    rooms: list[int] = []  # sizes of free room that some row has, rising
    rows_with: dict[int, list[int]] = {}
    num_rows = 0
    sizes, counts = np.unique(-lengths, return_counts=True)
    place = 0
    for size, count in zip((-sizes).tolist(), counts.tolist(), strict=True):
        stop = place + count
        while place < stop:
            at = bisect_left(rooms, size)
            room = rooms[at] if at < len(rooms) else context
            each = room // size
            wanted = -(-(stop - place) // each)
            if at < len(rooms):
                rows = rows_with[room][-wanted:][::-1]
                del rows_with[room][-wanted:]
                if not rows_with[room]:
                    del rooms[at]
            else:
                rows = list(range(num_rows, num_rows + wanted))
                num_rows += wanted
            taken = min(len(rows) * each, stop - place)
            row_of[place : place + taken] = np.repeat(rows, each)[:taken]
            place += taken
            _give_back(rows[:-1], room - each * size, rooms, rows_with)
            _give_back(rows[-1:], room - (taken - (len(rows) - 1) * each) * size, rooms, rows_with)
    return row_of


def _give_back(rows: list[int], room: int, rooms: list[int], rows_with: dict[int, list[int]]) -> None:
    """Note that `rows` now have `room` left."""
    if room and rows:
        known = rows_with.setdefault(room, [])
        if not known:
            insort(rooms, room)
        known += rows
