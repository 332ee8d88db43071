"""Log-probabilities and entropies of tokens: a chunk at a time they are what they are all at once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rhapsode.kernels import native, scores
from rhapsode.kernels.cross_entropy import IGNORE, cross_entropy_plain
from rhapsode.kernels.log_probs import TokenScores, chunked_log_probs, chunked_token_scores, token_scores_plain

needs_native = pytest.mark.skipif(not native.is_here(), reason="there is no C compiler on this machine")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some rows at a time, of a vocabulary of about 100."""
    monkeypatch.setattr(scores, "AT_ONCE", 1000)


def problem(
    N: int, D: int, V: int, *, ignored: float, seed: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    hidden, weight = (torch.randn(rows, D, generator=random, dtype=torch.float64).to(dtype) for rows in (N, V))
    targets = torch.randint(0, V, (N,), generator=random)
    return hidden, weight, targets.masked_fill(torch.rand(N, generator=random) < ignored, IGNORE)


def worth(found: TokenScores, *, seed: int) -> Tensor:
    """A number that depends on every value in its own way, as losses of policies do."""
    random = torch.Generator().manual_seed(seed)
    slopes = (torch.randn(x.shape, generator=random, dtype=torch.float64) for x in found)
    return sum((x.double() * slope).sum() for x, slope in zip(found, slopes, strict=True))


@given(
    N=st.integers(1, 40),
    D=st.integers(1, 9),
    V=st.integers(1, 33),
    at_once=st.integers(1, 700),
    ignored=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    softcap=st.none() | st.sampled_from([0.3, 2.0, 30.0]),
    temperature=st.sampled_from([1.0, 0.6, 3.0]),
    seed=st.integers(0, 999),
)
def test_the_chunked_operator_is_the_plain_one(
    N: int, D: int, V: int, at_once: int, ignored: float, softcap: float | None, temperature: float, seed: int
) -> None:
    *inputs, targets = problem(N, D, V, ignored=ignored, seed=seed)
    hidden, weight = (x.requires_grad_() for x in inputs)
    how = {"softcap": softcap, "temperature": temperature}
    plain = token_scores_plain(hidden, weight, targets, **how)
    expected = torch.autograd.grad(worth(plain, seed=seed), (hidden, weight))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "AT_ONCE", at_once)
        fast = chunked_token_scores(hidden, weight, targets, **how)
        grads = torch.autograd.grad(worth(fast, seed=seed), (hidden, weight))
        with torch.no_grad():
            measured = chunked_token_scores(hidden, weight, targets, **how)
    for found in (fast, measured):
        torch.testing.assert_close(tuple(found), tuple(plain), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(grads, expected, rtol=1e-9, atol=1e-10)


def test_they_add_up_to_the_cross_entropy() -> None:
    hidden, weight, targets = problem(50, 8, 30, ignored=0.3, seed=1)
    log_probs = chunked_log_probs(hidden.view(5, 10, 8), weight, targets.view(5, 10))
    assert log_probs.shape == (5, 10)
    torch.testing.assert_close(-log_probs.sum(), cross_entropy_plain(hidden, weight, targets))


@pytest.mark.parametrize("softcap", [None, 1.5])
def test_gradients_are_those_of_finite_differences(softcap: float | None) -> None:
    *inputs, targets = problem(5, 3, 4, ignored=0.3, seed=0)
    hidden, weight = (x.requires_grad_() for x in inputs)

    def both(h: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        return tuple(chunked_token_scores(h, w, targets, softcap=softcap, temperature=0.7))

    assert torch.autograd.gradcheck(both, (hidden, weight))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_what_is_frozen_gets_no_gradient_and_changes_none(dtype: torch.dtype, at_once: None) -> None:
    hidden, weight, targets = problem(60, 8, 100, ignored=0.2, seed=2, dtype=dtype)
    both = [x.clone().requires_grad_() for x in (hidden, weight)]
    of_both = torch.autograd.grad(chunked_log_probs(*both, targets).sum(), both)
    for one in range(2):
        inputs = [hidden.clone(), weight.clone()]
        inputs[one].requires_grad_()
        chunked_log_probs(*inputs, targets).sum().backward()
        assert torch.equal(inputs[one].grad, of_both[one])
        assert inputs[1 - one].grad is None


def test_scores_never_exist_for_more_than_a_chunk(monkeypatch: pytest.MonkeyPatch, at_once: None) -> None:
    seen: list[int] = []
    linear = torch.nn.functional.linear

    def watch(rows: Tensor, weight: Tensor) -> Tensor:
        seen.append(len(rows))
        return linear(rows, weight)

    monkeypatch.setattr(torch.nn.functional, "linear", watch)
    hidden, weight, targets = problem(25, 4, 100, ignored=0.0, seed=0)
    chunked_log_probs(hidden.requires_grad_(), weight, targets).sum().backward()
    assert seen == [10, 10, 10, 2] * 2


@pytest.mark.parametrize("ignored", [0.0, 1.0])
def test_no_token_at_all(ignored: float) -> None:
    hidden, weight, targets = problem(0 if ignored == 0 else 3, 4, 7, ignored=ignored, seed=0)
    found = chunked_log_probs(hidden.requires_grad_(), weight, targets)
    found.sum().backward()
    assert found.tolist() == [0.0] * len(targets)
    assert hidden.grad is not None
    assert not hidden.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e8])
def test_extreme_scores_stay_finite(dtype: torch.dtype, scale: float) -> None:
    hidden = (torch.eye(4, dtype=dtype) * scale).requires_grad_()
    weight = torch.tensor([[1.0, -1, 1, 0], [-1, 1, 1, 0], [0, -1, -1, 0]], dtype=dtype, requires_grad=True)
    found = chunked_token_scores(hidden, weight, torch.tensor([0, 0, 2, 1]))
    grads = torch.autograd.grad(worth(found, seed=0), (hidden, weight))
    assert all(x.isfinite().all() for x in (*found, *grads))
    # certain and right; certain and wrong by twice the scale; wrong by twice, with an equal rival; no idea
    expected = [0, -2 * scale, -2 * scale - 0.6931471805599453, -1.0986122886681098]
    assert found.log_probs.tolist() == pytest.approx(expected, rel=0.01)
    assert found.entropies.tolist() == pytest.approx([0, 0, 0.6931471805599453, 1.0986122886681098], rel=0.01, abs=1e-6)


def distance(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().double(), expected.detach().double()
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


@needs_native
@pytest.mark.parametrize("vocabulary", [7, 640, 5001])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_in_c_it_is_the_plain_one(vocabulary: int, temperature: float) -> None:
    hidden, weight, targets = problem(37, 24, vocabulary, ignored=0.2, seed=3, dtype=torch.bfloat16)
    weight = weight / 4
    narrow = [x.clone().requires_grad_() for x in (hidden, weight)]
    wide = [x.double().requires_grad_() for x in (hidden, weight)]
    found = chunked_token_scores(*narrow, targets, temperature=temperature)
    expected = token_scores_plain(*wide, targets, temperature=temperature)
    assert all(x.dtype == torch.float32 for x in found)
    assert all(distance(got, wanted) < 0.004 for got, wanted in zip(found, expected, strict=True))
    for which in (lambda x: x.log_probs.sum(), lambda x: worth(x, seed=1)):
        pairs = zip(
            torch.autograd.grad(which(found), narrow, retain_graph=True),
            torch.autograd.grad(which(expected), wide, retain_graph=True),
            strict=True,
        )
        assert all(distance(got, wanted) < 0.02 for got, wanted in pairs)


@needs_native
def test_threads_change_no_bit() -> None:
    *inputs, targets = problem(300, 16, 1000, ignored=0.1, seed=4, dtype=torch.bfloat16)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            narrow = [x.clone().requires_grad_() for x in inputs]
            out = chunked_token_scores(*narrow, targets)
            found.append([*out, *torch.autograd.grad(worth(out, seed=0), narrow)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@needs_native
def test_a_score_that_is_no_number_is_seen() -> None:
    hidden, weight, targets = problem(4, 8, 50, ignored=0, seed=5, dtype=torch.bfloat16)
    hidden[2, 3] = float("nan")
    assert not chunked_log_probs(hidden, weight, targets).isfinite().all()
