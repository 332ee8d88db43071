"""Labels are compared as people read them; figures are those of the definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.labels import MacroF1, Recall, accuracy

LABELS = ("card_lost", "refund", "out of scope")
answers = st.lists(st.tuples(st.sampled_from([*LABELS, "something else", ""]), st.sampled_from(LABELS)), min_size=1)


@pytest.mark.parametrize(
    "answer", ["card_lost", "Card-Lost", " card lost.\n", '"card_lost"', "CARD  LOST", "card_lost\n"]
)
def test_the_same_label_however_it_is_written(answer: str) -> None:
    assert accuracy(answer, "card_lost") == 1


@pytest.mark.parametrize(
    "answer", ["", "card", "cardlost", "card_lost, refund", "The label is card_lost", "card_lost_"]
)
def test_another_label_or_more_than_it_is_wrong(answer: str) -> None:
    assert accuracy(answer, "card_lost") == 0


@pytest.mark.parametrize(("answer", "wanted"), [("C++", "C#"), ("-1", "1"), ("-", "+"), ("_", "-")])
def test_signs_are_part_of_a_label(answer: str, wanted: str) -> None:
    assert accuracy(answer, wanted) == 0
    assert accuracy(wanted, wanted) == 1


@given(answers)
def test_macro_f1_is_the_mean_of_the_f1_of_each_label(rows: list[tuple[str, str]]) -> None:
    said, wanted = zip(*rows, strict=True)
    each = []
    for label in set(wanted):
        hits = sum(a == w == label for a, w in rows)
        given_, asked = said.count(label), wanted.count(label)
        each.append(2 * hits / (given_ + asked))
    judge = MacroF1()
    assert judge.figure(judge.judge(said, wanted).counts.sum(axis=0)) == pytest.approx(np.mean(each))


def test_a_label_that_is_left_out_altogether_leaves_the_mean() -> None:
    judge = MacroF1()
    counts = judge.judge(["a", "b"], ["a", "b"]).counts
    assert judge.figure(counts[0]) == 1
    assert judge.figure(counts.sum(axis=0)) == 1
    assert np.isnan(judge.figure(0 * counts[0]))


def test_recall_looks_at_the_rows_of_its_label_only() -> None:
    judged = Recall("Out-of-scope").judge(
        ["out of scope", "refund", "out of scope", ""], [LABELS[2]] * 2 + ["refund", LABELS[2]]
    )
    np.testing.assert_array_equal(judged.scores, [1, 0, np.nan, 0])
    assert Recall("x").figure(judged.counts.sum(axis=0)) == pytest.approx(1 / 3)


def test_recall_of_a_label_that_nobody_wants_is_refused() -> None:
    with pytest.raises(RhapsodeError, match="no held-out row wants the label of recall:oos") as error:
        Recall("oos").judge(["oos"], ["refund"])
    assert error.value.hint == "they want refund"
