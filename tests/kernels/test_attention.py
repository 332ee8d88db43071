import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import random_documents
from torch import Tensor

from rhapsode.kernels import attention
from rhapsode.kernels.attention import DenseAttend, Weighing, attend_blocked, attend_plain, document_mask

WHOLE = Weighing(scale=0.4)
windows = st.none() | st.integers(1, 50)


def heads(
    B: int, T: int, H: int, K: int, C: int, *, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(B * 1000 + T)
    q, k, v = (torch.randn(B, T, n, C, generator=random, dtype=torch.float64).to(dtype) for n in (H, K, K))
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def bias_of(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, float("-inf"))[:, 0]


def gradients(out: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).to(out.dtype).view(out.shape)
    return torch.autograd.grad((out * weights).sum(), inputs)


@settings(deadline=None, max_examples=40)
@given(
    B=st.integers(1, 3),
    T=st.integers(1, 40),
    K=st.integers(1, 3),
    G=st.integers(1, 3),
    C=st.integers(1, 9),
    block=st.integers(1, 45),
    window=windows,
    scale=st.sampled_from([0.1, 1.0]),
    seed=st.integers(0, 999),
)
def test_the_blocked_operator_is_the_plain_one(
    B: int, T: int, K: int, G: int, C: int, block: int, window: int | None, scale: float, seed: int
) -> None:
    q, k, v = heads(B, T, K * G, K, C)
    weighing = Weighing(scale, window)
    mask = document_mask(random_documents((B, T), seed=seed), window=window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "QUERY_BLOCK", block)
        fast = attend_blocked(q, k, v, weighing, bias=bias_of(mask, torch.float64))
        fast_grads = gradients(fast, (q, k, v))
    plain = attend_plain(q, k, v, weighing, mask=mask)
    torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(fast_grads, gradients(plain, (q, k, v)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("window", [None, 1, 100, 128, 150, 299, 300, 301])
@pytest.mark.parametrize("T", [127, 128, 129, 300])
def test_rows_longer_than_a_block_as_shipped(T: int, window: int | None) -> None:
    q, k, v = heads(2, T, 4, 2, 8)
    documents = torch.ones(2, T, dtype=torch.long)
    documents[1] = random_documents((1, T), seed=T)
    weighing = Weighing(0.3, window)
    fast = DenseAttend(documents, dtype=torch.float64)(0, q, k, v, weighing)
    plain = attend_plain(q, k, v, weighing, mask=document_mask(documents, window=window))
    torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(fast, (q, k, v)), gradients(plain, (q, k, v)), rtol=1e-10, atol=1e-12)


@given(T=st.integers(1, 30), window=windows, softcap=st.none() | st.sampled_from([0.5, 3.0]), seed=st.integers(0, 999))
def test_attention_is_the_formula(T: int, window: int | None, softcap: float | None, seed: int) -> None:
    """Each query by itself: its window of its own document, products scaled, then capped."""
    q, k, v = (x.detach() for x in heads(1, T, 4, 2, 5))
    documents = random_documents((1, T), seed=seed)
    weighing = Weighing(0.7, window, softcap)
    found = DenseAttend(documents, dtype=torch.float64)(3, q, k, v, weighing)
    for place in range(T):
        first = 0 if window is None else max(0, place - window + 1)
        seen = [other for other in range(first, place + 1) if documents[0, other] == documents[0, place]]
        for head in range(4):
            products = k[0, seen, head // 2] @ q[0, place, head] * 0.7
            products = products if softcap is None else softcap * (products / softcap).tanh()
            torch.testing.assert_close(found[0, place, head], products.softmax(0) @ v[0, seen, head // 2])


def test_layers_with_windows_and_without_share_one_batch() -> None:
    q, k, v = heads(2, 40, 4, 2, 8)
    documents = random_documents((2, 40), seed=5)
    attend = DenseAttend(documents, dtype=torch.float64)
    for window in (7, None, 3, 7, 40, None):
        for softcap in (None, 2.0):
            weighing = Weighing(0.4, window, softcap)
            plain = attend_plain(q, k, v, weighing, mask=document_mask(documents, window=window))
            found = attend(0, q, k, v, weighing)
            torch.testing.assert_close(found, plain, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(gradients(found, (q, k, v)), gradients(plain, (q, k, v)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("window", [None, 2])
def test_gradients_are_those_of_finite_differences(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "QUERY_BLOCK", 3)
    q, k, v = heads(1, 5, 4, 2, 3)
    weighing = Weighing(0.4, window)
    bias = bias_of(document_mask(torch.tensor([[1, 1, 1, 2, 2]]), window=window), torch.float64)
    assert torch.autograd.gradcheck(lambda *qkv: attend_blocked(*qkv, weighing, bias=bias), (q, k, v))


def test_the_mask_lets_a_token_see_its_own_document_up_to_itself() -> None:
    mask = document_mask(torch.tensor([[1, 1, 2, 2, 2, 0]]))[0, 0]
    seen = [[j for j in range(6) if mask[i, j]] for i in range(6)]
    assert seen == [[0], [0, 1], [2], [2, 3], [2, 3, 4], [5]]


def test_the_mask_of_a_window_lets_a_token_see_so_many_and_itself_among_them() -> None:
    mask = document_mask(torch.tensor([[1, 1, 1, 1, 2]]), window=2)[0, 0]
    assert [[j for j in range(5) if mask[i, j]] for i in range(5)] == [[0], [0, 1], [1, 2], [2, 3], [4]]


def test_padding_gives_finite_values_and_gradients() -> None:
    q, k, v = heads(2, 9, 2, 1, 4)
    documents = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0, 0], [0] * 9])
    out = DenseAttend(documents, dtype=torch.float64)(0, q, k, v, WHOLE)
    assert all(t.isfinite().all() for t in (out, *gradients(out, (q, k, v))))


def test_bfloat16_is_close_to_float32() -> None:
    documents = random_documents((2, 200), seed=3)
    narrow = heads(2, 200, 4, 2, 32, dtype=torch.bfloat16)
    wide = tuple(x.detach().float().requires_grad_() for x in narrow)
    out_narrow = DenseAttend(documents, dtype=torch.bfloat16)(0, *narrow, WHOLE)
    out_wide = DenseAttend(documents, dtype=torch.float32)(0, *wide, WHOLE)
    pairs = zip((out_narrow, *gradients(out_narrow, narrow)), (out_wide, *gradients(out_wide, wide)), strict=True)
    for got, expected in pairs:
        assert torch.linalg.vector_norm(got.float() - expected) < 0.01 * torch.linalg.vector_norm(expected)


def test_one_document_does_not_touch_another_even_in_the_last_bit() -> None:
    q, k, v = (x.detach() for x in heads(1, 150, 4, 2, 8, dtype=torch.float32))
    attend = DenseAttend(torch.tensor([[1] * 70 + [2] * 80]), dtype=torch.float32)
    before = attend(0, q, k, v, WHOLE)
    for x in (q, k, v):
        x[:, :70] = 100 * torch.randn(x[:, :70].shape)
    after = attend(0, q, k, v, WHOLE)
    assert torch.equal(before[:, 70:], after[:, 70:])
    assert not torch.equal(before[:, :70], after[:, :70])
