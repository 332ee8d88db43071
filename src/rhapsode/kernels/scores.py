"""From hidden states to the scores that a softmax sees, and from their gradient back, a chunk of tokens at a time.

The scores of a step (tokens x vocabulary) are its largest tensor. An operator whose loss is not a plain sum cannot know
the gradient in its forward pass: it keeps what the scores are made from, and makes each chunk's again in the backward
pass.

Shapes: N tokens, n of a chunk, D width, V vocabulary. hidden [N,D], weight [V,D], scores [n,V].
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

AT_ONCE = 1 << 25
"""Scores that exist at one time: 128 MiB of float32."""
ROUND = 32
"""Rows are a multiple of this where their number depends on the data."""


def round_up(hidden: Tensor) -> Tensor:
    """Hidden states [N,D] with rows of zeros behind them, so that few numbers of rows are ever met.

    oneDNN keeps a program for every shape that it has multiplied, in memory that it takes where some is free just then.
    With another number of rows in every step, such islands lie among the places of the largest tensors, and the heap
    grows by one of those after the other: Gemma 3 270M went from 2 to 12 GB in a hundred steps (docs/experiments.md).
    """
    missing = -len(hidden) % ROUND
    return F.pad(hidden, (0, 0, 0, missing)) if missing else hidden


class Projection(NamedTuple):
    """Hidden states [N,D], and how scores are made of them.

    Attributes:
        weight: [V,D], the vocabulary projection.
        softcap: products x become c tanh(x / c) (Gemma 2); None leaves them.
    """

    hidden: Tensor
    weight: Tensor
    softcap: float | None = None

    @property
    def wide(self) -> torch.dtype:
        """What is added up in: float32, or float64 for a float64 model."""
        return torch.promote_types(self.hidden.dtype, torch.float32)

    def chunks(self) -> Iterator[slice]:
        """Which rows are computed together."""
        rows = max(1, AT_ONCE // self.weight.shape[0])
        return (slice(start, start + rows) for start in range(0, self.hidden.shape[0], rows))

    def scores(self, rows: slice, *, temperature: float) -> Tensor:
        """[n,V] in the wide type."""
        products = F.linear(self.hidden[rows], self.weight).to(self.wide)
        if self.softcap is not None:
            products = torch.tanh(products / self.softcap) * self.softcap
        return products / temperature if temperature != 1 else products

    def slope_of_products(self, slope: Tensor, scores: Tensor, *, temperature: float) -> Tensor:
        """The gradient by the products, from that by the scores, which it takes the place of."""
        if temperature != 1:
            slope.div_(temperature)
        if self.softcap is not None:  # d cap tanh(x / cap) = 1 - tanh^2
            slope.addcmul_(slope, (scores * (temperature / self.softcap)).square_(), value=-1)
        return slope


class ProjectionGradients:
    """The gradients of a projection, whose chunks come one after another; what nobody asks for is never made."""

    def __init__(self, projection: Projection, wanted: Sequence[bool]) -> None:
        """`wanted`: whether the hidden states' is asked for, and the weight's."""
        hidden, weight, _ = self._projection = projection
        self._hidden = torch.empty_like(hidden) if wanted[0] else None
        self._weight = torch.zeros_like(weight, dtype=projection.wide) if wanted[1] else None

    def add(self, rows: slice, slope: Tensor) -> None:
        """`slope` [n,V]: the gradient by the products of these rows."""
        hidden, weight, _ = self._projection
        slope = slope.to(weight.dtype)
        if self._hidden is not None:
            self._hidden[rows] = slope @ weight
        if self._weight is not None:
            self._weight += slope.t() @ hidden[rows]

    def finished(self) -> tuple[Tensor | None, Tensor | None]:
        """By the hidden states and by the weight, in their own types."""
        weight = self._weight
        return self._hidden, None if weight is None else weight.to(self._projection.weight.dtype)
