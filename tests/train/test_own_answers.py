"""Which steps learn from the model's own answers."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from tests.train.test_step import random_batch

from rhapsode.evaluate.items import Item
from rhapsode.train.objective import Batch
from rhapsode.train.own_answers import OwnAnswers

ITEM = Item("a", "a", "Which?", "This.")


class Rows:
    """Two rows a step, given or answered."""

    measures: Mapping[str, float] = {}

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def rows_of(self, place: int) -> list[int]:
        return [2 * place, 2 * place + 1]

    def __call__(self, _place: int) -> Batch:
        return random_batch(2, 4, seed=self.seed)

    def ask(self, _place: int, items: list[Item]) -> list[Item]:
        assert items == [ITEM, ITEM]
        return items

    def lay_out(self, _groups: list[Item]) -> Batch:
        return self(0)


@given(share=st.floats(0.05, 1))
def test_they_come_evenly_and_early(share: float) -> None:
    steps = 60
    batches = OwnAnswers(Rows(1), Rows(2), asked=[[ITEM]] * 2 * steps, share=share)  # type: ignore[arg-type]
    found = []
    for place in range(steps):
        rows = batches(place)
        assert rows.ids.tolist() == Rows(1 + int(batches.measures["own"]))(0).ids.tolist()
        found.append(batches.measures["own"])
    assert found[1] == 1
    for end in range(1, steps):
        assert abs(sum(found[:end]) - share * end) <= 1


def test_rows_that_ask_for_nothing_are_learned_from_as_they_are() -> None:
    batches = OwnAnswers(Rows(1), Rows(2), asked=[[], []], share=1.0)  # type: ignore[arg-type]
    assert batches(0).ids.tolist() == Rows(1)(0).ids.tolist()
    assert batches.measures["own"] == 0
