"""Some rows of the embedding trained, and all others frozen: what new tokens need beside an adapter.

The rows are copied into the one whole matrix, in place, whenever it is asked for, so that the kernels see an ordinary
matrix; on the way back its gradient is that of these rows. This is PEFT's `trainable_token_indices`, without the copy
of the whole matrix that PEFT makes each time.

Shapes: V tokens, D width, R of them trained. matrix [V,D], rows [R,D], tokens [R].
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Whole(torch.autograd.Function):
    """The matrix, whose gradient goes to the rows that were copied into it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrix: Tensor, tokens: Tensor) -> Tensor:  # noqa: ARG004 - it has the gradient
        ctx.save_for_backward(tokens)
        return matrix.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0].index_select(0, ctx.saved_tensors[0]), None, None


class TrainedRows(nn.Module):
    """An embedding, or a projection to the vocabulary, some of whose rows are trained.

    Attributes:
        is_on: whether they take part; if not, the matrix is what it was at first.
    """

    is_on = True
    tokens: Tensor
    first: Tensor

    def __init__(self, matrix: Tensor, tokens: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("tokens", torch.tensor(tokens, device=matrix.device), persistent=False)
        self.matrix = nn.Parameter(matrix.detach(), requires_grad=False)
        self.register_buffer("first", matrix.detach()[self.tokens].clone(), persistent=False)
        self.rows = nn.Parameter(self.first.clone())

    @property
    def weight(self) -> Tensor:
        """[V,D], with a gradient for the rows alone."""
        if not self.is_on:  # a copy: the whole matrix may be waiting for its way back
            return self.matrix.index_copy(0, self.tokens, self.first)
        # through .data, which counts as no change: until the optimizer moves the rows it writes what is there already
        self.matrix.data.index_copy_(0, self.tokens, self.rows.data)
        whole: Tensor = _Whole.apply(self.rows, self.matrix, self.tokens)  # type: ignore[no-untyped-call]
        return whole


class TrainedEmbedding(TrainedRows):
    """In the place of an embedding."""

    def forward(self, ids: Tensor) -> Tensor:
        """[...] -> [...,D]; no gradient of the whole matrix is made for the few rows that have one."""
        places = torch.full((len(self.matrix),), -1, device=ids.device)
        places[self.tokens] = torch.arange(len(self.tokens), device=ids.device)
        place = places[ids]
        own = F.embedding(place.clamp(min=0), self.rows if self.is_on else self.first)
        return torch.where((place >= 0)[..., None], own, F.embedding(ids, self.matrix))


class TiedHead(nn.Module):
    """In the place of a projection that is the embedding."""

    def __init__(self, embedding: TrainedRows) -> None:
        super().__init__()
        self._embedding = (embedding,)  # no module of its own: its rows have one name

    @property
    def weight(self) -> Tensor:
        return self._embedding[0].weight
