"""Which rows a step trains on, and the next ones ready before they are asked for.

There is no state: the step's number gives its rows, so resuming is exact. While a step is computed a thread lays out
the rows of the next, so that neither a slow disk nor the laying out is waited for; what it finds wrong is raised when
those rows are asked for.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from rhapsode.corpus.order import permuted
from rhapsode.corpus.packing import Documents, Packing, batch
from rhapsode.train.objective import Batch, to_batch


class Loader:
    """An endless stream of packed rows, permuted anew in every epoch."""

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

    def rows_of(self, step: int) -> list[int]:
        total = self._packing.num_rows
        places = range(step * self._rows, (step + 1) * self._rows)
        return [permuted(i % total, length=total, seed=self._seed, epoch=i // total) for i in places]

    def __call__(self, step: int) -> Batch:
        """The rows of a step on the device; those of the one after it are begun."""
        found = self._next[1].result() if self._next is not None and self._next[0] == step else self._laid_out(step)
        self._next = step + 1, self._thread.submit(self._laid_out, step + 1)
        return Batch(*(tensor.to(self._device, non_blocking=True) for tensor in found))

    def _laid_out(self, step: int) -> Batch:
        rows = batch(self._split, self._packing, self.rows_of(step)[self._share], pad=self._pad, begin=self._begin)
        found = to_batch(rows, device=torch.device("cpu"))
        return Batch(*(tensor.pin_memory() for tensor in found)) if self._device.type == "cuda" else found
