"""Checkpoints written while training goes on.

Training waits only for a copy in memory. A thread of low priority writes, proves and hashes the copy: the bytes are
those of a checkpoint for which training waited. There is one such thread at a time, so a disk that is slower than the
training slows it down and never fills the memory.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, empty

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.manifest import explain_os_error
from rhapsode.train.memory import is_out_of_memory
from rhapsode.weights.checkpoint import TrainingState

NICE = 10
"""A tenth of a processor that training wants too, and all of one that nobody wants."""


class Snapshot(NamedTuple):
    """All that a checkpoint holds, at one moment."""

    weights: Sequence[tuple[str, Tensor]]
    optimizer: Mapping[str, Tensor]
    state: TrainingState


class Saved(NamedTuple):
    """How a save ended: with a checkpoint, with what went wrong, or with both where only the tidying failed."""

    step: int
    path: Path | None
    problem: RhapsodeError | None


class Saver:
    """One save at a time, in a thread of its own.

    Args:
        write: makes the checkpoint of a snapshot.
        tidy: removes what the new checkpoint makes superfluous.
    """

    def __init__(self, write: Callable[[Snapshot], Path], tidy: Callable[[TrainingState], None]) -> None:
        self._write, self._tidy = write, tidy
        self._copies: dict[str, Tensor] = {}
        self._thread: threading.Thread | None = None
        self._result: Saved | BaseException | None = None
        self.seconds = 0.0
        """So long the last save would take alone: its processor time and as much for the disk, but no more than it took
        beside the training."""

    @property
    def is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def begin(self, snapshot: Snapshot) -> bool:
        """Copy what `snapshot` refers to and start writing it; the one before must have been waited for.

        Returns:
            Whether there was memory for the copy. If not, it is written, and `wait` must come before anything moves.
        """
        assert self._thread is None, "one save at a time"
        is_copied = True
        try:
            snapshot = self._copy(snapshot)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._copies.clear()
            is_copied = False
        # nobody waits for the thread when the program is interrupted twice
        self._thread = threading.Thread(target=self._run, args=(snapshot,), name="saving", daemon=True)
        self._thread.start()
        return is_copied

    def done(self) -> Saved | None:
        """How the save that has ended since the last question did so, if one has."""
        return None if self.is_busy else self.wait()

    def wait(self) -> Saved | None:
        """Let the save under way end; None where there is none."""
        if self._thread is None:
            return None
        self._thread.join()
        result, self._thread, self._result = self._result, None, None
        assert result is not None, "a save ends in one way or the other"
        if isinstance(result, BaseException):
            raise result
        return result

    def _copy(self, snapshot: Snapshot) -> Snapshot:
        """The same in host memory, which the next copy takes again."""
        weights = [(name, self._kept(f"weight/{name}", value)) for name, value in snapshot.weights]
        optimizer = {name: self._kept(f"optimizer/{name}", value) for name, value in snapshot.optimizer.items()}
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return Snapshot(weights, optimizer, snapshot.state)

    def _kept(self, key: str, value: Tensor) -> Tensor:
        if key not in self._copies:
            self._copies[key] = empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
        return self._copies[key].copy_(value.detach(), non_blocking=True)

    def _run(self, snapshot: Snapshot) -> None:
        _step_aside()
        start, worked = time.perf_counter(), time.thread_time()
        try:
            self._result = self._save(snapshot)
            self.seconds = min(time.perf_counter() - start, 2 * (time.thread_time() - worked))
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            self._result = error

    def _save(self, snapshot: Snapshot) -> Saved:
        state, path = snapshot.state, None
        try:
            path = self._write(snapshot)
            self._tidy(state)
        except RhapsodeError as error:
            return Saved(state.step, path, error)
        except OSError as error:
            return Saved(state.step, path, explain_os_error(error, path or Path()))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            problem = RhapsodeError("there is not enough memory to write a checkpoint", "free some, or train less")
            return Saved(state.step, path, problem)
        return Saved(state.step, path, None)


def _step_aside() -> None:
    """Let the threads that train go first; Linux alone has a priority for each thread."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
