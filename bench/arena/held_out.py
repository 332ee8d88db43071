"""One measure for all sides: bits per byte of the held-out documents, from the scores that a side's model gives.

A document is cut into rows of at most `context` tokens, each read alone; so no side sees more than any other. Every
token counts, the document's end too; the bytes are those of the text.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.corpus.tokens import Tokens

IGNORE = -100

Scores = Callable[[Tensor], Tensor]
"""ids [B,T] -> [B,T,V] in float32."""


class Row(NamedTuple):
    source: str
    ids: Tensor
    targets: Tensor


class HeldOut:
    """The same rows for everyone."""

    def __init__(self, tokens: Tokens, *, context: int, rows: int, device: torch.device) -> None:
        split = tokens.split("validation")
        self._rows: list[Row] = []
        self.bytes: dict[str, int] = {}
        for index in range(split.num_documents):
            source = split.document_source(index)
            self.bytes[source] = self.bytes.get(source, 0) + split.document_bytes(index)
            ids = torch.from_numpy(split.document(index).astype(np.int64))
            for start in range(0, len(ids) - 1, context):
                piece = ids[start : start + context + 1]
                self._rows.append(Row(source, piece[:-1], piece[1:]))
        self._rows.sort(key=lambda row: len(row.ids))
        self._at_once, self._device = rows, device

    def __call__(self, scores: Scores) -> dict[str, float]:
        """Bits per byte of each source, and of "all" together."""
        bits = dict.fromkeys(self.bytes, 0.0)
        for start in range(0, len(self._rows), self._at_once):
            rows = self._rows[start : start + self._at_once]
            ids = _padded([row.ids for row in rows], fill=0).to(self._device)
            targets = _padded([row.targets for row in rows], fill=IGNORE).to(self._device)
            found = scores(ids).transpose(1, 2)
            nats = F.cross_entropy(found, targets, ignore_index=IGNORE, reduction="none").sum(1, dtype=torch.float64)
            for row, value in zip(rows, nats.tolist(), strict=True):
                bits[row.source] += value / math.log(2)
        each = {source: bits[source] / size for source, size in self.bytes.items()}
        return {"all": sum(bits.values()) / sum(self.bytes.values()), **each}


def _padded(rows: list[Tensor], *, fill: int) -> Tensor:
    """Filled up behind, where a causal model does not look."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
