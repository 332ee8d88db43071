"""The operator is its specification, and keeps and computes no more than it must."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rhapsode.kernels.frozen import Whole
from rhapsode.kernels.low_rank import Pair, low_rank, low_rank_plain, row_norms


class Counting(Whole):
    """A matrix that knows how often it was widened."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self.count = 0

    def dense(self, dtype: torch.dtype) -> Tensor:
        self.count += 1
        return super().dense(dtype)


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def pairs_of(heights: Sequence[int], hit: Sequence[bool], columns: int, rank: int, dtype: torch.dtype) -> list[Pair]:
    """A pair beside every part of a stacked matrix that is hit."""
    found, first = [], 0
    for number, (height, is_hit) in enumerate(zip(heights, hit, strict=True)):
        if is_hit:
            a, b = (
                draw(rank, columns, seed=2 * number, dtype=dtype),
                draw(height, rank, seed=2 * number + 1, dtype=dtype),
            )
            found.append(Pair(first, a.requires_grad_(), b.requires_grad_()))
        first += height
    return found


@settings(max_examples=60)
@given(
    lead=st.sampled_from([(1,), (5,), (2, 3), (2, 1, 3)]),
    parts=st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=3),
    columns=st.integers(1, 7),
    rank=st.integers(1, 4),
    has_bias=st.booleans(),
    scale=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_the_operator_is_the_plain_one(
    lead: tuple[int, ...],
    parts: list[tuple[int, bool]],
    columns: int,
    rank: int,
    has_bias: bool,
    scale: float,
) -> None:
    heights, hit = zip(*parts, strict=True)
    pairs = pairs_of(heights, hit, columns, rank, torch.float64)
    weight = draw(sum(heights), columns, seed=10)
    bias = draw(sum(heights), seed=11) if has_bias else None
    x = draw(*lead, columns, seed=12).requires_grad_()
    inputs = [x, *(tensor for pair in pairs for tensor in (pair.a, pair.b))]
    found = []
    for operator in (low_rank, low_rank_plain):
        out = operator(x, Whole(weight), bias, pairs, scale)
        assert out.shape == (*lead, sum(heights))
        found.append([out.detach(), *torch.autograd.grad((out * draw(*out.shape, seed=13)).sum(), inputs)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-11, atol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    weight, a, b = draw(6, 4, seed=0), draw(2, 4, seed=1).requires_grad_(), draw(3, 2, seed=2).requires_grad_()

    def act(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return low_rank(x, Whole(weight), None, [Pair(1, a, b)], 0.7)

    assert torch.autograd.gradcheck(act, (draw(5, 4, seed=3).requires_grad_(), a, b))


@pytest.mark.parametrize("needs_x", [False, True])
def test_the_matrix_is_widened_where_it_is_needed_and_never_kept(needs_x: bool) -> None:
    matrix = Counting(draw(40, 30, seed=0))
    x = draw(8, 30, seed=1).requires_grad_(needs_x)
    pairs = pairs_of((20, 20), (True, False), 30, 3, torch.float64)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = low_rank(x, matrix, None, pairs, 2.0)
    assert sorted(tuple(tensor.shape) for tensor in kept) == [(3, 30), (8, 3), (8, 30), (20, 3)]
    out.sum().backward()
    assert matrix.count == 1 + needs_x
    assert (x.grad is not None) is needs_x


def test_a_matrix_beside_which_nothing_is_learnt_keeps_nothing() -> None:
    matrix, x = Counting(draw(6, 4, seed=0)), draw(5, 4, seed=1).requires_grad_()
    out = low_rank(x, matrix, None, [], 1.0)
    (found,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(found, matrix.dense(torch.float64).sum(0).expand(5, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_narrow_types_come_as_close_as_they_can(dtype: torch.dtype) -> None:
    pairs = pairs_of((32, 16, 16), (True, False, True), 48, 8, dtype)
    wide = [
        Pair(p.first, p.a.detach().double().requires_grad_(), p.b.detach().double().requires_grad_()) for p in pairs
    ]
    weight, x = draw(64, 48, seed=20, dtype=dtype), draw(2, 10, 48, seed=21, dtype=dtype)
    found = []
    for operator, at, learnt in ((low_rank, x, pairs), (low_rank_plain, x.double(), wide)):
        out = operator(at, Whole(weight), None, learnt, 0.5)
        grads = torch.autograd.grad(out.square().sum(), [t for pair in learnt for t in (pair.a, pair.b)])
        found.append([out.detach(), *grads])
    for narrow, exact in zip(*found, strict=True):
        assert narrow.dtype == dtype
        error = torch.linalg.vector_norm(narrow.double() - exact) / torch.linalg.vector_norm(exact)
        assert error < 4 * torch.finfo(dtype).eps


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), rank=st.integers(1, 4), scale=st.sampled_from([0.25, 4.0]))
def test_norms_of_rows_are_those_of_the_sum(rows: int, columns: int, rank: int, scale: float) -> None:
    weight, a, b = draw(rows, columns, seed=0), draw(rank, columns, seed=1), draw(rows, rank, seed=2)
    expected = torch.linalg.vector_norm(weight + scale * b @ a, dim=1)
    torch.testing.assert_close(row_norms(weight, a, b, scale), expected, rtol=1e-9, atol=1e-9)
