"""Sequences that begin alike, as trees in a row: each is attended to as if it were a document of its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import make_trees, random_documents, random_trees
from tests.kernels.test_attention import gradients, heads
from tests.kernels.test_native import assert_close, distance, needs_attention, random

from rhapsode.kernels.attention import DenseAttend, Weighing, attend_plain, document_mask
from rhapsode.kernels.flash_attention import are_contiguous, key_stretches

TYPES = (torch.float32, pytest.param(torch.bfloat16, marks=needs_attention))
shapes = st.tuples(st.integers(1, 3), st.integers(1, 50))
windows = st.none() | st.integers(1, 60)
seeds = st.integers(0, 999)


@given(shape=shapes, window=windows, seed=seeds)
def test_a_query_sees_its_own_sequence_up_to_itself(shape: tuple[int, int], window: int | None, seed: int) -> None:
    trees = random_trees(shape, seed=seed)
    expected = torch.zeros(shape[0], 1, shape[1], shape[1], dtype=torch.bool)
    for row in range(shape[0]):
        for places in trees.sequences(row):
            for position, place in enumerate(places):
                first = 0 if window is None else max(0, position + 1 - window)
                expected[row, 0, place, places[first : position + 1]] = True
    assert torch.equal(document_mask(trees.documents, trees.branches, window=window), expected)


@given(shape=shapes, seed=seeds)
def test_a_position_is_the_number_of_tokens_seen_before(shape: tuple[int, int], seed: int) -> None:
    trees = random_trees(shape, seed=seed)
    seen = document_mask(trees.documents, trees.branches)[:, 0].sum(-1)
    assert torch.equal(trees.positions, torch.where(trees.documents > 0, seen - 1, 0))


@pytest.mark.parametrize("is_tree", [False, True])
@given(shape=shapes, window=windows, seed=seeds)
def test_two_stretches_are_what_the_mask_shows(
    is_tree: bool, shape: tuple[int, int], window: int | None, seed: int
) -> None:
    trees = random_trees(shape, seed=seed)
    rows = (trees.documents, trees.branches) if is_tree else (random_documents(shape, seed=seed), None)
    assert are_contiguous(*rows)
    first, trunk_first, trunk_stop = (x[:, :, None] for x in key_stretches(*rows, window=window))
    keys = torch.arange(shape[1])
    own, trunk = (first <= keys) & (keys <= keys[:, None]), (trunk_first <= keys) & (keys < trunk_stop)
    assert torch.equal(own ^ trunk, document_mask(*rows, window=window)[:, 0])
    assert (first.diff(dim=1) >= 0).all(), "the operator in C counts on it"


@given(shape=shapes, K=st.integers(1, 3), G=st.integers(1, 3), window=windows, seed=seeds)
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_attention_is_the_plain_one(
    softcap: float | None, shape: tuple[int, int], K: int, G: int, window: int | None, seed: int
) -> None:
    trees, weighing = random_trees(shape, seed=seed), Weighing(0.4, window, softcap)
    q, k, v = heads(*shape, K * G, K, 5)
    mask = document_mask(trees.documents, trees.branches, window=window)
    found = DenseAttend(trees.documents, trees.branches, dtype=torch.float64)(0, q, k, v, weighing)
    plain = attend_plain(q, k, v, weighing, mask=mask)
    torch.testing.assert_close(found, plain, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(found, (q, k, v)), gradients(plain, (q, k, v)), rtol=1e-9, atol=1e-12)


@needs_attention
@given(
    B=st.integers(1, 3),
    T=st.sampled_from([2, 3, 63, 64, 65, 100, 128, 200, 330, 450]),
    K=st.integers(1, 2),
    G=st.integers(1, 3),
    C=st.sampled_from([32, 64, 96, 256]),
    window=st.none() | st.integers(1, 340),
    seed=seeds,
)
def test_attention_in_c_is_the_plain_one(B: int, T: int, K: int, G: int, C: int, window: int | None, seed: int) -> None:
    trees, weighing = random_trees((B, T), seed=seed), Weighing(C**-0.5, window)
    attend = DenseAttend(trees.documents, trees.branches, dtype=torch.bfloat16)
    mask = document_mask(trees.documents, trees.branches, window=window)
    q, k, v = (random(B, T, n, C, seed=seed + i) for i, n in enumerate((K * G, K, K)))
    assert_close(
        lambda *heads: attend(0, *heads, weighing),
        lambda *heads: attend_plain(*heads, weighing, mask=mask),
        q, k, v, most=0.006 if T > 60 else 0.03,
    )  # fmt: skip
    assert attend._stretches, "the operator in C did not run"


@pytest.mark.parametrize("window", [None, 50])
@pytest.mark.parametrize("dtype", TYPES)
def test_no_branch_touches_another_even_in_the_last_bit(dtype: torch.dtype, window: int | None) -> None:
    trees, weighing = make_trees([[[70, 40, 90, 50], [20, 30, 10]]], width=320), Weighing(0.1, window)
    attend = DenseAttend(trees.documents, trees.branches, dtype=dtype)
    inputs = [random(1, 320, n, 64, seed=n, dtype=dtype) for n in (4, 2, 2)]
    before = attend(0, *inputs, weighing)
    is_other = (trees.documents == 1) & (trees.branches == 2)
    changed = [x.where(~is_other[..., None, None], 100 * random(*x.shape, seed=7, dtype=dtype)) for x in inputs]
    after = attend(0, *changed, weighing)
    assert torch.equal(after[~is_other], before[~is_other])
    assert not torch.equal(after[is_other], before[is_other])


@pytest.mark.parametrize("dtype", TYPES)
def test_a_branch_learns_nothing_from_the_loss_of_another(dtype: torch.dtype) -> None:
    trees = make_trees([[[70, 40, 90, 50], [20, 30]]], width=310)
    attend = DenseAttend(trees.documents, trees.branches, dtype=dtype)
    inputs = [random(1, 310, n, 64, seed=n, dtype=dtype).requires_grad_() for n in (4, 2, 2)]
    of_loss = (trees.documents == 1) & (trees.branches == 3)
    loss = attend(0, *inputs, Weighing(0.1))[of_loss].square().sum()
    for gradient in torch.autograd.grad(loss, inputs[1:]):
        reached = gradient.flatten(2).any(-1)
        assert torch.equal(reached, (trees.documents == 1) & ((trees.branches == 0) | (trees.branches == 3)))


@needs_attention
def test_what_no_query_of_a_block_sees_is_not_computed() -> None:
    """Numbers that are none would come through a weight of zero."""
    trees = make_trees([[[64, 128, 128, 32], [8, 12, 12], [64]]], width=448)
    attend = DenseAttend(trees.documents, trees.branches, dtype=torch.bfloat16)
    inputs = [random(1, 448, 2, 32, seed=n) for n in range(3)]
    expected = attend(0, *inputs, Weighing(0.2))
    is_broken = (trees.documents == 1) & (trees.branches == 2)
    broken = [x.masked_fill(is_broken[..., None, None], float("nan")).requires_grad_() for x in inputs]
    found = attend(0, *broken, Weighing(0.2))
    assert torch.equal(found[~is_broken], expected[~is_broken])
    reached = is_broken | ((trees.documents == 1) & (trees.branches == 0))
    for gradient in torch.autograd.grad(found.sum(), broken):
        assert gradient[~reached].isfinite().all()


@pytest.mark.parametrize(
    ("dtype", "branches"),
    [
        (torch.float32, [0] * 200),
        (torch.float32, [1] * 200),
        pytest.param(torch.bfloat16, [0] * 200, marks=needs_attention),
        pytest.param(torch.bfloat16, [1] * 200, marks=needs_attention),
        pytest.param(torch.bfloat16, [0] * 80 + [1] * 120, marks=needs_attention),
    ],
)
@pytest.mark.parametrize("window", [None, 30])
def test_a_tree_with_one_branch_is_a_document_to_the_last_bit(
    dtype: torch.dtype, branches: list[int], window: int | None
) -> None:
    documents, weighing = torch.ones(1, 200, dtype=torch.long), Weighing(0.1, window)
    inputs = [random(1, 200, n, 64, seed=n, dtype=dtype).requires_grad_() for n in (4, 2, 2)]
    plain = DenseAttend(documents, dtype=dtype)(0, *inputs, weighing)
    found = DenseAttend(documents, torch.tensor([branches]), dtype=dtype)(0, *inputs, weighing)
    assert torch.equal(found, plain)
    pairs = zip(*(torch.autograd.grad(out.square().sum(), inputs) for out in (found, plain)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("documents", "branches"),
    [
        ([1, 1, 1, 1], [0, 1, 0, 2]),
        ([1, 1, 1, 1], [1, 1, 0, 0]),
        ([1, 1, 1, 1], [0, 1, 2, 1]),
        ([1, 2, 1, 1], [0, 0, 1, 2]),
    ],
)
def test_trees_in_pieces_are_not_taken_for_contiguous_ones(documents: list[int], branches: list[int]) -> None:
    rows = torch.tensor([documents]), torch.tensor([branches])
    assert not are_contiguous(*rows)
    inputs = [random(1, 4, 2, 32, seed=n) for n in range(3)]
    for window in (None, 2):
        found = DenseAttend(*rows, dtype=torch.bfloat16)(0, *inputs, Weighing(0.2, window))
        plain = attend_plain(*inputs, Weighing(0.2, window), mask=document_mask(*rows, window=window))
        assert distance(found, plain) < 0.01
