"""Whether a step may move the weights, and what a run does when too many in a row may not.

A step is left out if its loss or its gradient is no finite number, or lies far above those of the last steps (as in
OLMo-core's SkipStepOptimizer, with the median and the median deviation in place of mean and deviation, which one
spike would move). The judgement is a function of the state alone, which every checkpoint carries: a resumed run leaves
out the very same steps.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from rhapsode.train.step import StepResult, is_finite
from rhapsode.weights.checkpoint import TrainingState

WINDOW = 128
"""Steps that are remembered."""
LEAST = 32
"""Steps from which on there is something to compare with."""
TO_DEVIATION = 1.4826
"""The median distance from the median, times this, is the standard deviation of a normal distribution."""
LEAST_LOSS = 0.05
LEAST_LOG_NORM = 0.15
"""Deviations that are taken for the least ones, in nats a token and of the logarithm of a gradient's norm: a model
that knows its few texts by heart may be surprised, and still has to learn from it."""


NOTHING = "there is nothing to learn from: all answers of every group are worth the same"


def trouble(loss: float, grad_norm: float, state: TrainingState, *, spike: float | None) -> str | None:
    """Why a step after `state` must not move the weights; None where it may.

    Args:
        spike: the deviations above the median from which a value is a spike; None: never.
    """
    if not is_finite(loss, grad_norm):
        return "its loss is not finite" if not math.isfinite(loss) else "its gradient is not finite"
    if spike is None or len(state.losses) < LEAST:
        return None
    most = _limit(state.losses, spike, least=LEAST_LOSS)
    if loss > most:
        return f"its loss, {loss:.3g}, is a spike: above {most:.3g}, {spike:g} deviations over the last steps"
    most = math.exp(_limit([math.log(max(norm, 1e-30)) for norm in state.grad_norms], spike, least=LEAST_LOG_NORM))
    if grad_norm > most:
        return f"its gradient's norm, {grad_norm:.3g}, is a spike: above {most:.3g}, {spike:g} deviations over the last"
    return None


def after(state: TrainingState, result: StepResult) -> TrainingState:
    """The state one step further on."""
    state = replace(state, step=state.step + 1, tokens=state.tokens + result.tokens, bits_per_byte=None)
    if not result.tokens:  # no sign of anything going astray
        return replace(state, skipped=state.skipped + 1)
    if not result.moved:
        return replace(state, skipped=state.skipped + 1, skips=state.skips + 1)
    losses = (*state.losses, result.loss)[-WINDOW:]
    return replace(state, skips=0, losses=losses, grad_norms=(*state.grad_norms, result.grad_norm)[-WINDOW:])


def turned_back(now: TrainingState, then: TrainingState) -> TrainingState:
    """The state to go on with from the checkpoint of `then`: its weights, and rows that come after those of `now`."""
    return replace(
        then,
        machine=now.machine,
        micro_batch_rows=now.micro_batch_rows,
        skips=0,
        undone=(*now.undone, (then.step, now.step)),
        elsewhere=now.elsewhere,
        bits_per_byte=None,
    )


def _limit(values: Sequence[float], spike: float, *, least: float) -> float:
    middle = statistics.median(values)
    spread = TO_DEVIATION * statistics.median(abs(value - middle) for value in values)
    return middle + spike * max(spread, least)
