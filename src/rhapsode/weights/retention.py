"""Which checkpoints of a run stay: the newest, the best, every n-th, and the one that the run may go back to.

All of it is read from what lies on the disk, so a resumed run keeps what an uninterrupted one would have kept.
"""

import math
import os
import shutil
from pathlib import Path

from rhapsode.core.manifest import remove_orphans
from rhapsode.weights.checkpoint import read_state
from rhapsode.weights.names import checkpoints, step_of


def remove_old(run_dir: Path, *, keep: int, newest: int, keep_every: int | None = None, good: int = 0) -> None:
    """Keep what is worth it of the checkpoints up to step `newest`, and nothing that a crash left half-written.

    Later ones are damaged, or they would be the newest: they do not count, and stay until they are written again.

    Args:
        keep: how many of the newest stay.
        keep_every: those of every so many steps stay too.
        good: the step that the run may go back to.
    """
    found = [path for path in checkpoints(run_dir) if step_of(path) <= newest]
    stay = {*found[-keep:], best_checkpoint(found)}
    stay |= {path for path in found if keep_every and step_of(path) and step_of(path) % keep_every == 0}
    stay |= set([path for path in found if step_of(path) <= good][-1:])
    for path in found:
        if path not in stay:
            _remove(path)
    remove_orphans(run_dir, name=r"step-\d+")


def remove_later(run_dir: Path, *, than: int) -> None:
    """Remove the checkpoints of steps that are undone, the last one first: what is left is always a whole beginning."""
    for path in reversed(checkpoints(run_dir)):
        if step_of(path) > than:
            _remove(path)


def best_checkpoint(found: list[Path]) -> Path | None:
    """The one with the fewest bits per byte on held-out documents; the later of two that are alike."""
    measured = [(bits, -step_of(path), path) for path in found if (bits := _bits_per_byte(path)) is not None]
    return min(measured)[2] if measured else None


def _bits_per_byte(path: Path) -> float | None:
    """None where it was not measured, or where the file is damaged: it is the loop that tells of that."""
    try:
        bits = read_state(path).bits_per_byte
    except (OSError, ValueError, TypeError):
        return None
    return bits if isinstance(bits, float) and math.isfinite(bits) else None


def _remove(path: Path) -> None:
    """Out of the way first: half a checkpoint must never look like a whole one."""
    shutil.rmtree(path.rename(path.parent / f".{path.name}.{os.getpid()}.partial"))
