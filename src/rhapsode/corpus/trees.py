"""Which sequences of a split belong together, what they share, and their rows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from rhapsode.corpus.packing import Packing, Tree, pack, pack_trees
from rhapsode.corpus.prefixes import beginning, num_equal, share_beginnings
from rhapsode.corpus.tokens import MISMATCHED, TokenSplit

LEAST_SHARED = 60
"""Ids from which on a trunk saves more than its second stretch of keys costs (`bench/shared_prefixes.py`)."""
FIRST_OF_BAD = 3
"""Of feedback the branches say what an answer is: 1 is good and 3 bad, 2 and 4 are the mismatched beside them."""


def pack_split(
    split: TokenSplit, *, context: int, documents: Sequence[int] | None = None, is_shared: bool = False
) -> Packing:
    """The rows of a split: of text in pieces, of examples in trees.

    Args:
        documents: the documents or sequences to pack, of an example all or none; None is all of the split.
        is_shared: examples of one sequence each may share a tree, where they begin alike. Then a tree is no example any
            more, which is right where every learned token counts by itself.

    Raises:
        ValueError: an example does not fit into a row.
    """
    chosen = range(split.num_documents) if documents is None else documents
    if not split.is_learned_in_part:
        packing = pack(split.lengths if documents is None else split.lengths[list(chosen)], context=context)
        if documents is None:
            return packing
        return replace(packing, piece_document=np.asarray(chosen, dtype=np.int64)[packing.piece_document])
    targets = sum(num_learned(split, index) for index in chosen)
    grown = list(trees(split, chosen))
    if is_shared:
        alone = [tree.documents[0] for tree in grown if len(tree.documents) == 1]
        together = share_beginnings(split, alone, context=context, least=LEAST_SHARED)
        grown = [*(tree for tree in grown if len(tree.documents) > 1), *together]
    return pack_trees(grown, split.lengths, context=context, num_targets=targets)


def trees(split: TokenSplit, documents: Sequence[int]) -> Iterator[Tree]:
    """A tree for each example; what its sequences begin with is its trunk, where that pays."""
    for _, own in groupby(documents, key=lambda index: int(split.examples[index])):
        members = tuple(own)
        yield Tree(members, _trunk(split, members), FIRST_OF_BAD if split.role(members[0]) == "bad" else 1)


def _trunk(split: TokenSplit, members: Sequence[int]) -> int:
    """The ids that all begin with, but for the last: it predicts what differs. Nothing in it is learned."""
    first, *others = (beginning(split, index) for index in members)
    shared = min((num_equal(first, other) for other in others), default=0)
    return shared - 1 if shared > LEAST_SHARED else 0


def too_long(split: TokenSplit, *, context: int) -> list[int]:
    """The sequences of examples that do not fit into a row."""
    if not split.is_learned_in_part:
        return []
    whole = trees(split, range(split.num_documents))
    sizes = ((tree, tree.trunk + sum(int(split.lengths[d]) - 1 - tree.trunk for d in tree.documents)) for tree in whole)
    return [document for tree, size in sizes if size > context for document in tree.documents]


def num_shared(split: TokenSplit, packing: Packing) -> int:
    """The ids that are read by several sequences and computed once: so many fewer than one by one."""
    lengths = split.lengths[np.unique(packing.piece_document)]
    return int((lengths - 1).sum()) - packing.num_places if split.is_learned_in_part else 0


def num_learned(split: TokenSplit, index: int) -> int:
    """The targets of a sequence that something is learned from; its first id is none."""
    learned = split.learned(index)
    if learned is not None and split.role(index) == MISMATCHED:
        return 0
    return int(split.lengths[index]) - 1 if learned is None else int(np.count_nonzero(learned[1:]))
