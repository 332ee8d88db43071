"""How threads wait for each other. Free of torch, since it must be settled before torch is loaded."""

import os

SPINS = "50000"


def wait_briefly() -> None:
    """Let OpenMP's threads spin for a moment and then sleep, unless the user has said otherwise.

    GNU's OpenMP spins for milliseconds. On an idle machine that gains nothing over a shorter spin; beside one other
    busy program it is fatal: the spinning thread holds the processor that the thread it waits for needs. Not spinning
    at all costs a fifth of the speed. Measured on two cores, seconds a training step, idle and with one core taken
    (docs/experiments.md): by default 0.38 and 18.6, this 0.37 and 1.1, no spinning 0.47 and 0.70.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
