"""Objectives: what a batch is worth. The loop is the same for all of them."""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.cross_entropy import IGNORE, LossSum, chunked_cross_entropy
from rhapsode.model.decoder import Decoder


class Batch(NamedTuple):
    """Packed rows, each [B,T] int64: ids, the ids to predict (IGNORE where none), positions, document numbers."""

    ids: Tensor
    targets: Tensor
    positions: Tensor
    documents: Tensor

    @property
    def num_targets(self) -> int:
        return int((self.targets != IGNORE).sum())

    def split(self, rows: int) -> list["Batch"]:
        """Micro-batches of at most `rows` rows."""
        return [Batch(*parts) for parts in zip(*(t.split(rows) for t in self), strict=True)]


def to_batch(rows: tuple[np.ndarray, ...], *, device: torch.device) -> Batch:
    return Batch(*(torch.from_numpy(array).to(device) for array in rows))


class Objective(Protocol):
    """A loss as a sum over its valid tokens, and their number; a function, whose name every checkpoint carries."""

    __name__: str

    def __call__(self, model: Decoder, batch: Batch) -> LossSum: ...


def hidden_states(model: Decoder, batch: Batch) -> Tensor:
    """What the projection to the vocabulary gets, [B,T,D]; attention stays within documents."""
    attend = DenseAttend(batch.documents, dtype=model.embedding.weight.dtype)
    hidden: Tensor = model(batch.ids, batch.positions, attend=attend)
    return hidden if model.spec.logit_scale == 1 else hidden * model.spec.logit_scale


def next_token(model: Decoder, batch: Batch) -> LossSum:
    """Every token is predicted from those before it in its document."""
    hidden = hidden_states(model, batch)
    return chunked_cross_entropy(hidden, model.head.weight, batch.targets, softcap=model.spec.logit_softcap)
