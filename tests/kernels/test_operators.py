"""Norm, rotation and gate: each fast operator is its plain twin, in values and in gradients."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rhapsode.kernels.norm import rms_norm, rms_norm_plain
from rhapsode.kernels.rope import Rotation, rotate, rotate_plain, rotation
from rhapsode.kernels.swiglu import swiglu, swiglu_plain

EPS = 1e-5
shapes = st.lists(st.integers(1, 5), max_size=3).map(tuple)


class Twins(NamedTuple):
    """Both take x [..., size] and a vector [size]; `step` is what size must be a multiple of."""

    fast: Callable[[Tensor, Tensor], Tensor]
    plain: Callable[[Tensor, Tensor], Tensor]
    step: int


def turn_by(angles: Tensor) -> Rotation:
    half = angles[: len(angles) // 2].detach()
    return Rotation(torch.cat((half.cos(), half.cos())), torch.cat((-half.sin(), half.sin())))


TWINS = {
    "norm": Twins(lambda x, w: rms_norm(x, w, EPS), lambda x, w: rms_norm_plain(x, w, EPS), 1),
    "rotation": Twins(lambda x, w: rotate(x, turn_by(w)) * w, lambda x, w: rotate_plain(x, turn_by(w)) * w, 2),
    "gate": Twins(lambda x, w: swiglu(x * w), lambda x, w: swiglu_plain(x * w), 2),
}


def inputs(
    shape: tuple[int, ...], size: int, *, seed: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x, w = (torch.randn(s, generator=random, dtype=torch.float64).to(dtype) for s in ((*shape, size), (size,)))
    return x.requires_grad_(), w.requires_grad_()


def gradients(out: Tensor, of: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 2, out.numel(), dtype=torch.float64).to(out.dtype).view(out.shape)
    return torch.autograd.grad((out * weights).sum(), of)


@pytest.mark.parametrize("name", TWINS)
@settings(deadline=None, max_examples=30)
@given(shape=shapes, multiple=st.integers(1, 17), seed=st.integers(0, 999))
def test_fast_is_plain(name: str, shape: tuple[int, ...], multiple: int, seed: int) -> None:
    twins = TWINS[name]
    x, w = inputs(shape, multiple * twins.step, seed=seed)
    fast, plain = twins.fast(x, w), twins.plain(x, w)
    torch.testing.assert_close(fast, plain, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(gradients(fast, (x, w)), gradients(plain, (x, w)), rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(twins.fast(x, w), plain, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", TWINS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    twins = TWINS[name]
    x, w = inputs((2, 3), 4, seed=5)
    scale = w.detach()
    assert torch.autograd.gradcheck(lambda x: twins.fast(x, scale), (x,))
    if name != "rotation":  # its angles are data, not weights
        assert torch.autograd.gradcheck(twins.fast, (x, w))


@pytest.mark.parametrize("name", TWINS)
def test_a_slice_of_a_larger_tensor_works_as_well(name: str) -> None:
    twins = TWINS[name]
    x, w = inputs((4, 6), 8, seed=6)
    part = x.transpose(0, 1)[1:4]
    torch.testing.assert_close(twins.fast(part, w), twins.plain(part.contiguous(), w), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", TWINS)
def test_bfloat16_is_close_to_float32(name: str) -> None:
    twins = TWINS[name]
    narrow = inputs((30, 5), 64, seed=7, dtype=torch.bfloat16)
    wide = tuple(t.detach().float().requires_grad_() for t in narrow)
    got, expected = twins.fast(*narrow), twins.fast(*wide)
    assert got.dtype == torch.bfloat16
    pairs = zip((got, *gradients(got, narrow)), (expected, *gradients(expected, wide)), strict=True)
    for a, b in pairs:
        assert torch.linalg.vector_norm(a.float() - b) < 0.015 * torch.linalg.vector_norm(b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_norm_of_zeros_and_of_very_large_rows_is_finite(dtype: torch.dtype) -> None:
    x = torch.stack((torch.zeros(16), torch.full((16,), 1e15), torch.full((16,), 1e-20))).to(dtype).requires_grad_()
    w = torch.ones(16, dtype=dtype, requires_grad=True)
    out = rms_norm(x, w, 1e-6)
    assert all(t.isfinite().all() for t in (out, *gradients(out, (x, w))))
    torch.testing.assert_close(out[1], torch.ones(16, dtype=dtype), rtol=0.01, atol=0)


def test_the_gate_of_very_large_inputs_is_finite() -> None:
    x = torch.tensor([[1e4, -1e4, 2.0, 2.0]], requires_grad=True)
    out = swiglu(x)
    assert out.tolist() == [[2e4, 0.0]]
    assert all(t.isfinite().all() for t in gradients(out, (x,)))


def test_a_rotation_turns_each_pair_by_position_times_frequency() -> None:
    frequencies = torch.tensor([1.0, 0.1], dtype=torch.float64)
    turn = rotation(torch.tensor([0, 1, 7]), frequencies, dtype=torch.float64)
    x = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64).expand(3, 2, 4)
    out = rotate(x, turn)
    for position, row in zip((0, 1, 7), out, strict=True):
        for pair, frequency in enumerate((1.0, 0.1)):
            angle = torch.tensor(position * frequency, dtype=torch.float64)
            expected = torch.stack((angle.cos(), angle.sin())).expand(2, 2)
            torch.testing.assert_close(row[:, [pair, pair + 2]], expected)


def test_scores_depend_only_on_the_distance_of_two_positions() -> None:
    random = torch.Generator().manual_seed(8)
    q, k = (torch.randn(1, 1, 16, generator=random, dtype=torch.float64) for _ in range(2))
    frequencies = torch.logspace(0, -3.5, 8, dtype=torch.float64)

    def score(i: int, j: int) -> Tensor:
        turns = [rotation(torch.tensor([p]), frequencies, dtype=torch.float64) for p in (i, j)]
        return (rotate(q, turns[0]) * rotate(k, turns[1])).sum()

    torch.testing.assert_close(score(5, 3), score(1005, 1003))
    assert not torch.isclose(score(5, 3), score(5, 2))


@given(dims=st.integers(1, 6), rest=st.integers(1, 9), seed=st.integers(0, 999), scale=st.sampled_from([1.0, 1.3]))
def test_a_table_narrower_than_the_heads_turns_their_first_dimensions_alone(
    dims: int, rest: int, seed: int, scale: float
) -> None:
    x, _ = inputs((2, 5, 3), 2 * dims + rest, seed=seed)
    frequencies = torch.logspace(0, -2, dims, dtype=torch.float64)
    turn = rotation(torch.arange(5), frequencies, scale=scale, dtype=torch.float64)
    found = rotate(x, turn)
    expected = torch.cat((rotate_plain(x[..., : 2 * dims], turn), x[..., 2 * dims :]), -1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, (x,)), gradients(expected, (x,)))
    length = torch.linalg.vector_norm(found[..., : 2 * dims], dim=-1)
    torch.testing.assert_close(length, scale * torch.linalg.vector_norm(x[..., : 2 * dims], dim=-1))
