"""Which rows a step trains on. There is no state: the step's number gives its rows, so resuming is exact."""

import torch

from rhapsode.corpus.order import permuted
from rhapsode.corpus.packing import Packing, batch
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.train.objective import Batch, to_batch


class Loader:
    """An endless stream of packed rows, permuted anew in every epoch."""

    def __init__(
        self,
        split: TokenSplit,
        packing: Packing,
        *,
        rows: int,
        seed: int,
        pad: int,
        begin: int | None,
        device: torch.device,
    ) -> None:
        self._split, self._packing, self._rows = split, packing, rows
        self._seed, self._pad, self._begin, self._device = seed, pad, begin, device

    def rows_of(self, step: int) -> list[int]:
        total = self._packing.num_rows
        places = range(step * self._rows, (step + 1) * self._rows)
        return [permuted(i % total, length=total, seed=self._seed, epoch=i // total) for i in places]

    def __call__(self, step: int) -> Batch:
        rows = batch(self._split, self._packing, self.rows_of(step), pad=self._pad, begin=self._begin)
        return to_batch(rows, device=self._device)
