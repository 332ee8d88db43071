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

from rhapsode.engine.pages import PageId
from rhapsode.kernels.attention import Weighing, attend_masked
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

    def slots(self, span: Span, *, first: int = 0) -> list[int]:
        """Where the tokens of `span` from number `first` on lie, counted in slots from the start of the cache."""
        size = self.page_size
        places = (divmod(number, size) for number in range(first, span.total))
        return [span.pages[page] * size + slot for page, slot in places]

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

    def __call__(self, layer: int, q_NHC: Tensor, k_NKC: Tensor, v_NKC: Tensor, weighing: Weighing) -> Tensor:
        out_NHC = torch.empty_like(q_NHC)
        for span, slots_L in zip(self._spans, self._slots, strict=True):
            rows = slice(span.first, span.first + span.length)
            self._cache.write(layer, slots_L[-span.length :], k_NKC[rows], v_NKC[rows])
            group = q_NHC.shape[1] // k_NKC.shape[1]
            k_LHC = self._cache.keys[layer].flatten(0, 1)[slots_L].repeat_interleave(group, 1)
            v_LHC = self._cache.values[layer].flatten(0, 1)[slots_L].repeat_interleave(group, 1)
            scores = torch.einsum("nhc,lhc->hnl", q_NHC[rows], k_LHC) * weighing.scale
            if weighing.softcap is not None:
                scores = torch.tanh(scores / weighing.softcap) * weighing.softcap
            own_N = torch.arange(span.total - span.length, span.total, device=q_NHC.device)
            back_NL = own_N[:, None] - torch.arange(span.total, device=q_NHC.device)
            unseen_NL = (back_NL < 0) | (back_NL >= (weighing.window or span.total))
            scores = scores.masked_fill(unseen_NL, float("-inf"))
            out_NHC[rows] = torch.einsum("hnl,lhc->nhc", scores.softmax(-1), v_LHC)
        return out_NHC


class _Writers(NamedTuple):
    """Requests with one new token each, as seen through one window.

    Attributes:
        rows: [R] their rows in the batch.
        table: their page lists one after another, all of the same number of pages.
        mask: [R,1,1,L] which tokens of those pages they see; None when it is all.
    """

    rows: Tensor
    table: Tensor
    num_requests: int
    mask: Tensor | None


class _Reader(NamedTuple):
    """A request with several new tokens, as seen through one window.

    Attributes:
        rows: its rows in the batch.
        slots: [L] where the tokens lie that it may see.
        mask: [N,L] which of them each new token may see; None when all are new and none is out of the window.
    """

    rows: slice
    slots: Tensor
    mask: Tensor | None


class _View(NamedTuple):
    """What all requests of a step see through one window."""

    writers: list[_Writers]
    readers: list[_Reader]


class PagedAttend:
    """The fast twin of `PlainAttend`. One instance a step, shared by all layers.

    A window is a different view of the same pages, made when the first layer with it asks: of a long request only the
    pages that its window touches are read.
    """

    def __init__(self, cache: Cache, spans: Sequence[Span]) -> None:
        self._cache = cache
        self._device = cache.keys[0].device
        self._writing = [span for span in spans if span.length == 1]
        self._reading = [span for span in spans if span.length > 1]
        new = [slot for span in spans for slot in cache.slots(span, first=span.total - span.length)]
        self._new_N = self._tensor(new)
        self._views: dict[int | None, _View] = {}

    def __call__(self, layer: int, q_NHC: Tensor, k_NKC: Tensor, v_NKC: Tensor, weighing: Weighing) -> Tensor:
        self._cache.write(layer, self._new_N, k_NKC, v_NKC)
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        out_NHC = torch.empty_like(q_NHC)
        view = self._through(weighing.window)
        for writers in view.writers:
            out_NHC[writers.rows] = _write(writers, q_NHC[writers.rows], keys, values, weighing)
        for reader in view.readers:
            out_NHC[reader.rows] = _read(reader, q_NHC[reader.rows], keys, values, weighing)
        return out_NHC

    def _through(self, window: int | None) -> _View:
        if window not in self._views:
            groups = defaultdict[int, list[Span]](list)
            for span in self._writing:
                groups[min(span.total, window or span.total).bit_length()].append(span)
            writers = [self._writers(group, window) for group in groups.values()]
            self._views[window] = _View(writers, [self._reader(span, window) for span in self._reading])
        return self._views[window]

    def _writers(self, spans: Sequence[Span], window: int | None) -> _Writers:
        """Short page lists are filled up with the request's own first page, never with another's."""
        size = self._cache.page_size
        first_pages = [_first_seen(span, window) // size for span in spans]
        lists = [span.pages[first : -(-span.total // size)] for span, first in zip(spans, first_pages, strict=True)]
        num_pages = max(map(len, lists))
        table = [page for pages in lists for page in (*pages, *[pages[0]] * (num_pages - len(pages)))]
        starts_R, stops_R = (
            self._tensor([number - first * size for number, first in zip(numbers, first_pages, strict=True)])
            for numbers in ([_first_seen(span, window) for span in spans], [span.total for span in spans])
        )
        place_L = torch.arange(num_pages * size, device=self._device)
        mask_RL = (place_L >= starts_R[:, None]) & (place_L < stops_R[:, None])
        mask = None if bool(mask_RL.all()) else mask_RL[:, None, None]
        return _Writers(self._tensor([span.first for span in spans]), self._tensor(table), len(spans), mask)

    def _reader(self, span: Span, window: int | None) -> _Reader:
        rows = slice(span.first, span.first + span.length)
        old = span.total - span.length
        first = max(0, old + 1 - (window or span.total))
        slots_L = self._tensor(self._cache.slots(span, first=first))
        if first == old and span.length <= (window or span.length):
            return _Reader(rows, slots_L, None)
        mask_NL = torch.ones(span.length, len(slots_L), dtype=torch.bool, device=self._device).tril_(old - first)
        if window is not None:
            mask_NL.triu_(old - first + 1 - window)
        return _Reader(rows, slots_L, mask_NL)

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)


def _first_seen(span: Span, window: int | None) -> int:
    """The first token that the last one of `span` sees."""
    return max(0, span.total - (window or span.total))


def _write(writers: _Writers, q_RHC: Tensor, keys: Tensor, values: Tensor, weighing: Weighing) -> Tensor:
    """The query heads of one key head stand in for positions, so keys are not repeated."""
    R, K, C = writers.num_requests, keys.shape[2], keys.shape[3]
    q_RKGC = q_RHC.view(R, K, -1, C)
    k_RKLC, v_RKLC = (x.index_select(0, writers.table).view(R, -1, K, C).transpose(1, 2) for x in (keys, values))
    return attend_masked(q_RKGC, k_RKLC, v_RKLC, weighing, mask=writers.mask).reshape(R, -1, C)


def _read(reader: _Reader, q_NHC: Tensor, keys: Tensor, values: Tensor, weighing: Weighing) -> Tensor:
    """Key heads stand in for a batch, and their query heads share the keys without a copy."""
    N, H, C = q_NHC.shape
    K = keys.shape[2]
    q_KGNC = q_NHC.view(N, K, H // K, C).permute(1, 2, 0, 3)
    k_KGLC, v_KGLC = (
        x.flatten(0, 1)[reader.slots].transpose(0, 1)[:, None].expand(-1, H // K, -1, -1) for x in (keys, values)
    )
    out_KGNC = attend_masked(q_KGNC, k_KGLC, v_KGLC, weighing, mask=reader.mask, is_causal=reader.mask is None)
    return out_KGNC.permute(2, 0, 1, 3).reshape(N, H, C)
