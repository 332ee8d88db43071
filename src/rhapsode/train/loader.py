"""Which rows a step trains on, and the next ones ready before they are asked for.

There is no state: the step's number gives its rows, so resuming is exact. While a step is computed a thread lays out
the rows of the next, so that neither a slow disk nor the laying out is waited for; what it finds wrong is raised when
those rows are asked for.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import MappingProxyType
from typing import Protocol

import torch

from rhapsode.corpus.order import permuted
from rhapsode.corpus.packing import Documents, Packing, batch
from rhapsode.train.objective import Batch, to_batch


class Batches(Protocol):
    """Where the batch of a step comes from, given the step's place in the order of the data: the same every time, as
    long as the weights are.
    """

    @property
    def measures(self) -> Mapping[str, float]:
        """What was found out while the last batch was made, for the curves."""
        ...

    def rows_of(self, place: int, /) -> list[int]:
        """What the step is made of, by number: packed rows, or prompts."""
        ...

    def __call__(self, place: int, /) -> Batch:
        """The step's rows on the device; without one, there is nothing to learn from."""
        ...


def order(place: int, *, count: int, total: int, seed: int) -> list[int]:
    """Which of `total` things a step of `count` takes; each once in every epoch, permuted anew."""
    places = range(place * count, (place + 1) * count)
    return [permuted(i % total, length=total, seed=seed, epoch=i // total) for i in places]


class Loader:
    """An endless stream of packed rows, permuted anew in every epoch."""

    measures: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        split: Documents,
        packing: Packing,
        *,
        rows: int,
        seed: int,
        pad: int,
        begin: int | None,
        device: torch.device,
        share: slice = slice(None),
    ) -> None:
        """`share` are the rows of a step that are loaded here; others load the rest."""
        self._split, self._packing, self._rows = split, packing, rows
        self._seed, self._pad, self._begin, self._device = seed, pad, begin, device
        self._share = share
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._next: tuple[int, Future[Batch]] | None = None

    def rows_of(self, place: int) -> list[int]:
        return order(place, count=self._rows, total=self._packing.num_rows, seed=self._seed)

    def __call__(self, place: int) -> Batch:
        """The rows of a step on the device; those of the one after it are begun."""
        found = self._next[1].result() if self._next is not None and self._next[0] == place else self._laid_out(place)
        self._next = place + 1, self._thread.submit(self._laid_out, place + 1)
        return found.map(lambda tensor: tensor.to(self._device, non_blocking=True))

    def _laid_out(self, place: int) -> Batch:
        rows = batch(self._split, self._packing, self.rows_of(place)[self._share], pad=self._pad, begin=self._begin)
        found = to_batch(rows, device=torch.device("cpu"))
        return found.map(lambda tensor: tensor.pin_memory()) if self._device.type == "cuda" else found
