import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.train.objectives.preference import Pairs
from rhapsode.train.objectives.reward import bradley_terry

rewards = st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20), st.floats(0, 3)), min_size=1, max_size=6)


@given(rows=rewards, centre=st.sampled_from([0.0, 0.01]), cut=st.integers(0, 6))
def test_it_is_the_likelihood_of_bradley_and_terry_and_parts_add_up(
    rows: list[tuple[float, float, float]], centre: float, cut: int
) -> None:
    chosen, rejected, margins = torch.tensor(rows, dtype=torch.float64).T

    def loss(part: slice) -> torch.Tensor:
        return bradley_terry(Pairs(chosen[part], rejected[part]), margin_P=margins[part], centre=centre).total

    expected = sum(-math.log(1 / (1 + math.exp(-(c - r - m)))) + centre * (c + r) ** 2 for c, r, m in rows)
    assert loss(slice(None)).item() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(loss(slice(None)), loss(slice(cut)) + loss(slice(cut, None)))


def test_equal_rewards_are_a_coin_toss() -> None:
    same = torch.tensor([2.0, -1.0])
    loss = bradley_terry(Pairs(same, same), centre=0.0)
    assert loss.total.item() == pytest.approx(2 * math.log(2))
    assert (loss.num_terms, loss.measures["right"].item()) == (2, 0)


def test_extreme_rewards_stay_finite() -> None:
    far = torch.tensor([1e6, -1e6], requires_grad=True)
    loss = bradley_terry(Pairs(far, far.flip(0)), centre=0.0)
    loss.total.backward()
    assert loss.total.isfinite()
    assert far.grad.isfinite().all()
