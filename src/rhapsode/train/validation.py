"""A quick look at held-out documents during training: bits per byte over a fixed set of packed rows.

Rows are cut at the model's context and every document starts without any, so this reads a little higher than the final
measurement, which slides a window; it is for the curve.
"""

import math

import numpy as np
import numpy.typing as npt
import torch

from rhapsode.corpus.packing import Packing, batch
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.objective import Objective, to_batch


class Validation:
    """The same rows every time, spread evenly over the held-out documents."""

    def __init__(
        self,
        split: TokenSplit,
        packing: Packing,
        *,
        tokenizer: Tokenizer,
        max_tokens: int,
        rows: int,
        begin: int | None,
    ) -> None:
        wanted = min(packing.num_rows, max(1, max_tokens // packing.context))
        self._rows = [int(i) for i in np.linspace(0, packing.num_rows - 1, wanted).round()]
        self._split, self._packing, self._tokenizer, self._batch = split, packing, tokenizer, rows
        self._begin = begin

    @torch.no_grad()
    def __call__(self, model: Decoder, objective: Objective) -> float:
        """Bits per byte of text; the end token's bits count, its bytes are none."""
        nats, size = 0.0, 0
        device = model.embedding.weight.device
        for start in range(0, len(self._rows), self._batch):
            wanted = self._rows[start : start + self._batch]
            rows = batch(self._split, self._packing, wanted, pad=self._tokenizer.pad, begin=self._begin)
            nats += float(objective(model, to_batch(rows, device=device)).total)
            size += self._num_bytes(rows.targets[rows.targets != IGNORE])
        return nats / math.log(2) / size

    def _num_bytes(self, ids: npt.NDArray[np.int64]) -> int:
        """A large vocabulary has holes and is used in part, so only what occurs is looked up."""
        found = (column.tolist() for column in np.unique(ids, return_counts=True))
        return sum(len(self._tokenizer.token_bytes(token)) * count for token, count in zip(*found, strict=True))
