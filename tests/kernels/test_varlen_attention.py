"""Attention over ranges of tokens is attention within documents, and is used only where it has been seen to be."""

import pytest
import torch
import torch.nn.functional as F
from tests.conftest import random_documents
from torch import Tensor

from rhapsode.kernels import varlen_attention
from rhapsode.kernels.attention import Weighing, attend_plain, document_mask
from rhapsode.kernels.varlen_attention import ALIKE, Kind, attend_ranges, bounds, distance_from_plain

KIND = Kind(torch.device("cpu"), torch.float32, 4, 2, 32)


def one_by_one(q: Tensor, k: Tensor, v: Tensor, at: Tensor, longest: int, scale: float, window: int | None) -> Tensor:
    """What the GPU's operator does: each range through torch's attention."""
    out = []
    for start, stop in zip(at[:-1].tolist(), at[1:].tolist(), strict=True):
        assert stop - start <= longest
        if start < stop:
            qs, ks, vs = (x[start:stop].transpose(0, 1) for x in (q, k, v))
            seen = torch.ones(stop - start, stop - start, dtype=torch.bool).tril_()
            seen = seen if window is None else seen.triu_(1 - window)
            found = F.scaled_dot_product_attention(qs, ks, vs, attn_mask=seen, scale=scale, enable_gqa=True)
            out.append(found.transpose(0, 1))
    return torch.cat(out)


def test_ranges_are_the_documents_of_the_rows() -> None:
    documents = torch.tensor([[1, 1, 2, 0], [1, 1, 1, 1]])
    found = bounds(documents)
    assert found[:5].tolist() == [0, 2, 3, 4, 8]
    assert set(found[5:].tolist()) == {8}


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("window", [None, 7])
def test_attention_in_ranges_is_attention_under_the_mask(kv_heads: int, window: int | None) -> None:
    documents = random_documents((3, 40), seed=1)
    random = torch.Generator().manual_seed(0)
    q = torch.randn(3, 40, 4, 8, generator=random)
    k, v = (torch.randn(3, 40, kv_heads, 8, generator=random) for _ in range(2))
    expected = attend_plain(q, k, v, Weighing(0.3), mask=document_mask(documents, window=window))
    found = attend_ranges(q, k, v, 0.3, at=bounds(documents), window=window, varlen=one_by_one)
    torch.testing.assert_close(found, expected)


def test_an_operator_that_is_wrong_in_values_or_gradients_is_seen() -> None:
    def without_window(q: Tensor, k: Tensor, v: Tensor, at: Tensor, n: int, scale: float, window: int | None) -> Tensor:
        return one_by_one(q, k, v, at, n, scale, None)

    def without_gradient(
        q: Tensor, k: Tensor, v: Tensor, at: Tensor, n: int, scale: float, window: int | None
    ) -> Tensor:
        return one_by_one(q, k.detach() + 0 * k, v, at, n, scale, window)

    assert distance_from_plain(KIND, varlen=one_by_one) < 1e-5
    assert distance_from_plain(KIND, varlen=without_window) > ALIKE
    assert distance_from_plain(KIND, varlen=without_gradient) > ALIKE


def test_where_it_does_not_work_that_is_said_and_it_is_not_used() -> None:
    with pytest.warns(UserWarning, match="flash attention does not work here.*through a mask"):
        assert not varlen_attention._is_right(Kind(torch.device("cpu"), torch.bfloat16, 4, 2, 32))
