"""How threads wait for each other. Free of torch, since it must be settled before torch is loaded."""

import os


def wait_quietly() -> None:
    """Let OpenMP's threads sleep while they wait, unless the user has said otherwise.

    By default they spin. On an idle machine that is no faster for a training step; beside one other busy program it is
    fatal: a spinning thread holds the processor that the thread it waits for needs. Measured on two cores with one
    busy neighbour: 18.6 s a step when spinning, 1.5 s when sleeping (docs/experiments.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
