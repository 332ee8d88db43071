"""How many threads compute.

Neither OpenMP nor torch asks what a machine really gives: a container's quota is not a number of processors to them,
and the two hardware threads of a core, which share its multipliers, are two.
"""

import os
import time
from collections.abc import Callable, Sequence

from rhapsode.core.machine import allowed_processors, allowed_threads

VARIABLE = "OMP_NUM_THREADS"
ROUNDS = 5
ROWS, COLUMNS = 2048, 1024
ALIKE = 1.05
"""Times that differ by less are the same: fewer threads leave more to other programs."""


def respect_quota() -> None:
    """Let no more threads compute than the control group's quota feeds, unless the user has said how many.

    Must come before torch is loaded. With 2 processors' worth of time on a machine of 64, threads that wait for each
    other would spend it all waiting.
    """
    if allowed_threads() < allowed_processors():
        os.environ.setdefault(VARIABLE, str(allowed_threads()))


def fastest_threads(
    counts: Sequence[int], *, work: Callable[[], object] | None = None, clock: Callable[[], float] = time.perf_counter
) -> int:
    """The fewest threads that do a piece of work as fast as any of `counts` do, within noise.

    Args:
        work: by default what a training step mostly does, a matrix product and a pass over its result.
    """
    import torch

    work = work or _products()
    best = dict.fromkeys(counts, float("inf"))
    before = torch.get_num_threads()
    try:
        for _ in range(ROUNDS):
            for count in counts:
                torch.set_num_threads(count)
                work()  # threads that have to be made first
                start = clock()
                work()
                best[count] = min(best[count], clock() - start)
    finally:
        torch.set_num_threads(before)
    return min(count for count in counts if best[count] <= ALIKE * min(best.values()))


def _products() -> Callable[[], object]:
    import torch

    matrix, rows = torch.ones(COLUMNS, COLUMNS), torch.ones(ROWS, COLUMNS)
    return lambda: torch.mm(rows, matrix).mul_(0.5)
