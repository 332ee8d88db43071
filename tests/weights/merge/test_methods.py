"""Every method is its paper's formula, written down in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.weights.merge.methods import Dare, Linear, Slerp, Ties, trim

NAME = "model.layers.0.mlp.down_proj.weight"


def draw(count: int, shape: tuple[int, ...], *, seed: int = 0) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=random) for _ in range(count)]


def ties_in_numpy(tensors: list[np.ndarray], base: np.ndarray, shares: tuple[float, ...], density: float) -> np.ndarray:
    """Algorithm 1 of the paper, number by number."""
    trimmed = []
    for tensor in tensors:
        difference = (tensor - base).ravel().copy()
        order = np.argsort(-np.abs(difference), kind="stable")
        difference[order[max(1, round(density * len(order))) :]] = 0
        trimmed.append(difference)
    out = base.ravel().copy()
    for place in range(out.size):
        column = [(share, difference[place]) for share, difference in zip(shares, trimmed, strict=True)]
        sign = np.sign(sum(share * value for share, value in column))
        agree = [(share, value) for share, value in column if value != 0 and np.sign(value) == sign]
        if agree:
            out[place] += sum(share * value for share, value in agree) / sum(share for share, _ in agree)
    return out.reshape(base.shape)


@given(shares=st.lists(st.floats(0.1, 2), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_linear_is_a_weighted_mean_or_sum(shares: list[float], seed: int) -> None:
    tensors = draw(len(shares), (5, 3), seed=seed)
    arrays = [tensor.double().numpy() for tensor in tensors]
    total = sum(share * array for share, array in zip(shares, arrays, strict=True))
    found = Linear(tuple(shares)).merge(NAME, tensors, None)
    np.testing.assert_allclose(found.numpy(), total / sum(shares), rtol=1e-5, atol=1e-5)
    found = Linear(tuple(shares), is_mean=False).merge(NAME, tensors, None)
    np.testing.assert_allclose(found.numpy(), total, rtol=1e-5, atol=1e-5)


@given(way=st.floats(0, 1), shape=st.sampled_from([(4,), (3, 5), (2, 3, 2)]), seed=st.integers(0, 99))
def test_slerp_goes_along_the_arc(way: float, shape: tuple[int, ...], seed: int) -> None:
    one, other = draw(2, shape, seed=seed)
    a, b = one.double().numpy().ravel(), other.double().numpy().ravel()
    angle = math.acos(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    expected = (math.sin((1 - way) * angle) * a + math.sin(way * angle) * b) / math.sin(angle)
    found = Slerp(way).merge(NAME, [one, other], None)
    np.testing.assert_allclose(found.numpy().ravel(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", [0.0, 0.3, 1.0])
def test_slerp_keeps_lengths_and_is_straight_where_there_is_no_arc(way: float) -> None:
    one, other = draw(2, (64,))
    one, other = one / one.norm(), other / other.norm()
    assert float(Slerp(way).merge(NAME, [one, other], None).norm()) == pytest.approx(1, abs=1e-5)
    for parallel in (2 * one, one.clone(), -one, torch.zeros(64)):
        expected = (1 - way) * one + way * parallel
        torch.testing.assert_close(Slerp(way).merge(NAME, [one, parallel], None), expected)
    assert torch.equal(Slerp(0.0).merge(NAME, [one, other], None), one)


@given(
    shares=st.lists(st.sampled_from([0.5, 1.0, 1.5]), min_size=1, max_size=4),
    density=st.sampled_from([0.01, 0.2, 0.5, 1.0]),
    shape=st.sampled_from([(1,), (7,), (6, 5)]),
    seed=st.integers(0, 99),
)
def test_ties_is_the_algorithm_of_the_paper(
    shares: list[float], density: float, shape: tuple[int, ...], seed: int
) -> None:
    base, *tensors = draw(len(shares) + 1, shape, seed=seed)
    arrays = [tensor.numpy() for tensor in tensors]
    expected = ties_in_numpy(arrays, base.numpy(), tuple(shares), density)
    found = Ties(tuple(shares), density=density).merge(NAME, tensors, base)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_ties_scales_what_was_learnt() -> None:
    base, one, other = draw(3, (9, 4))
    plain = Ties((1.0, 1.0)).merge(NAME, [one, other], base) - base
    scaled = Ties((1.0, 1.0), scale=0.25).merge(NAME, [one, other], base) - base
    torch.testing.assert_close(scaled, plain / 4, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("density", "kept"), [(1.0, 10), (0.5, 5), (0.26, 3), (0.001, 1)])
def test_trimming_keeps_the_largest(density: float, kept: int) -> None:
    values = torch.tensor([3.0, -9, 1, 8, -2, 5, -7, 4, 6, -10])
    found = trim(values.clone(), density)
    assert int((found != 0).sum()) == kept
    assert sorted(found.abs().tolist())[-kept:] == sorted(values.abs().tolist())[-kept:]


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_dare_drops_rescales_and_adds_up(density: float) -> None:
    base, one, other = draw(3, (300, 100))
    found = Dare((1.0, 0.5), density=density, seed=3).merge(NAME, [one, other], base)
    # every number is one of the four that the two draws can make of it
    choices = [
        base + first * (one - base) / density + second * 0.5 * (other - base) / density
        for first in (0, 1)
        for second in (0, 1)
    ]
    distance = torch.stack([(found - choice).abs() for choice in choices])
    assert float(distance.min(0).values.max()) < 1e-4
    shares = torch.bincount(distance.argmin(0).flatten(), minlength=4) / found.numel()
    expected = [(1 - density) ** 2, density * (1 - density), density * (1 - density), density**2]
    np.testing.assert_allclose(shares.numpy(), expected, atol=0.02)


def test_what_dare_drops_depends_on_seed_name_and_place_alone() -> None:
    base, one = torch.zeros(40, 40), torch.ones(40, 40)
    first = Dare((1.0,)).merge(NAME, [one], base)
    assert torch.equal(first, Dare((1.0,)).merge(NAME, [one], base))
    assert not torch.equal(first, Dare((1.0,), seed=1).merge(NAME, [one], base))
    assert not torch.equal(first, Dare((1.0,)).merge("another", [one], base))
    assert torch.equal(first + base, Dare((1.0, 1.0)).merge(NAME, [one, base], base))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(()),
        lambda: Linear((1.0, -1.0)),
        lambda: Linear((math.nan,)),
        lambda: Slerp(1.5),
        lambda: Ties((1.0,), density=0.0),
        lambda: Ties((1.0, 0.0)),
        lambda: Dare((1.0,), density=1.5),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(RhapsodeError):
        make()
