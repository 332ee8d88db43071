"""Keys and values in pages, and attention over them for the tokens of many requests at once.

The batch is ragged: the new tokens of all requests lie one after another, and a `Span` says whose they are. Requests
with one new token (writing) are attended together, grouped by length so that padding at most doubles the work; those
with more (reading a prompt) one at a time. Every number in the pages is finite, which is why padding may be read
and masked: a request that produces something else is failed and its pages are wiped before anyone looks.

Shapes: N new tokens of all requests, P pages, S slots a page, K key/value heads, H query heads, G of them for each key
head, C head size, R requests, L tokens of the longest of them.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rhapsode.engine.pages import PageId
from rhapsode.model.spec import ModelSpec


class Span(NamedTuple):
    """One request in a batch.

    Its new tokens are the rows `first` .. `first + length` of the batch, and they are the last `length` of the
    `total` tokens that lie in `pages` once they are written.
    """

    first: int
    length: int
    total: int
    pages: Sequence[PageId]


class Cache:
    """One tensor of keys and one of values a layer, each [P,S,K,C]."""

    def __init__(
        self, spec: ModelSpec, *, num_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (num_pages, page_size, spec.kv_heads, spec.head_dim)
        self.page_size = page_size
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in spec.layers]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in spec.layers]

    @staticmethod
    def page_bytes(spec: ModelSpec, *, page_size: int, dtype: torch.dtype) -> int:
        return 2 * len(spec.layers) * page_size * spec.kv_heads * spec.head_dim * dtype.itemsize

    def slots(self, span: Span) -> list[int]:
        """Where the tokens of `span` lie, its new ones last, counted in slots from the start of the cache."""
        size = self.page_size
        return [page * size + slot for page in span.pages for slot in range(size)][: span.total]

    def write(self, layer: int, slots_N: Tensor, k_NKC: Tensor, v_NKC: Tensor) -> None:
        self.keys[layer].flatten(0, 1).index_copy_(0, slots_N, k_NKC)
        self.values[layer].flatten(0, 1).index_copy_(0, slots_N, v_NKC)

    def wipe(self, pages: Sequence[PageId]) -> None:
        """Make every number in these pages finite again."""
        index = torch.tensor(pages, device=self.keys[0].device, dtype=torch.long)
        for tensor in (*self.keys, *self.values):
            tensor.index_fill_(0, index, 0)


class PlainAttend:
    """The specification: each request by itself, each number where the formula has it."""

    def __init__(self, cache: Cache, spans: Sequence[Span]) -> None:
        self._cache = cache
        self._spans = spans
        device = cache.keys[0].device
        self._slots = [torch.tensor(cache.slots(span), device=device) for span in spans]

    def __call__(self, layer: int, q_NHC: Tensor, k_NKC: Tensor, v_NKC: Tensor) -> Tensor:
        out_NHC = torch.empty_like(q_NHC)
        for span, slots_L in zip(self._spans, self._slots, strict=True):
            rows = slice(span.first, span.first + span.length)
            self._cache.write(layer, slots_L[-span.length :], k_NKC[rows], v_NKC[rows])
            group = q_NHC.shape[1] // k_NKC.shape[1]
            k_LHC = self._cache.keys[layer].flatten(0, 1)[slots_L].repeat_interleave(group, 1)
            v_LHC = self._cache.values[layer].flatten(0, 1)[slots_L].repeat_interleave(group, 1)
            scores = torch.einsum("nhc,lhc->hnl", q_NHC[rows], k_LHC) * q_NHC.shape[-1] ** -0.5
            future = torch.ones(span.length, span.total, dtype=torch.bool, device=q_NHC.device)
            scores = scores.masked_fill(future.triu(span.total - span.length + 1), float("-inf"))
            out_NHC[rows] = torch.einsum("hnl,lhc->nhc", scores.softmax(-1), v_LHC)
        return out_NHC


class _Writers(NamedTuple):
    """Requests with one new token each.

    Attributes:
        rows: [R] their rows in the batch.
        table: their page lists one after another, filled up to the same number of pages.
        mask: [R,1,1,L] which tokens are theirs; None when all have the same number.
    """

    rows: Tensor
    table: Tensor
    num_requests: int
    longest: int
    mask: Tensor | None


class _Reader(NamedTuple):
    """A request with several new tokens.

    Attributes:
        rows: its rows in the batch.
        slots: [L] where all its tokens lie.
        mask: [N,L] which of them each new token may see; None when all its tokens are new.
    """

    rows: slice
    slots: Tensor
    mask: Tensor | None


class PagedAttend:
    """The fast twin of `PlainAttend`. One instance a step, shared by all layers."""

    def __init__(self, cache: Cache, spans: Sequence[Span]) -> None:
        self._cache = cache
        self._device = cache.keys[0].device
        new: list[int] = []
        groups = defaultdict[int, list[Span]](list)
        self._readers: list[_Reader] = []
        for span in spans:
            if span.length == 1:
                page, slot = divmod(span.total - 1, cache.page_size)
                new.append(span.pages[page] * cache.page_size + slot)
                groups[span.total.bit_length()].append(span)
            else:
                slots = cache.slots(span)
                new += slots[-span.length :]
                self._readers.append(self._reader(span, slots))
        self._new_N = self._tensor(new)
        self._writers = [self._writer_group(group) for group in groups.values()]

    def __call__(self, layer: int, q_NHC: Tensor, k_NKC: Tensor, v_NKC: Tensor) -> Tensor:
        self._cache.write(layer, self._new_N, k_NKC, v_NKC)
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        out_NHC = torch.empty_like(q_NHC)
        for writers in self._writers:
            out_NHC[writers.rows] = _write(writers, q_NHC[writers.rows], keys, values)
        for reader in self._readers:
            out_NHC[reader.rows] = _read(reader, q_NHC[reader.rows], keys, values)
        return out_NHC

    def _writer_group(self, spans: Sequence[Span]) -> _Writers:
        """Short page lists are filled up with the request's own first page, never with another's."""
        longest = max(span.total for span in spans)
        num_pages = -(-longest // self._cache.page_size)
        table = [page for span in spans for page in _filled(span, self._cache.page_size, num_pages)]
        totals_R = self._tensor([span.total for span in spans])
        even = all(span.total == longest for span in spans)
        mask_RL = None if even else torch.arange(longest, device=self._device) < totals_R[:, None]
        mask_R11L = None if mask_RL is None else mask_RL[:, None, None]
        return _Writers(self._tensor([s.first for s in spans]), self._tensor(table), len(spans), longest, mask_R11L)

    def _reader(self, span: Span, slots: list[int]) -> _Reader:
        rows = slice(span.first, span.first + span.length)
        if span.length == span.total:
            return _Reader(rows, self._tensor(slots), None)
        mask_NL = torch.ones(span.length, span.total, dtype=torch.bool, device=self._device)
        return _Reader(rows, self._tensor(slots), mask_NL.tril_(span.total - span.length))

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)


def _filled(span: Span, page_size: int, num_pages: int) -> list[PageId]:
    own = list(span.pages[: -(-span.total // page_size)])
    return own + [span.pages[0]] * (num_pages - len(own))


def _write(writers: _Writers, q_RHC: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The query heads of one key head stand in for positions, so keys are not repeated."""
    R, K, C = writers.num_requests, keys.shape[2], keys.shape[3]
    q_RKGC = q_RHC.view(R, K, -1, C)
    k_RKLC, v_RKLC = (
        x.index_select(0, writers.table).view(R, -1, K, C)[:, : writers.longest].transpose(1, 2) for x in (keys, values)
    )
    out_RKGC = scaled_dot_product_attention(q_RKGC, k_RKLC, v_RKLC, attn_mask=writers.mask)
    return out_RKGC.reshape(R, -1, C)


def _read(reader: _Reader, q_NHC: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Key heads stand in for a batch, and their query heads share the keys without a copy."""
    N, H, C = q_NHC.shape
    K = keys.shape[2]
    q_KGNC = q_NHC.view(N, K, H // K, C).permute(1, 2, 0, 3)
    k_KGLC, v_KGLC = (
        x.flatten(0, 1)[reader.slots].transpose(0, 1)[:, None].expand(-1, H // K, -1, -1) for x in (keys, values)
    )
    mask_NL = reader.mask
    out_KGNC = scaled_dot_product_attention(q_KGNC, k_KGLC, v_KGLC, attn_mask=mask_NL, is_causal=mask_NL is None)
    return out_KGNC.permute(2, 0, 1, 3).reshape(N, H, C)
