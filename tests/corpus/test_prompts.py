"""A share of the prompts is learned beside the answers."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from rhapsode.corpus.packing import NO_TARGET, Tree, batch, pack_trees
from rhapsode.corpus.prompts import WithPrompts, count_targets

PROMPT, ANSWER = 900, 100


class Few(NamedTuple):
    """Three sequences whose last ids are learned; of the first two, all of the prompt is the same."""

    def document(self, index: int) -> npt.NDArray[np.unsignedinteger]:
        own = np.arange(1000, 1000 + ANSWER) + 1000 * index
        return np.concatenate([np.arange(PROMPT) + (0 if index < 2 else 100_000), own]).astype(np.uint32)

    def learned(self, index: int) -> npt.NDArray[np.bool_]:  # noqa: ARG002 - all alike
        return np.arange(PROMPT + ANSWER) >= PROMPT


def test_the_answers_are_learned_and_of_the_prompts_about_the_share() -> None:
    for index in range(3):
        plain, learned = Few().learned(index), WithPrompts(Few(), 0.25).learned(index)
        assert learned is not None
        assert learned[plain].all()
        assert np.count_nonzero(learned[~plain]) == pytest.approx(0.25 * PROMPT, rel=0.2)
        again = WithPrompts(Few(), 0.25).learned(index)
        assert again is not None
        assert (again == learned).all(), "the same at any time, so that a run can be resumed"
    assert (WithPrompts(Few(), 0).learned(0) == Few().learned(0)).all()


def test_what_is_counted_is_what_a_batch_has_and_a_trunk_has_none() -> None:
    lengths, split = [PROMPT + ANSWER] * 3, WithPrompts(Few(), 0.1)
    trees = [Tree((0, 1), PROMPT - 1), Tree((2,), 0)]
    packing = count_targets(pack_trees(trees, lengths, context=1200, num_targets=0), split)
    rows = batch(split, packing, range(packing.num_rows), pad=0)
    assert packing.num_targets == int((rows.targets != NO_TARGET).sum())
    assert (rows.targets[rows.branches == 0] == NO_TARGET).all()
    answers = count_targets(packing, Few()).num_targets
    assert answers == 3 * ANSWER
    assert packing.num_targets > answers
