"""What a setting gives when it is tried again with other seeds: the mean, and an interval around it.

An interval over documents says how sure one model's number is. How much another draw of the first weights or of the
order would have changed it, only repeats can tell.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_STEPS = 100_000


class Repeats(NamedTuple):
    """`spread` is the standard deviation; from a single value neither it nor the interval is known."""

    runs: int
    mean: float
    spread: float | None
    low: float | None
    high: float | None


def repeats(values: Sequence[float], *, confidence: float) -> Repeats:
    """Mean, spread, and Student's interval of the mean."""
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Repeats(n, mean, None, None, None)
    spread = float(np.std(values, ddof=1))
    reach = student(confidence, freedom=n - 1) * spread / math.sqrt(n)
    return Repeats(n, mean, spread, mean - reach, mean + reach)


@functools.cache
def student(confidence: float, *, freedom: int) -> float:
    """How many standard errors to both sides hold this share of Student's distribution.

    With t = sqrt(freedom) tan(a) its density is that of cos(a) ** (freedom - 1), which is summed up in small steps.
    """
    angles = np.linspace(0, math.pi / 2, _STEPS + 1)
    density = np.cos(angles) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(float(np.interp(confidence, below / below[-1], angles)))
