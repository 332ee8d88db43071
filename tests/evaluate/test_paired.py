"""A verdict in words: better, worse, no difference, or too little to say."""

import numpy as np
import pytest
from scipy import stats

from rhapsode.evaluate.jackknife import Spread
from rhapsode.evaluate.paired import change, mcnemar, points, verdict
from rhapsode.evaluate.scorers.registry import scorer
from rhapsode.evaluate.scorers.scorer import Judged


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Spread(0.31, 0.269, 0.351, 200), "better by 31.0 points ± 4.1"),
        (Spread(-0.05, -0.08, -0.02, 200), "worse by 5.0 points ± 3.0"),
        (Spread(0.004, -0.012, 0.02, 200), "no difference: 0.4 points, interval -1.2 to 2.0"),
        (Spread(-0.004, -0.02, 0.0, 200), "no difference: -0.4 points, interval -2.0 to 0.0"),
        (Spread(1.0, 0.942, 1.0, 50), "better by 100.0 points, interval 94.2 to 100.0"),
        (Spread(0.0004, 0.0001, 0.0007, 9000), "better by 0.04 points ± 0.03"),
        (
            Spread(0.2, None, None, 5),
            "20.0 points higher; 5 independent items are too few for an interval, which needs 8",
        ),
        (
            Spread(-0.2, None, None, 1),
            "20.0 points lower; 1 independent items are too few for an interval, which needs 8",
        ),
    ],
)
def test_a_difference_in_words(found: Spread, words: str) -> None:
    assert verdict(found) == words


@pytest.mark.parametrize(("share", "text"), [(0.0, "0.0"), (-1e-12, "0.0"), (0.9999, "100.0"), (-0.0003, "-0.03")])
def test_points_never_hide_a_difference_behind_a_zero(share: float, text: str) -> None:
    assert points(share) == text


def judged(scores: list[float]) -> Judged:
    values = np.array(scores)
    return Judged(values, np.stack([values, np.ones_like(values)], axis=1))


def test_wins_losses_and_ties_are_of_items() -> None:
    after, before = judged([1, 1, 1, 0, 0.5] * 4), judged([0, 0, 1, 1, 0.5] * 4)
    found = change(scorer("f1"), after, before, [str(i) for i in range(20)], confidence=0.95)
    assert (found.wins, found.losses, found.ties) == (8, 4, 8)
    assert found.difference == pytest.approx(0.2)
    assert found.p_value is None


def test_rows_that_are_none_of_a_scorers_business_are_no_ties() -> None:
    judge = scorer("recall:oos")
    wanted = ["oos", "a"] * 10
    found = change(
        judge,
        judge.judge(wanted, wanted),
        judge.judge(["a"] * 20, wanted),
        wanted[:0] + list("abcdefghijklmnopqrst"),
        confidence=0.95,
    )
    assert (found.wins, found.losses, found.ties) == (10, 0, 0)
    assert found.groups == 10


def test_yes_or_no_is_tested_as_mcnemar_did() -> None:
    for wins, losses in ((9, 2), (0, 5), (6, 6), (0, 0), (100, 131)):
        expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        assert mcnemar(wins, losses) == pytest.approx(expected)
    after, before = judged([1] * 9 + [0] * 11), judged([0] * 20)
    one_each = change(scorer("exact"), after, before, [str(i) for i in range(20)], confidence=0.95)
    assert one_each.p_value == pytest.approx(mcnemar(9, 0))
    in_pairs = change(scorer("exact"), after, before, [str(i // 2) for i in range(20)], confidence=0.95)
    assert in_pairs.p_value is None, "items of a group are not independent"


def test_a_model_beside_itself_is_no_different() -> None:
    same = judged([0.0, 1.0] * 30)
    found = change(scorer("exact"), same, same, [str(i) for i in range(60)], confidence=0.95)
    assert found.is_none
    assert found.verdict == "no difference: 0.0 points, interval -4.9 to 4.9"
