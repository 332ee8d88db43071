"""Objectives: what a batch is worth. The loop is the same for all of them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.cross_entropy import IGNORE, chunked_cross_entropy
from rhapsode.model.decoder import Decoder, Lower
from rhapsode.train.objectives.loss import Loss


class Batch(NamedTuple):
    """Packed rows, each [B,T] int64: ids, the ids to predict (IGNORE where none), positions, document numbers.

    `branches` numbers the sequences of an example (see `corpus.packing`), and is 0 in text.

    Attributes:
        advantages: of answers that were judged, for each target how much better its answer is than the others to the
            same prompt, float64 [B,T]; 0 where there is no target.
    """

    ids: Tensor
    targets: Tensor
    positions: Tensor
    documents: Tensor
    branches: Tensor
    advantages: Tensor | None = None

    @property
    def num_targets(self) -> int:
        return int((self.targets != IGNORE).sum())

    def split(self, rows: int) -> list["Batch"]:
        """Micro-batches of at most `rows` rows."""
        return [self._rows(slice(start, start + rows)) for start in range(0, len(self.ids), rows)]

    def _rows(self, wanted: slice) -> "Batch":
        return self.map(lambda tensor: tensor[wanted])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The same done to every tensor that is there."""
        return Batch._make(None if tensor is None else change(tensor) for tensor in self)


def to_batch(rows: tuple[np.ndarray, ...], *, device: torch.device) -> Batch:
    return Batch(*(torch.from_numpy(array).to(device) for array in rows))


class Objective(Protocol):
    """A loss as a sum over its terms, and their number; its name is carried by every checkpoint.

    Attributes:
        measures: the names of what it measures beside the loss, as sums over the same terms.
    """

    __name__: str
    measures: tuple[str, ...]

    def begin(self, model: Decoder, step: Sequence[Batch]) -> None:
        """Find what belongs to a step as a whole, given all of its micro-batches; mostly that is nothing."""

    def __call__(self, model: Decoder, batch: Batch) -> Loss: ...


def hidden_states(model: Decoder, batch: Batch, *, lower: Lower | None = None) -> Tensor:
    """What the projection to the vocabulary gets, [B,T,D]; attention stays within documents, or a tree's sequences.

    Args:
        lower: what blocks in which nothing is trained made of the batch already.
    """
    attend = DenseAttend(batch.documents, batch.branches, dtype=model.embedding.weight.dtype)
    hidden: Tensor = model(batch.ids, batch.positions, attend=attend, lower=lower)
    return hidden if model.spec.logit_scale == 1 else hidden * model.spec.logit_scale


class NextToken:
    """Every learned token is predicted from those before it in its document; of examples, the answers are learned."""

    measures: tuple[str, ...] = ()

    def __init__(self, name: str = "next_token") -> None:
        self.__name__ = name

    def begin(self, model: Decoder, step: Sequence[Batch]) -> None:
        pass

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        hidden = hidden_states(model, batch)
        found = chunked_cross_entropy(hidden, model.head.weight, batch.targets, softcap=model.spec.logit_softcap)
        return Loss(found.total, found.tokens)


next_token: Objective = NextToken()
