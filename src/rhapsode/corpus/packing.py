"""Documents packed into rows of equal length, planned before training: no token dropped, almost no padding.

A document of n ids has n - 1 targets. Pieces of at most `context` targets go into rows by best-fit decreasing: longest
first, each into the fullest row that still has room (Ding et al. 2024, "Fewer Truncations Improve Language Modeling").
Every target of every document lies in exactly one piece.

Examples are never cut: what belongs together, such as two answers to one prompt, lies in one row as a tree. Its trunk
is what all its sequences begin with, its branches are what is theirs alone. The last token that they share begins every
branch, for it predicts the first one that they do not.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

NO_TARGET = -100  # the index that cross-entropy ignores


class Piece(NamedTuple):
    """Inputs start..start+length-1 of a document; the targets are the ids one further on.

    Of an example, `tree` numbers what belongs together in a row from 1, and `branch` is 0 for the trunk; of a text both
    are 0.
    """

    document: int
    start: int
    length: int
    tree: int = 0
    branch: int = 0


class Rows(NamedTuple):
    """Rows as [B, T] int64 arrays, T the context.

    `positions` restart with each piece; `documents` numbers a row's pieces from 1, and is 0 where there is padding. Of
    examples, `documents` numbers trees, `positions` go on along a branch where its trunk ends, and `branches` numbers
    the branches of a tree, 0 being the trunk.
    """

    ids: Ints
    targets: Ints
    positions: Ints
    documents: Ints
    branches: Ints


@dataclass(frozen=True)
class Packing:
    """Row r holds the pieces row_offsets[r]..row_offsets[r+1]-1; those of examples have a tree and a branch.

    `num_targets` counts what is learned.
    """

    context: int
    row_offsets: Ints
    piece_document: Ints
    piece_start: Ints
    piece_length: Ints
    piece_tree: Ints
    piece_branch: Ints
    num_targets: int

    @property
    def num_rows(self) -> int:
        return len(self.row_offsets) - 1

    @property
    def num_places(self) -> int:
        """All that is computed, but for padding."""
        return int(self.piece_length.sum())

    @property
    def efficiency(self) -> float:
        """The share of places that are not padding, from 0 to 1."""
        return self.num_places / (self.num_rows * self.context) if self.num_rows else 1.0

    @property
    def columns(self) -> tuple[Ints, ...]:
        """Those of a piece."""
        return self.piece_document, self.piece_start, self.piece_length, self.piece_tree, self.piece_branch

    def row(self, index: int) -> list[Piece]:
        if not 0 <= index < self.num_rows:
            raise IndexError(f"row {index} of {self.num_rows}")
        part = slice(self.row_offsets[index], self.row_offsets[index + 1])
        return [Piece(*values) for values in zip(*(column[part].tolist() for column in self.columns), strict=True)]


class Documents(Protocol):
    """Where rows take their ids from: `TokenSplit`, or a list in a test."""

    def document(self, index: int) -> npt.NDArray[np.unsignedinteger]: ...

    def learned(self, index: int) -> npt.NDArray[np.bool_] | None:
        """For each id of the document whether it is learned; None is all."""
        ...


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
    none = np.zeros(len(row), dtype=np.int64)
    columns = (document[by_row], start[by_row], length[by_row], none, none)
    return Packing(context, _offsets(np.bincount(row)), *columns, num_targets=int(length.sum()))


class Tree(NamedTuple):
    """Sequences that belong into one row, how many inputs their trunk has, and the number of their first branch."""

    documents: tuple[int, ...]
    trunk: int
    first: int = 1


def pack_trees(trees: Sequence[Tree], lengths: Sequence[int] | Ints, *, context: int, num_targets: int) -> Packing:
    """Plan the rows for trees of whole sequences, `lengths` being the ids of each sequence.

    Raises:
        ValueError: a tree does not fit into a row.
    """
    inputs = np.asarray(lengths, dtype=np.int64) - 1
    sizes = np.array([t.trunk + sum(int(inputs[d]) - t.trunk for d in t.documents) for t in trees], dtype=np.int64)
    if len(sizes) and sizes.max() > context:
        raise ValueError(f"tree {int(sizes.argmax())} needs {int(sizes.max())} places, a row has {context}")
    largest_first = np.argsort(-sizes, kind="stable")
    row = np.empty(len(sizes), dtype=np.int64)
    row[largest_first] = _best_fit(sizes[largest_first], context)
    members: list[list[Tree]] = [[] for _ in range(int(row.max(initial=-1)) + 1)]
    for index in largest_first.tolist():
        members[row[index]].append(trees[index])
    pieces = [[piece for n, tree in enumerate(own, start=1) for piece in _grown(tree, n, inputs)] for own in members]
    table = np.array([piece for own in pieces for piece in own], dtype=np.int64).reshape(-1, len(Piece._fields))
    document, start, length, tree, branch = table.T
    return Packing(
        context, _offsets([len(own) for own in pieces]), document, start, length, tree, branch, num_targets=num_targets
    )


def _grown(tree: Tree, number: int, inputs: Ints) -> Iterator[Piece]:
    if tree.trunk:
        yield Piece(tree.documents[0], 0, tree.trunk, number, 0)
    for branch, document in enumerate(tree.documents, start=tree.first):
        yield Piece(document, tree.trunk, int(inputs[document]) - tree.trunk, number, branch)


def _offsets(counts: Sequence[int] | Ints) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])


def batch(
    split: Documents, packing: Packing, row_indices: Sequence[int] | Ints, *, pad: int, begin: int | None = None
) -> Rows:
    """The named rows, ready for a model. Padding has the id `pad`, no target, position 0 and document 0.

    Args:
        begin: the id that every piece begins with, in the place of its first: some models have never read a text
            without it, and are lost. None leaves pieces from the middle of a document as they are.
    """
    shape = (len(row_indices), packing.context)
    empty = (np.zeros(shape, np.int64) for _ in range(3))
    rows = Rows(np.full(shape, pad), np.full(shape, NO_TARGET), *empty)
    for b, index in enumerate(row_indices):
        place = 0
        for number, piece in enumerate(packing.row(int(index)), start=1):
            here = slice(place, place + piece.length)
            _lay(rows, (b, here), piece, split, begin=begin)
            rows.documents[b, here] = piece.tree or number
            place = here.stop
    return rows


def _lay(rows: Rows, at: tuple[int, slice], piece: Piece, split: Documents, *, begin: int | None) -> None:
    document, start, length, tree, branch = piece
    stop = start + length + 1
    ids, learned = split.document(document)[start:stop].astype(np.int64), split.learned(document)
    rows.ids[at] = ids[:-1]
    if tree:
        rows.positions[at] = np.arange(start, start + length)
        rows.branches[at] = branch
    else:
        rows.positions[at] = np.arange(length)
        if begin is not None:
            rows.ids[at[0], at[1].start] = begin
    if branch or not tree:
        rows.targets[at] = ids[1:] if learned is None else np.where(learned[start + 1 : stop], ids[1:], NO_TARGET)


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
