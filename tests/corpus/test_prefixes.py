"""Examples that begin alike share a trunk: what they share, that all fit, and that it saves what it can."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.corpus.packing import Tree, batch, pack_trees
from rhapsode.corpus.prefixes import MOST_TOGETHER, beginning, num_equal, share_beginnings

CONTEXT = 64


class Listed:
    """Sequences, each with how many of its ids are read before the first that is learned."""

    def __init__(self, sequences: list[tuple[list[int], int]]) -> None:
        self.ids = [np.array(ids, dtype=np.uint32) for ids, _ in sequences]
        self.masks = [np.arange(len(ids)) >= read for ids, read in sequences]
        self.lengths = np.array([len(ids) for ids in self.ids], dtype=np.int64)

    def document(self, index: int) -> Any:
        return self.ids[index]

    def learned(self, index: int) -> Any:
        return self.masks[index]


def places(split: Listed, tree: Tree) -> int:
    return tree.trunk + sum(int(split.lengths[d]) - 1 - tree.trunk for d in tree.documents)


@st.composite
def sequences(draw: st.DrawFn) -> Listed:
    """Few ids, so that many begin alike; some of the same beginnings as others have."""
    made: list[list[int]] = []
    for _ in range(draw(st.integers(1, 30))):
        before = draw(st.sampled_from(made))[: draw(st.integers(0, 30))] if made and draw(st.booleans()) else []
        made.append([*before, *draw(st.lists(st.integers(0, 2), min_size=2, max_size=CONTEXT - len(before)))])
    return Listed([(ids, draw(st.integers(1, len(ids) - 1))) for ids in made])


@given(sequences(), st.integers(1, 12))
def test_trees_hold_every_sequence_once_and_share_what_all_of_them_begin_with(split: Listed, least: int) -> None:
    found = share_beginnings(split, range(len(split.ids)), context=CONTEXT, least=least)
    assert sorted(d for tree in found for d in tree.documents) == list(range(len(split.ids)))
    for tree in found:
        assert places(split, tree) <= CONTEXT
        assert len(tree.documents) <= MOST_TOGETHER
        if len(tree.documents) == 1:
            assert tree.trunk == 0
            continue
        starts = [beginning(split, d) for d in tree.documents]
        common = min(num_equal(one, other) for one, other in combinations(starts, 2))
        assert least <= tree.trunk <= common - 1, "and the last shared id begins every branch"


@given(sequences())
def test_rows_of_shared_trees_hold_the_targets_of_rows_without(split: Listed) -> None:
    """The plain twin: every sequence by itself."""
    everything = range(len(split.ids))
    seen = []
    for grown in (
        share_beginnings(split, everything, context=CONTEXT, least=3),
        [Tree((d,), 0) for d in everything],
    ):
        packing = pack_trees(grown, split.lengths, context=CONTEXT, num_targets=1)
        rows = batch(split, packing, range(packing.num_rows), pad=7)
        found = []
        for row, place in np.argwhere(rows.targets >= 0).tolist():
            own = rows.documents[row] == rows.documents[row, place]
            own &= np.isin(rows.branches[row], (0, rows.branches[row, place])) & (np.arange(CONTEXT) <= place)
            assert rows.positions[row, own].tolist() == list(range(int(own.sum())))
            found.append((*rows.ids[row, own].tolist(), int(rows.targets[row, place])))
        seen.append((sorted(found), packing.num_places))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] <= seen[1][1]


def test_many_that_share_an_instruction_fill_rows_in_an_order_that_is_drawn() -> None:
    split = Listed([([*range(30), 100 + i, 200 + i, 300 + i, 400 + i], 32) for i in range(90)])
    found = share_beginnings(split, range(90), context=CONTEXT, least=20)
    assert {tree.trunk for tree in found} == {29}
    assert [len(tree.documents) for tree in found] == [8] * 11 + [2]  # 29 + 8 x 4 of 64 places
    firsts = [tree.documents for tree in found]
    assert all(np.ptp(documents) > 20 for documents in firsts[:-1]), "neighbours in the alphabet would stand together"
    assert share_beginnings(split, range(90), context=CONTEXT, least=20) == found


@pytest.mark.parametrize(("deeper", "trunks"), [(40, {59}), (3, {19})])
def test_the_longer_beginning_is_shared_where_that_saves_more(deeper: int, trunks: set[int]) -> None:
    """Pairs that share more within a company of ten: 40 ids more are worth it, 3 are not."""
    rows = [([*range(20), *[1000 + i // 2] * deeper, 2000 + i, 5, 6], 20 + deeper + 1) for i in range(10)]
    found = share_beginnings(Listed(rows), range(10), context=200, least=10)
    assert {tree.trunk for tree in found} == trunks
