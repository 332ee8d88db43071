"""What is really trained: the weights in float32, whatever the model computes in, and the gradient of a step."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from rhapsode.kernels.adamw import accumulate
from rhapsode.kernels.squares import squares
from rhapsode.model.decoder import Decoder
from rhapsode.model.parameters import shapes, stacked_rows
from rhapsode.model.pieces import Place, everything
from rhapsode.model.spec import ModelSpec
from rhapsode.train.optimizer import Weight
from rhapsode.train.ranks.ranks import ALONE, Ranks


class Masters(Protocol):
    """Trained tensors and their gradients, whole parameters or pieces of them.

    Attributes:
        places: by name, where what is trained here lies in the whole parameter.
        needs_others: whether ranks must compute a gradient together, and not only add it up.
    """

    needs_others: bool
    weights: list[Weight]
    grads: list[Tensor]
    places: dict[str, Place]

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
    """Every trained parameter in float32 (float64 for a float64 model), beside the rounded ones that compute.

    What is frozen has no master, no gradient and no moment.
    """

    needs_others = False

    def __init__(self, model: Decoder, *, ranks: Ranks = ALONE) -> None:
        self._params, self._ranks = {name: p for name, p in model.named_parameters() if p.requires_grad}, ranks
        wide = torch.promote_types(next(model.parameters()).dtype, torch.float32)
        self.weights = [
            Weight(name, p.detach().to(wide, copy=True), height_of(name, p.shape, model.spec))
            for name, p in self._params.items()
        ]
        self.grads = [torch.zeros_like(w.value) for w in self.weights]
        is_first = ranks.rank == 0
        self.places = {n: everything(p.shape)._replace(is_first=is_first) for n, p in self._params.items()}

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


def height_of(name: str, shape: Sequence[int], spec: ModelSpec) -> int | None:
    """The rows of each of the matrices stacked in a parameter of the blocks; None for one that is none, or elsewhere.

    Every head's queries, keys and values are matrices of their own. In two minutes of 13.8M parameters that gives 0.035
    bits per byte less than whole ones (`bench/ablations.py`), and short matrices take less to make orthogonal. What an
    adapter learns is no parameter of the decoder, and each is one matrix.
    """
    if len(shape) != 2 or not name.startswith("layers."):
        return None
    if name not in shapes(spec):
        return shape[0]
    return spec.head_dim if "attention.qkv" in name else stacked_rows(name, spec)[0]
