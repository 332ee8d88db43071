"""Examples that begin alike, such as with one instruction or one list of tools: which of them share a trunk in a row.

Sorted by what is read before the first answer, examples that begin alike stand side by side, and what neighbours share
nests like brackets (the intervals of Kasai et al. 2001). From the longest beginning to the shortest, examples stay
together where that saves more than to stand with all that share the shorter beginning around it.

Which of many share a row is drawn by a permutation and not by how alike they are, and a tree has `MOST_TOGETHER`
examples at most: a step is to see as much of the data as without this.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rhapsode.corpus.order import permutation
from rhapsode.corpus.packing import Documents, Ints, Tree

MOST_TOGETHER = 32
"""Of so many, 31 do not compute what they share; of more, hardly more."""


class Sequences(Documents, Protocol):
    """Those of examples, with their lengths."""

    @property
    def lengths(self) -> Ints: ...


class _Bracket(NamedTuple):
    """Sequences that share at least so many ids, and do not yet stand in a tree."""

    shared: int
    members: list[int]


def beginning(split: Documents, index: int) -> npt.NDArray[np.unsignedinteger]:
    """The ids of a sequence before the first that is learned: what a trunk may hold."""
    learned, ids = split.learned(index), split.document(index)
    return ids if learned is None else ids[: int(learned.argmax())]


def num_equal(first: npt.NDArray[np.unsignedinteger], second: npt.NDArray[np.unsignedinteger]) -> int:
    """How many ids both begin with."""
    size = min(len(first), len(second))
    differs = np.flatnonzero(first[:size] != second[:size])
    return int(differs[0]) if len(differs) else size


def share_beginnings(split: Sequences, documents: Sequence[int], *, context: int, least: int) -> list[Tree]:
    """A place in some tree for each of these sequences, which all are examples of their own.

    Args:
        context: places of a row, into which a tree must fit.
        least: ids from which on a trunk is worth having; the last shared one begins the branches.
    """
    turns = permutation(0, len(documents), length=len(documents), seed=0, epoch=0).tolist()
    turn = dict(zip(documents, turns, strict=True))
    alike: dict[bytes | int, list[int]] = {}
    for index in documents:
        ids = beginning(split, index)[: least + 1]
        alike.setdefault(ids.tobytes() if len(ids) > least else index, []).append(index)
    return [tree for members in alike.values() for tree in _trees(split, members, turn, context=context)]


def _trees(split: Sequences, members: list[int], turn: Mapping[int, int], *, context: int) -> Iterator[Tree]:
    """Close brackets from the innermost to the outermost; what finds no company goes on to the next one outside."""
    members = sorted(members, key=lambda index: beginning(split, index).astype(">u4").tobytes())
    shared = [num_equal(*(beginning(split, index) for index in pair)) for pair in pairwise(members)]
    brackets = [_Bracket(0, [])]
    for index, before, behind in zip([*members, -1], [0, *shared, 0], [*shared, 0, 0], strict=True):
        while brackets[-1].shared > before:
            inner, around = brackets.pop(), max(before, brackets[-1].shared)
            if brackets[-1].shared < around:
                brackets.append(_Bracket(around, []))
            for group in _groups(split, inner, turn, around=around, context=context):
                if len(group) > 1:
                    yield Tree(tuple(group), inner.shared - 1)
                else:
                    brackets[-1].members.extend(group)
        if brackets[-1].shared < max(before, behind):
            brackets.append(_Bracket(max(before, behind), []))
        brackets[-1].members.append(index)
    yield from (Tree((index,), 0) for index in brackets[0].members if index >= 0)


def _groups(
    split: Sequences, bracket: _Bracket, turn: Mapping[int, int], *, around: int, context: int
) -> list[list[int]]:
    """Members that stand in one tree: as many as fit, in their turn; each alone if they save more outside."""
    if not _is_better(split, bracket, around, context=context):
        return [[index] for index in bracket.members]
    groups: list[list[int]] = []
    room, trunk = 0, bracket.shared - 1
    for index in sorted(bracket.members, key=turn.__getitem__):
        own = int(split.lengths[index]) - 1 - trunk
        if not groups or own > room or len(groups[-1]) == MOST_TOGETHER:
            groups.append([])
            room = context - trunk
        groups[-1].append(index)
        room -= own
    return groups


def _is_better(split: Sequences, bracket: _Bracket, around: int, *, context: int) -> bool:
    """Whether members save more in here than they would in a large company outside, of which a row has so many."""
    if len(bracket.members) < 2:
        return False
    size = float(np.mean([split.lengths[index] for index in bracket.members])) - 1

    def saved(shared: int, most: int) -> float:
        together = max(1.0, min(most, (context - shared) / max(1.0, size - shared)))
        return shared * (1 - 1 / together)

    return saved(bracket.shared, min(len(bracket.members), MOST_TOGETHER)) > saved(around, MOST_TOGETHER)
