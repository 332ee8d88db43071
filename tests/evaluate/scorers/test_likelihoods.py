"""Answers that people judged are told apart by how likely they are, in three ways; each figure is the textbook's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers import likelihoods as module
from rhapsode.evaluate.scorers.likelihoods import Likelihoods
from rhapsode.evaluate.scorers.registry import LIKELIHOODS, likelihood_scorer, scorer


def of(*log_probs: float, tokens: tuple[int, ...] = (), before: tuple[float, ...] = ()) -> Likelihoods:
    sizes = np.array(tokens or [1] * len(log_probs))
    return Likelihoods(np.array(log_probs), sizes, np.array(before) if before else None)


@pytest.mark.parametrize(
    ("name", "expected"), [("pairs", [0, 1, 0.5]), ("pairs_per_token", [1, 1, 0]), ("pairs_reward", [1, 0, 0.5])]
)
def test_a_pair_is_right_where_the_chosen_answer_is_ahead(name: str, expected: list[float]) -> None:
    found = of(-9, -4, -2, -3, -5, -5, tokens=(9, 1, 1, 1, 1, 2), before=(-12, -5, 0, -3, -7, -7))
    judged = likelihood_scorer(name).judge(found, [True, False] * 3)
    assert judged.scores.tolist() == expected
    assert likelihood_scorer(name).figure(judged.counts.sum(axis=0)) == pytest.approx(sum(expected) / 3)


values = st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=2, max_size=30).filter(
    lambda rows: len({is_good for _, is_good in rows}) == 2
)


@given(rows=values)
def test_the_area_is_the_share_of_pairs_in_order_and_scores_average_to_it(rows: list[tuple[int, bool]]) -> None:
    good, bad = ([float(value) for value, is_good in rows if is_good is kind] for kind in (True, False))
    expected = np.mean([0.5 * (1 + np.sign(g - b)) for g in good for b in bad])
    judge = likelihood_scorer("feedback_per_token")
    judged = judge.judge(of(*(value for value, _ in rows)), [is_good for _, is_good in rows])
    assert judge.figure(judged.counts.sum(axis=0)) == pytest.approx(expected)
    for kind in (True, False):
        assert np.mean([s for s, (_, is_good) in zip(judged.scores, rows, strict=True) if is_good is kind]) == (
            pytest.approx(expected)
        )


def test_many_values_are_put_together_by_rank_and_that_costs_little() -> None:
    random = np.random.default_rng(0)
    good = random.random(5000) < 0.4
    found = of(*(random.normal(size=5000) + good))
    judge = likelihood_scorer("feedback_per_token")
    judged = judge.judge(found, good.tolist())
    assert judged.counts.shape == (5000, 2 * module.MOST_LEVELS)
    exact = np.mean(np.sign(found.log_probs[good][:, None] - found.log_probs[~good]) / 2 + 0.5)
    assert judge.figure(judged.counts.sum(axis=0)) == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("is_good", [True, False])
def test_feedback_of_one_kind_has_nothing_to_tell_apart(is_good: bool) -> None:
    with pytest.raises(RhapsodeError, match=f"every held-out answer is {'good' if is_good else 'bad'}"):
        likelihood_scorer("feedback_per_token").judge(of(-1, -2), [is_good] * 2)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_they_bear_their_names_and_are_no_judges_of_answers(name: str) -> None:
    assert likelihood_scorer(name).name == name
    with pytest.raises(RhapsodeError, match="judges likelihoods and no answers"):
        scorer(name)
    with pytest.raises(RhapsodeError, match="judges answers and no likelihoods"):
        likelihood_scorer("chrf")
