import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rhapsode.kernels import cross_entropy
from rhapsode.kernels.cross_entropy import IGNORE, chunked_cross_entropy, cross_entropy_plain


def problem(N: int, D: int, V: int, *, ignored: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, D, generator=random, dtype=torch.float64).requires_grad_()
    weight = torch.randn(V, D, generator=random, dtype=torch.float64).requires_grad_()
    targets = torch.randint(0, V, (N,), generator=random)
    return hidden, weight, targets.masked_fill(torch.rand(N, generator=random) < ignored, IGNORE)


@settings(deadline=None, max_examples=60)
@given(
    N=st.integers(1, 40),
    D=st.integers(1, 9),
    V=st.integers(1, 33),
    chunk=st.integers(1, 45),
    ignored=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    softcap=st.none() | st.sampled_from([0.3, 2.0, 30.0]),
    seed=st.integers(0, 999),
)
def test_the_chunked_operator_is_the_plain_one(
    N: int, D: int, V: int, chunk: int, ignored: float, softcap: float | None, seed: int
) -> None:
    hidden, weight, targets = problem(N, D, V, ignored=ignored, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "CHUNK", chunk)
        fast = chunked_cross_entropy(hidden, weight, targets, softcap=softcap)
        with torch.no_grad():
            measured = chunked_cross_entropy(hidden, weight, targets, softcap=softcap)
    plain = cross_entropy_plain(hidden, weight, targets, softcap=softcap)
    assert fast.tokens == measured.tokens == int((targets != IGNORE).sum())
    torch.testing.assert_close(fast.total, plain, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(measured.total, plain, rtol=1e-10, atol=1e-11)
    fast_grads = torch.autograd.grad(fast.total * 3, (hidden, weight))
    plain_grads = torch.autograd.grad(plain * 3, (hidden, weight))
    torch.testing.assert_close(fast_grads, plain_grads, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("N", [1023, 1024, 1025, 2048, 2049])
def test_around_the_borders_of_a_chunk_as_shipped(N: int) -> None:
    hidden, weight, targets = problem(N, 4, 7, ignored=0.0, seed=N)
    fast = chunked_cross_entropy(hidden.view(1, N, 4), weight, targets.view(1, N))
    plain = cross_entropy_plain(hidden, weight, targets)
    assert fast.tokens == N
    torch.testing.assert_close(fast.total, plain, rtol=1e-10, atol=0)
    fast_grads = torch.autograd.grad(fast.total, (hidden, weight))
    torch.testing.assert_close(fast_grads, torch.autograd.grad(plain, (hidden, weight)), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("softcap", [None, 1.5])
def test_gradients_are_those_of_finite_differences(softcap: float | None) -> None:
    hidden, weight, targets = problem(5, 3, 4, ignored=0.3, seed=0)

    def loss(h: Tensor, w: Tensor) -> Tensor:
        return chunked_cross_entropy(h, w, targets, softcap=softcap).total

    assert torch.autograd.gradcheck(loss, (hidden, weight))


def test_a_capped_score_is_never_further_from_nothing_than_the_cap() -> None:
    hidden, weight = torch.eye(2) * 1e6, torch.tensor([[1.0, 0], [-1, 0]])
    loss = chunked_cross_entropy(hidden[:1], weight, torch.tensor([1]), softcap=3.0)
    assert float(loss.total) == pytest.approx(6.00247568513773)  # ln(1 + e^6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e8])
def test_extreme_logits_stay_finite(dtype: torch.dtype, scale: float) -> None:
    hidden = (torch.eye(4, dtype=dtype) * scale).requires_grad_()
    weight = torch.tensor([[1.0, -1, 1, 0], [-1, 1, 1, 0], [0, -1, -1, 0]], dtype=dtype, requires_grad=True)
    targets = torch.tensor([0, 0, 2, 1])
    loss = chunked_cross_entropy(hidden, weight, targets)
    grads = torch.autograd.grad(loss.total, (hidden, weight))
    assert all(x.isfinite().all() for x in (loss.total, *grads))
    # certain and right; certain and wrong by twice the scale; wrong by twice, with an equal rival; no idea
    expected = 0 + 2 * scale + (2 * scale + 0.6931471805599453) + 1.0986122886681098
    assert float(loss.total.detach()) == pytest.approx(expected, rel=0.01)


def test_bfloat16_is_close_to_float32() -> None:
    hidden, weight, targets = (x.detach() for x in problem(1500, 64, 300, ignored=0.2, seed=1))
    narrow = [(x / 8).to(torch.bfloat16).requires_grad_() for x in (hidden, weight)]
    wide = [x.detach().float().requires_grad_() for x in narrow]
    got, expected = (chunked_cross_entropy(*x, targets) for x in (narrow, wide))
    assert got.total.dtype == torch.float32
    assert float(got.total.detach()) == pytest.approx(float(expected.total.detach()), rel=1e-3)
    pairs = zip(torch.autograd.grad(got.total, narrow), torch.autograd.grad(expected.total, wide), strict=True)
    for grad, grad_expected in pairs:
        assert torch.linalg.vector_norm(grad.float() - grad_expected) < 0.01 * torch.linalg.vector_norm(grad_expected)


def test_logits_never_exist_for_more_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    linear = torch.nn.functional.linear

    def watch(rows: Tensor, weight: Tensor) -> Tensor:
        seen.append(len(rows))
        return linear(rows, weight)

    monkeypatch.setattr(torch.nn.functional, "linear", watch)
    hidden, weight, targets = problem(2500, 4, 7, ignored=0.0, seed=0)
    chunked_cross_entropy(hidden, weight, targets)
    with torch.no_grad():
        chunked_cross_entropy(hidden, weight, targets)
    assert seen == [1024, 1024, 452] * 2
