"""Memory that ran out: how torch and Python say so, and what a run does then."""

from dataclasses import replace

import torch

from rhapsode.core.errors import RhapsodeError
from rhapsode.weights.checkpoint import TrainingState

SAYINGS = ("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "bad_alloc")


class OutOfMemory(Exception):
    """A step needed more memory than there is; nothing has moved."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, numpy or Python itself means that memory has run out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error).lower() for saying in SAYINGS)


def fewer_rows(state: TrainingState, error: OutOfMemory) -> tuple[TrainingState, str]:
    """Half as many rows at once, for the rest of the run, and what to say of it.

    Raises:
        RhapsodeError: a row cannot be halved.
    """
    rows = state.micro_batch_rows
    if rows == 1:
        raise RhapsodeError(
            "there is not enough memory for a single row at once",
            "end other programs, or make model.context or model.size smaller, or choose a smaller model.base",
        ) from error
    message = (
        f"memory ran out with {rows} rows at once: from step {state.step + 1} on it is {rows // 2}, and a step has as "
        "many rows as before; the result is the same up to rounding"
    )
    return replace(state, micro_batch_rows=rows // 2), message
