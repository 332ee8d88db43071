"""One training step, free of input and output.

The model computes in its own type (bfloat16); `Masters` holds what is really trained, in float32. The gradient of a
step is the sum over all its micro-batches divided by all its valid tokens, so any split into micro-batches gives the
same one. The weights move only if the gradient is finite.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from rhapsode.model.decoder import Decoder
from rhapsode.model.parameters import stacked_rows
from rhapsode.model.spec import ModelSpec
from rhapsode.train.objective import Batch, Objective
from rhapsode.train.optimizer import Optimizer, Weight


class StepResult(NamedTuple):
    """`loss` in nats a token; `grad_norm` before clipping; `moved` is False when the gradient was not finite."""

    loss: float
    tokens: int
    grad_norm: float
    moved: bool


class Masters:
    """The trained weights in float32 (float64 for a float64 model) and the gradient of the current step."""

    def __init__(self, model: Decoder) -> None:
        self._params = dict(model.named_parameters())
        wide = torch.promote_types(next(model.parameters()).dtype, torch.float32)
        self.weights = [
            Weight(name, p.detach().to(wide, copy=True), matrix_parts(name, p.shape, model.spec))
            for name, p in self._params.items()
        ]
        self.grads = [torch.zeros_like(w.value) for w in self.weights]

    def collect(self) -> None:
        """Add the model's gradients to the step's, and clear them."""
        for param, grad in zip(self._params.values(), self.grads, strict=True):
            if param.grad is not None:
                grad.add_(param.grad)
                param.grad = None

    def clear(self) -> None:
        torch._foreach_zero_(self.grads)

    @torch.no_grad()
    def publish(self) -> None:
        """Round the trained weights into the model that computes."""
        for param, weight in zip(self._params.values(), self.weights, strict=True):
            param.copy_(weight.value)


def matrix_parts(name: str, shape: Sequence[int], spec: ModelSpec) -> tuple[int, ...] | None:
    """The heights of the matrices in a parameter of the blocks; None for one that is no matrix, or lies elsewhere."""
    return stacked_rows(name, spec) if len(shape) == 2 and name.startswith("layers.") else None


def train_step(
    model: Decoder,
    micro_batches: Sequence[Batch],
    *,
    objective: Objective,
    masters: Masters,
    optimizer: Optimizer,
    scale: float,
    clip: float,
    between: Callable[[], None] = lambda: None,
) -> StepResult:
    """Compute the gradient of all micro-batches together and move the weights.

    Args:
        scale: the schedule's share of the peak learning rate.
        clip: the largest norm of the mean gradient.
        between: called after each micro-batch, for a display that wants to stay alive.
    """
    loss, tokens = gradient(model, micro_batches, objective=objective, masters=masters, between=between)
    torch._foreach_div_(masters.grads, tokens)
    grad_norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(masters.grads))))
    moved = math.isfinite(grad_norm) and math.isfinite(loss)
    if moved:
        if grad_norm > clip:
            torch._foreach_mul_(masters.grads, clip / grad_norm)
        optimizer.step(masters.grads, scale=scale)
        masters.publish()
    return StepResult(loss / tokens, tokens, grad_norm, moved)


def gradient(
    model: Decoder,
    micro_batches: Sequence[Batch],
    *,
    objective: Objective,
    masters: Masters,
    between: Callable[[], None] = lambda: None,
) -> tuple[float, int]:
    """Sum the gradients of all micro-batches into `masters.grads`; gives the loss sum in nats and the token count."""
    masters.clear()
    total, tokens = 0.0, 0
    for batch in micro_batches:
        loss = objective(model, batch)
        loss.total.backward()
        masters.collect()
        total, tokens = total + float(loss.total.detach()), tokens + loss.tokens
        between()
    assert tokens > 0, "a step without a target"
    return total, tokens
