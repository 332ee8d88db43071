"""Operators in C: each is its plain twin up to bfloat16's rounding, with the same bytes on any number of threads."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.conftest import random_documents
from torch import Tensor

from rhapsode.kernels import native
from rhapsode.kernels.adamw import Adam, accumulate, adamw, adamw_plain
from rhapsode.kernels.attention import DenseAttend, Weighing, attend_plain, document_mask
from rhapsode.kernels.cross_entropy import IGNORE, chunked_cross_entropy, cross_entropy_plain
from rhapsode.kernels.flash_attention import are_contiguous
from rhapsode.kernels.norm import rms_norm, rms_norm_plain
from rhapsode.kernels.rope import rotate, rotate_plain, rotation
from rhapsode.kernels.squares import BLOCK, squares, squares_plain
from rhapsode.kernels.swiglu import swiglu, swiglu_plain

pytestmark = pytest.mark.skipif(not native.is_here(), reason="there is no C compiler on this machine")
needs_attention = pytest.mark.skipif(not native.has_attention(), reason="this processor does not multiply bfloat16")


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def distance(found: Tensor, expected: Tensor) -> float:
    """Of two tensors, as a share of the second's length; of numbers that are nothing but rounding, in tenths."""
    found, expected = found.detach().double(), expected.detach().double()
    length = max(float(torch.linalg.vector_norm(expected)), 0.1 * expected.numel() ** 0.5)
    return float(torch.linalg.vector_norm(found - expected)) / length


def assert_close(
    fast: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor, most: float = 0.004
) -> None:
    """Values and gradients of `fast` in bfloat16 are those of `plain` in float64."""
    narrow = [x.detach().requires_grad_() for x in inputs]
    wide = [x.detach().double().requires_grad_() for x in inputs]
    found, expected = fast(*narrow), plain(*wide)
    assert found.dtype == torch.bfloat16
    slope = random(*found.shape, seed=9)
    pairs = zip(
        (found, *torch.autograd.grad(found, narrow, slope)),
        (expected, *torch.autograd.grad(expected, wide, slope.double())),
        strict=True,
    )
    for got, wanted in pairs:
        assert distance(got, wanted) < most


def documents_of(rows: int, length: int, *, seed: int) -> Tensor:
    """Packed rows as they are in training: documents one after another, then padding."""
    found = random_documents((rows, length), seed=seed)
    assume(are_contiguous(found))
    return found


@needs_attention
@settings(deadline=None, max_examples=40)
@given(
    B=st.integers(1, 3),
    T=st.sampled_from([2, 3, 63, 64, 65, 100, 128, 200, 330]),
    K=st.integers(1, 3),
    G=st.integers(1, 3),
    C=st.sampled_from([32, 64, 96, 128, 256]),
    window=st.none() | st.integers(1, 340),
    seed=st.integers(0, 99),
)
def test_attention_is_the_plain_one(B: int, T: int, K: int, G: int, C: int, window: int | None, seed: int) -> None:
    documents = documents_of(B, T, seed=seed)
    weighing = Weighing(C**-0.5, window)
    attend = DenseAttend(documents, dtype=torch.bfloat16)
    mask = document_mask(documents, window=window)
    q, k, v = (random(B, T, n, C, seed=seed + i) for i, n in enumerate((K * G, K, K)))
    assert_close(
        lambda *heads: attend(0, *heads, weighing),
        lambda *heads: attend_plain(*heads, weighing, mask=mask),
        q, k, v, most=0.006 if T > 60 else 0.03,
    )  # fmt: skip
    assert attend._stretches, "the operator in C did not run"


@needs_attention
def test_attention_reads_heads_where_a_product_left_them() -> None:
    documents = torch.ones(2, 70, dtype=torch.long)
    product = random(2, 70, 8, 32, seed=3)
    attend, weighing = DenseAttend(documents, dtype=torch.bfloat16), Weighing(0.2)
    apart = attend(0, *product.split((4, 2, 2), -2), weighing)
    assert torch.equal(apart, attend(0, *(x.contiguous() for x in product.split((4, 2, 2), -2)), weighing))


@needs_attention
def test_one_document_does_not_touch_another_even_in_the_last_bit() -> None:
    documents = torch.tensor([[1] * 70 + [2] * 80])
    heads = [random(1, 150, n, 64, seed=n) for n in (4, 2, 2)]
    attend = DenseAttend(documents, dtype=torch.bfloat16)
    before = attend(0, *heads, Weighing(0.1))
    for x in heads:
        x[:, :70] = 100 * random(*x[:, :70].shape, seed=7)
    after = attend(0, *heads, Weighing(0.1))
    assert torch.equal(before[:, 70:], after[:, 70:])
    assert not torch.equal(before[:, :70], after[:, :70])


@needs_attention
def test_very_large_products_give_finite_values_and_gradients() -> None:
    heads = [(x * 1e3).requires_grad_() for x in (random(1, 90, n, 64, seed=n) for n in (4, 2, 2))]
    out = DenseAttend(torch.ones(1, 90, dtype=torch.long), dtype=torch.bfloat16)(0, *heads, Weighing(1.0))
    assert all(x.isfinite().all() for x in (out, *torch.autograd.grad(out.sum(), heads)))


def test_documents_that_come_back_are_not_taken_for_contiguous_ones() -> None:
    assert are_contiguous(torch.tensor([[1, 1, 2, 0], [3, 3, 3, 3]]))
    returning = torch.tensor([[1, 2, 1, 0]])
    assert not are_contiguous(returning)
    heads = [random(1, 4, 2, 32, seed=n) for n in range(3)]
    found = DenseAttend(returning, dtype=torch.bfloat16)(0, *heads, Weighing(0.2))
    assert distance(found, attend_plain(*heads, Weighing(0.2), mask=document_mask(returning))) < 0.01


@pytest.mark.parametrize("size", [1, 31, 64, 384])
@pytest.mark.parametrize("shape", [(), (5,), (3, 70), (2, 5, 3)])
def test_norm_and_gate_are_the_plain_ones(size: int, shape: tuple[int, ...]) -> None:
    x, w = random(*shape, size), random(size, seed=1)
    assert_close(lambda x, w: rms_norm(x, w, 1e-5), lambda x, w: rms_norm_plain(x, w, 1e-5), x, w, most=0.02)
    assert_close(swiglu, swiglu_plain, random(*shape, 2 * size), most=0.006)


def test_norm_and_rotation_of_heads_where_a_product_left_them() -> None:
    product = random(3, 7, 10, 16, seed=2).requires_grad_()
    w, turn = random(16, seed=1), rotation(torch.arange(21).view(3, 7), torch.rand(8), dtype=torch.bfloat16)

    def both(x: Tensor) -> Tensor:
        return rotate(rms_norm(x, w, 1e-5), turn)

    parts = product.split((6, 2, 2), -2)
    for part in parts:
        assert torch.equal(both(part), both(part.contiguous()))
        assert torch.equal(rotate(part, turn), rotate(part.contiguous(), turn))
    apart = torch.autograd.grad(sum(both(p).square().sum() for p in parts), product)[0]
    dense = torch.autograd.grad(sum(both(p.contiguous()).square().sum() for p in parts), product)[0]
    assert torch.equal(apart, dense)


def test_rotation_is_the_plain_one() -> None:
    positions = torch.randint(0, 5000, (2, 33))
    turn, wide = (rotation(positions, torch.logspace(0, -3, 16), dtype=d) for d in (torch.bfloat16, torch.float64))
    assert_close(lambda x: rotate(x, turn), lambda x: rotate_plain(x, wide), random(2, 33, 3, 32), most=0.006)


@pytest.mark.parametrize("vocabulary", [1, 7, 640, 5001])
def test_cross_entropy_is_the_plain_one(vocabulary: int) -> None:
    hidden, weight = random(37, 24), random(vocabulary, 24, seed=1)
    targets = torch.randint(0, vocabulary, (37,))
    targets[::5] = IGNORE
    narrow = [x.clone().requires_grad_() for x in (hidden, weight)]
    wide = [x.double().requires_grad_() for x in (hidden, weight)]
    found = chunked_cross_entropy(*narrow, targets)
    expected = cross_entropy_plain(*wide, targets)
    assert float(found.total.detach()) == pytest.approx(float(expected.detach()), rel=0.003, abs=1e-6)
    pairs = zip(torch.autograd.grad(found.total, narrow), torch.autograd.grad(expected, wide), strict=True)
    assert vocabulary == 1 or all(distance(got, wanted) < 0.02 for got, wanted in pairs)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_seen_in_the_loss(bad: float) -> None:
    hidden, weight = random(4, 8), random(50, 8, seed=1)
    hidden[2, 3] = bad
    loss = chunked_cross_entropy(hidden.requires_grad_(), weight, torch.arange(4)).total
    assert not math.isfinite(float(loss.detach()))


def test_adamw_is_the_plain_one() -> None:
    shapes = ((3, 5), (40_000,), (1,))
    states = [[random(*s, seed=i * 10 + j, dtype=torch.float32) for j, s in enumerate(shapes)] for i in range(4)]
    states[2] = [x.square() for x in states[2]]
    twins = [[x.clone() for x in state] for state in states]
    adam = Adam(0.9, 0.95, rate=0.01, spread=1.3, eps=1e-8)
    keeps = [1.0, 0.99, 0.5]
    for _ in range(3):
        adamw(*states, keeps, adam)
        adamw_plain(*twins, keeps, adam)
    torch.testing.assert_close(states, twins, rtol=1e-5, atol=1e-6)


def test_gradients_are_added_in_float32() -> None:
    total, grad = random(999, dtype=torch.float32), random(999, seed=1)
    expected = total + grad.float()
    accumulate(total, grad)
    assert torch.equal(total, expected)


def test_squares_are_summed_in_float64() -> None:
    tensors = [random(size, seed=size, dtype=torch.float32) for size in (3 * BLOCK + 7, 1, 0)]
    tensors[0][0] = 1e20  # its square is more than float32 holds
    assert squares(tensors) == pytest.approx(squares_plain(tensors), rel=1e-12)
    tensors[0][5] = float("nan")
    assert math.isnan(squares(tensors))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def everything() -> list[Tensor]:
    """The result of every operator, forward and back."""
    product = random(2, 150, 8, 64, seed=4).requires_grad_()
    w = random(64, seed=5).requires_grad_()
    positions = torch.arange(150).expand(2, -1)
    turn = rotation(positions, torch.logspace(0, -3, 32), dtype=torch.bfloat16)
    q, k, v = product.split((4, 2, 2), -2)
    branches = torch.tensor([[0] * 70 + [1] * 50 + [2] * 30, [0] * 150])
    attend = DenseAttend(torch.ones_like(branches), branches, dtype=torch.bfloat16)
    seen = attend(0, rotate(rms_norm(q, w, 1e-5), turn), rms_norm(k, w, 1e-5), v, Weighing(0.1))
    loss = chunked_cross_entropy(swiglu(seen.flatten(-2)), random(300, 128, seed=6), positions).total
    grads = torch.autograd.grad(loss, (product, w))
    numbers = [random(70_000, seed=i, dtype=torch.float32).abs() for i in range(4)]
    adamw(*([x] for x in numbers), [1.0], Adam(0.9, 0.95, rate=0.01, spread=1.0, eps=1e-8))
    return [loss.detach(), *grads, *numbers, torch.tensor(squares(numbers))]


def test_threads_change_no_bit(threads: Callable[[int], None]) -> None:
    threads(1)
    alone = everything()
    threads(2)
    assert all(torch.equal(a, b) for a, b in zip(alone, everything(), strict=True))


ASK = "from rhapsode.kernels import native; import sys; sys.stdout.write(str(native.is_here()))"


def ask(home: Path, **environment: str) -> str:
    settings = {**os.environ, "RHAPSODE_HOME": str(home), **environment}
    return subprocess.run([sys.executable, "-c", ASK], env=settings, capture_output=True, text=True, check=True).stdout


def test_it_is_compiled_once(tmp_path: Path) -> None:
    assert ask(tmp_path) == "True"
    (library,) = (tmp_path / "native").iterdir()
    before = library.stat()
    assert ask(tmp_path) == "True"
    assert library.stat() == before or library.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("environment", [{"RHAPSODE_NATIVE": "0"}, {"CC": "/bin/false"}, {"CC": "no-such-compiler"}])
def test_without_a_compiler_torch_does_the_work(environment: dict[str, str], tmp_path: Path) -> None:
    assert ask(tmp_path, **environment) == "False"


def test_a_home_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert ask(tmp_path / "file") == "False"
