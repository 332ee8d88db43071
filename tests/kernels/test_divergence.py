"""Divergences of a student from its teacher: a chunk at a time they are what they are all at once."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rhapsode.kernels import scores
from rhapsode.kernels.divergence import FORWARD, REVERSE, chunked_divergence, divergence_plain
from rhapsode.kernels.scores import Projection

betas = st.sampled_from([FORWARD, 0.1, 0.5, 0.9, REVERSE])


def projection(N: int, D: int, V: int, *, seed: int, softcap: float | None = None) -> Projection:
    random = torch.Generator().manual_seed(seed)
    hidden, weight = (torch.randn(rows, D, generator=random, dtype=torch.float64) for rows in (N, V))
    return Projection(hidden.requires_grad_(), weight.requires_grad_(), softcap)


def plain(student: Projection, teacher: Projection, *, beta: float, temperature: float) -> Tensor:
    def all_scores(x: Projection) -> Tensor:
        products = F.linear(x.hidden, x.weight)
        return (products if x.softcap is None else torch.tanh(products / x.softcap) * x.softcap) / temperature

    return divergence_plain(all_scores(student), all_scores(teacher).detach(), beta=beta)


@given(
    N=st.integers(1, 30),
    widths=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    V=st.integers(1, 33),
    at_once=st.integers(1, 700),
    beta=betas,
    softcaps=st.tuples(*(st.none() | st.sampled_from([0.5, 20.0]) for _ in range(2))),
    temperature=st.sampled_from([1.0, 0.5, 2.0]),
    seed=st.integers(0, 999),
)
def test_the_chunked_operator_is_the_plain_one(
    N: int,
    widths: tuple[int, int],
    V: int,
    at_once: int,
    beta: float,
    softcaps: tuple[float | None, float | None],
    temperature: float,
    seed: int,
) -> None:
    student, teacher = (projection(N, D, V, seed=seed + D, softcap=c) for D, c in zip(widths, softcaps, strict=True))
    expected = plain(student, teacher, beta=beta, temperature=temperature)
    slopes = torch.linspace(-1, 2, N, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "AT_ONCE", at_once)
        found = chunked_divergence(student, teacher, beta=beta, temperature=temperature)
        grads = torch.autograd.grad((found * slopes).sum(), student[:2])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(
        grads, torch.autograd.grad((expected * slopes).sum(), student[:2]), rtol=1e-9, atol=1e-10
    )


@given(beta=betas, seed=st.integers(0, 999))
def test_it_is_never_negative_and_nothing_only_for_equals(beta: float, seed: int) -> None:
    student, teacher = projection(6, 4, 9, seed=seed), projection(6, 3, 9, seed=seed + 1000)
    assert (chunked_divergence(student, teacher, beta=beta) > 1e-9).all()
    same = chunked_divergence(student, student, beta=beta)
    torch.testing.assert_close(same, torch.zeros_like(same), rtol=0, atol=1e-12)
    assert torch.autograd.grad(same.sum(), student.hidden)[0].abs().max() < 1e-12


def test_known_values() -> None:
    """Of a fair and of a biased coin."""
    fair, biased = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)  # the teacher is biased
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert divergence_plain(fair, biased, beta=FORWARD).item() == pytest.approx(forward)
    assert divergence_plain(fair, biased, beta=REVERSE).item() == pytest.approx(reverse)
    middle = 0.5 * (0.75 * math.log(0.75 / 0.625) + 0.25 * math.log(0.25 / 0.375))
    middle += 0.5 * (0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375))
    assert divergence_plain(fair, biased, beta=0.5).item() == pytest.approx(middle)


@given(beta=betas)
def test_gradients_are_those_of_finite_differences(beta: float) -> None:
    student, teacher = projection(3, 2, 4, seed=1, softcap=2.0), projection(3, 3, 4, seed=2)

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        return chunked_divergence(Projection(hidden, weight, 2.0), teacher, beta=beta, temperature=1.7)

    assert torch.autograd.gradcheck(loss, student[:2])


@given(beta=betas)
def test_bfloat16_is_close_to_float64(beta: float) -> None:
    pair = [projection(40, 16, 300, seed=seed) for seed in (1, 2)]
    narrow, wide = (
        [Projection(*(x.detach().bfloat16().to(dtype).requires_grad_() for x in p[:2])) for p in pair]
        for dtype in (torch.bfloat16, torch.float64)
    )
    found, expected = (chunked_divergence(*p, beta=beta) for p in (narrow, wide))
    assert found.dtype == torch.float32
    pairs = zip(
        (found, *torch.autograd.grad(found.sum(), narrow[0][:2])),
        (expected, *torch.autograd.grad(expected.sum(), wide[0][:2])),
        strict=True,
    )
    for got, wanted in pairs:
        assert torch.linalg.vector_norm(got.double() - wanted) < 0.02 * torch.linalg.vector_norm(wanted)


def test_the_teacher_learns_nothing() -> None:
    student, teacher = projection(5, 3, 8, seed=1), projection(5, 4, 8, seed=2)
    chunked_divergence(student, teacher, beta=0.5).sum().backward()
    assert teacher.hidden.grad is None
    assert teacher.weight.grad is None
