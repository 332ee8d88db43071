"""Rows of examples: whole sequences, what they share once, and every learned token a target exactly once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.corpus.packing import NO_TARGET, Tree, batch, pack_trees
from rhapsode.corpus.trees import LEAST_SHARED, trees

CONTEXT = 96


class Listed:
    """Sequences of examples, each with what is learned of it; those of one example begin alike."""

    is_learned_in_part = True

    def __init__(self, members: list[tuple[int, list[int]]]) -> None:
        """`members`: of each example how much all its sequences share, and how long each goes on."""
        self.ids: list[np.ndarray] = []
        self.masks: list[np.ndarray] = []
        numbers = []
        for example, (shared, own) in enumerate(members):
            for branch, length in enumerate(own):
                beginning = 10_000 * (example + 1) + np.arange(shared)
                rest = 10_000 * (example + 1) + 1000 * (branch + 1) + np.arange(length)
                self.ids.append(np.concatenate([beginning, rest]).astype(np.uint32))
                self.masks.append(np.arange(shared + length) >= shared)
                numbers.append(example)
        self.examples = np.array(numbers, dtype=np.int64)
        self.lengths = np.array([len(ids) for ids in self.ids], dtype=np.int64)

    def document(self, index: int) -> np.ndarray:
        return self.ids[index]

    def learned(self, index: int) -> np.ndarray:
        return self.masks[index]

    def role(self, index: int) -> str:  # noqa: ARG002 - all are alike
        return "answer"


examples = st.lists(
    st.tuples(st.integers(2, 20), st.lists(st.integers(1, 12), min_size=1, max_size=3)), min_size=1, max_size=12
)


@given(examples, st.booleans())
def test_every_learned_token_is_a_target_once_behind_all_that_comes_before_it(
    members: list[tuple[int, list[int]]], is_shared: bool
) -> None:
    split = Listed(members)
    grown = []
    for number, (shared, _) in enumerate(members):
        own = tuple(np.flatnonzero(split.examples == number).tolist())
        grown.append(Tree(own, shared - 1 if is_shared and len(own) > 1 else 0))
    packing = pack_trees(grown, split.lengths, context=CONTEXT, num_targets=sum(map(sum, split.masks)))
    rows = batch(split, packing, range(packing.num_rows), pad=7)
    found = []
    for row in range(packing.num_rows):
        for place in np.flatnonzero(rows.targets[row] != NO_TARGET):
            tree, branch = rows.documents[row, place], rows.branches[row, place]
            seen = (
                (rows.documents[row] == tree) & np.isin(rows.branches[row], (0, branch)) & (np.arange(CONTEXT) <= place)
            )
            found.append([*rows.ids[row, seen].tolist(), int(rows.targets[row, place])])
            assert rows.positions[row, seen].tolist() == list(range(int(seen.sum())))
    wanted = [
        ids[: at + 1].tolist() for ids, mask in zip(split.ids, split.masks, strict=True) for at in np.flatnonzero(mask)
    ]
    assert sorted(found) == sorted(wanted)
    assert packing.num_targets == len(wanted)


def test_a_tree_lies_in_one_row_or_is_refused() -> None:
    split = Listed([(20, [10, 10])])
    with pytest.raises(ValueError, match="needs 58 places, a row has 48"):
        pack_trees([Tree((0, 1), 0)], split.lengths, context=48, num_targets=20)
    packing = pack_trees([Tree((0, 1), 19)], split.lengths, context=48, num_targets=20)
    assert (packing.num_rows, packing.num_places) == (1, 39)


def test_what_is_shared_is_found_and_stops_before_anything_is_learned() -> None:
    split = Listed([(LEAST_SHARED + 5, [4, 6]), (LEAST_SHARED - 5, [4, 6]), (LEAST_SHARED + 5, [4])])
    assert [tree.trunk for tree in trees(split, range(5))] == [LEAST_SHARED + 4, 0, 0]  # type: ignore[arg-type]
    split.ids[1] = split.ids[0][: len(split.ids[1])].copy()  # the answers too begin alike
    assert next(trees(split, range(5))).trunk == LEAST_SHARED + 4  # type: ignore[arg-type]
