"""One training step, free of input and output.

The model computes in its own type (bfloat16); `Masters` holds what is really trained, in float32. The gradient of a
step is the sum over all its micro-batches, on all ranks, divided by all their terms, which mostly are tokens: any split
into ranks and micro-batches gives the same one. The weights move only if the gradient is finite. Where memory runs out
on one rank, all of them give the step up together.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch

from rhapsode.model.decoder import Decoder
from rhapsode.train.masters import Masters
from rhapsode.train.memory import OutOfMemory, is_out_of_memory
from rhapsode.train.objective import Batch, Objective
from rhapsode.train.optimizer import Optimizer
from rhapsode.train.ranks.ranks import ALONE, Ranks


class StepResult(NamedTuple):
    """`loss` of a term; `grad_norm` before clipping; `moved` is False when the step was not accepted.

    Attributes:
        tokens: that were learned from; 0: there was nothing to learn, and nothing was judged.
        measures: what the objective measures beside its loss, of a term.
    """

    loss: float
    tokens: int
    grad_norm: float
    moved: bool
    measures: Mapping[str, float] = MappingProxyType({})


class Gradient(NamedTuple):
    """Of some micro-batches together: the loss as a sum over `terms`, the learned tokens, and sums of measures."""

    loss: float
    terms: int
    tokens: int
    measures: list[float]


def is_finite(loss: float, grad_norm: float) -> bool:
    return math.isfinite(loss) and math.isfinite(grad_norm)


def train_step(
    model: Decoder,
    micro_batches: Sequence[Batch],
    *,
    objective: Objective,
    masters: Masters,
    optimizer: Optimizer,
    scale: float,
    clip: float,
    accept: Callable[[float, float], bool] = is_finite,
    ranks: Ranks = ALONE,
    between: Callable[[], None] = lambda: None,
) -> StepResult:
    """Compute the gradient of all micro-batches together and move the weights.

    Args:
        scale: the schedule's share of the peak learning rate.
        clip: the largest norm of the mean gradient.
        accept: given the loss of a token and the norm before clipping, says whether the weights may move.
        ranks: the processes among which the step's rows are divided; `micro_batches` are those of this one.
        between: called after each micro-batch, for a display that wants to stay alive.

    Raises:
        OutOfMemory: on all ranks, as there was not enough on one; nothing has moved.
    """
    found, failure = Gradient(0.0, 0, 0, [0.0] * len(objective.measures)), None
    try:
        found = gradient(model, micro_batches, objective=objective, masters=masters, between=between)
    except (RuntimeError, MemoryError) as error:
        if masters.needs_others or not is_out_of_memory(error):
            raise
        failure = error
        model.zero_grad(set_to_none=True)
    failed = float(failure is not None)
    failures, loss, terms, tokens, *measured = ranks.sum([failed, *found[:3], *found.measures])
    if failures:
        raise OutOfMemory from failure
    if not terms:
        return StepResult(0.0, 0, 0.0, moved=False)
    masters.reduce()
    grad_norm = masters.norm() / terms
    moved = accept(loss / terms, grad_norm)
    if moved:
        torch._foreach_mul_(masters.grads, min(1.0, clip / grad_norm if grad_norm else 1.0) / terms)
        optimizer.step(masters.grads, scale=scale)
        masters.publish()
    measures = {name: value / terms for name, value in zip(objective.measures, measured, strict=True)}
    return StepResult(loss / terms, int(tokens), grad_norm, moved, measures)


def gradient(
    model: Decoder,
    micro_batches: Sequence[Batch],
    *,
    objective: Objective,
    masters: Masters,
    between: Callable[[], None] = lambda: None,
) -> Gradient:
    """Sum the gradients of all micro-batches into `masters.grads`."""
    masters.clear()
    objective.begin(model, micro_batches)
    total, terms, tokens, measures = 0.0, 0, 0, [0.0] * len(objective.measures)
    for batch in micro_batches:
        loss = objective(model, batch)
        loss.total.backward()
        masters.collect()
        total, terms, tokens = total + float(loss.total.detach()), terms + loss.num_terms, tokens + loss.num_tokens
        found = [float(loss.measures[name]) for name in objective.measures]
        measures = [before + now for before, now in zip(measures, found, strict=True)]
        between()
    return Gradient(total, terms, tokens, measures)
