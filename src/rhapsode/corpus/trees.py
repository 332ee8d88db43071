"""Which sequences of a split belong together, what they share, and their rows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from rhapsode.corpus.packing import Packing, Tree, pack, pack_trees
from rhapsode.corpus.tokens import TokenSplit


def pack_split(split: TokenSplit, *, context: int, documents: Sequence[int] | None = None) -> Packing:
    """The rows of a split: of text in pieces, of examples in trees.

    Args:
        documents: the documents or sequences to pack, of an example all or none; None is all of the split.

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
    return pack_trees(list(trees(split, chosen)), split.lengths, context=context, num_targets=targets)


def trees(split: TokenSplit, documents: Sequence[int]) -> Iterator[Tree]:
    """A tree for each example."""
    for _, own in groupby(documents, key=lambda index: int(split.examples[index])):
        yield Tree(tuple(own), 0)


def too_long(split: TokenSplit, *, context: int) -> list[int]:
    """The sequences of examples that do not fit into a row."""
    if not split.is_learned_in_part:
        return []
    sizes = np.bincount(split.examples, weights=split.lengths - 1) if split.num_documents else np.zeros(0)
    return np.flatnonzero(sizes[split.examples] > context).tolist() if split.num_documents else []


def num_learned(split: TokenSplit, index: int) -> int:
    """The targets of a sequence; its first id is none."""
    learned = split.learned(index)
    return int(split.lengths[index]) - 1 if learned is None else int(np.count_nonzero(learned[1:]))
