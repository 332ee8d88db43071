"""What is really trained: the weights in float32, whatever the model computes in, and the gradient of a step."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rhapsode.kernels.adamw import accumulate
from rhapsode.model.decoder import Decoder
from rhapsode.model.parameters import shapes, stacked_rows
from rhapsode.model.spec import ModelSpec
from rhapsode.train.optimizer import Weight
from rhapsode.train.ranks.ranks import ALONE, Ranks

BLOCK = 1 << 20
"""Numbers that are widened at once: few enough to need no memory worth speaking of."""


class Rows(NamedTuple):
    """Which part of a parameter this process trains: from row `first` of `shape`, as many as there are."""

    first: int
    shape: tuple[int, ...]


class Masters(Protocol):
    """Trained tensors and their gradients, whole parameters or rows of them.

    Attributes:
        rows: by name, where what is trained here lies in the whole parameter.
    """

    weights: list[Weight]
    grads: list[Tensor]
    rows: dict[str, Rows]

    def clear(self) -> None:
        """Begin a step."""
        ...

    def collect(self) -> None:
        """Add the model's gradients to the step's, and clear them."""
        ...

    def reduce(self) -> None:
        """Make the gradient that of all ranks."""
        ...

    def norm(self) -> float:
        """The norm of the whole gradient."""
        ...

    def publish(self) -> None:
        """Let the model compute with the weights as they are now."""
        ...


class WholeMasters:
    """Every parameter that is trained, in float32 (float64 for a float64 model), beside the model that computes with
    rounded copies. What is frozen has no master, no gradient and no moment.
    """

    def __init__(self, model: Decoder, *, ranks: Ranks = ALONE) -> None:
        self._params, self._ranks = {name: p for name, p in model.named_parameters() if p.requires_grad}, ranks
        wide = torch.promote_types(next(model.parameters()).dtype, torch.float32)
        self.weights = [
            Weight(name, p.detach().to(wide, copy=True), matrix_parts(name, p.shape, model.spec))
            for name, p in self._params.items()
        ]
        self.grads = [torch.zeros_like(w.value) for w in self.weights]
        self.rows = {name: Rows(0, tuple(p.shape)) for name, p in self._params.items()}

    def clear(self) -> None:
        torch._foreach_zero_(self.grads)

    def collect(self) -> None:
        for param, grad in zip(self._params.values(), self.grads, strict=True):
            if param.grad is not None:
                accumulate(grad, param.grad)
                param.grad = None

    def reduce(self) -> None:
        self._ranks.add(self.grads)

    def norm(self) -> float:
        return math.sqrt(squares(self.grads))

    @torch.no_grad()
    def publish(self) -> None:
        for param, weight in zip(self._params.values(), self.weights, strict=True):
            param.copy_(weight.value)


def squares(tensors: Sequence[Tensor]) -> float:
    """The sum of all squares, in float64: however rows are divided among ranks, it comes out alike."""
    blocks = (block for tensor in tensors for block in tensor.view(-1).split(BLOCK))
    return float(torch.stack([torch.linalg.vector_norm(block.double()) for block in blocks]).square().sum())


def matrix_parts(name: str, shape: Sequence[int], spec: ModelSpec) -> tuple[int, ...] | None:
    """The heights of the matrices in a parameter of the blocks; None for one that is no matrix, or lies elsewhere.

    What an adapter learns is no parameter of the decoder alone, and each is one matrix.
    """
    if len(shape) != 2 or not name.startswith("layers."):
        return None
    return stacked_rows(name, spec) if name in shapes(spec) else (shape[0],)
