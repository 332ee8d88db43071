"""Weights of good and bad answers keep to what KTO's authors advise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.train.objectives.balance import Balance, balance_of, balanced


@given(good=st.integers(1, 10**6), bad=st.integers(1, 10**6))
def test_the_weighted_kinds_are_as_1_to_1_up_to_4_to_3_and_none_weighs_less_than_1(good: int, bad: int) -> None:
    weights = balanced(Balance(good, bad))
    assert 1 - 1e-9 <= weights.good * good / (weights.bad * bad) <= 4 / 3 + 1e-9
    assert min(weights) == pytest.approx(1)


@pytest.mark.parametrize("found", [Balance(5, 0), Balance(0, 5)])
def test_one_kind_alone_has_nothing_to_be_weighed_against(found: Balance) -> None:
    assert balanced(found) == (1, 1)


def test_roles_are_counted_where_answers_are_judged() -> None:
    assert balance_of(["good", "mismatched", "bad", "mismatched", "good"]) == (2, 1)
    assert balance_of(["chosen", "rejected"]) is None
