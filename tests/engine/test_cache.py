import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import make_model

from rhapsode.engine.cache import Cache, PagedAttend, PlainAttend, Span
from rhapsode.engine.pages import PageId
from rhapsode.kernels.attention import Weighing

PAGE_SIZE = 4


def make_cache(num_pages: int, *, seed: int) -> Cache:
    spec = make_model().spec
    cache = Cache(spec, num_pages=num_pages, page_size=PAGE_SIZE, dtype=torch.float32, device=torch.device("cpu"))
    random = torch.Generator().manual_seed(seed)
    for tensor in (*cache.keys, *cache.values):
        tensor.normal_(generator=random)
    return cache


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), min_size=1, max_size=7),
    windows=st.lists(st.none() | st.integers(1, 45), min_size=1, max_size=3),
    softcap=st.none() | st.sampled_from([0.5, 4.0]),
    seed=st.integers(0, 2**16),
)
def test_the_fast_attention_equals_the_plain_one(
    shapes: list[tuple[int, int]], windows: list[int | None], softcap: float | None, seed: int
) -> None:
    """shapes: (tokens already there, new tokens) of each request; windows: one for each layer asked in turn."""
    random = torch.Generator().manual_seed(seed)
    num_pages = [-(-(old + new) // PAGE_SIZE) for old, new in shapes]
    free = iter(torch.randperm(sum(num_pages), generator=random).tolist())
    spans, first = [], 0
    for (old, new), count in zip(shapes, num_pages, strict=True):
        spans.append(Span(first, new, old + new, [PageId(next(free)) for _ in range(count)]))
        first += new
    plain, fast = make_cache(sum(num_pages), seed=seed), make_cache(sum(num_pages), seed=seed)
    by_formula, by_page = PlainAttend(plain, spans), PagedAttend(fast, spans)
    for turn, window in enumerate(windows):
        q = torch.randn(first, 4, 8, generator=random)
        k, v = (torch.randn(first, 2, 8, generator=random) for _ in range(2))
        weighing = Weighing(0.5, window, softcap)
        expected = by_formula(turn % 2, q, k, v, weighing)
        torch.testing.assert_close(by_page(turn % 2, q, k, v, weighing), expected, atol=1e-5, rtol=1e-5)
    for left, right in zip(plain.keys + plain.values, fast.keys + fast.values, strict=True):
        assert torch.equal(left, right)


def test_what_is_not_finite_in_one_request_stays_out_of_the_others() -> None:
    cache = make_cache(4, seed=0)
    spans = [Span(0, 1, 2, [PageId(0)]), Span(1, 1, 3, [PageId(1)]), Span(2, 3, 7, [PageId(2), PageId(3)])]
    k = torch.ones(5, 2, 8)
    k[0] = float("nan")
    out = PagedAttend(cache, spans)(0, torch.ones(5, 4, 8), k, k, Weighing(0.3))
    assert out[0].isnan().all()
    assert out[1:].isfinite().all()
    cache.wipe([PageId(0)])
    assert all(tensor.isfinite().all() for tensor in (*cache.keys, *cache.values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_page_bytes_is_what_a_page_takes(dtype: torch.dtype) -> None:
    spec = make_model().spec
    cache = Cache(spec, num_pages=3, page_size=PAGE_SIZE, dtype=dtype, device=torch.device("cpu"))
    taken = sum(tensor.nbytes for tensor in (*cache.keys, *cache.values))
    assert taken == 3 * Cache.page_bytes(spec, page_size=PAGE_SIZE, dtype=dtype)
