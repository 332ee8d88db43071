"""What a setting gives when it is tried again with other seeds: the mean, and an interval around it.

An interval over documents says how sure one model's number is. How much another draw of the first weights or of the
order would have changed it, only repeats can tell.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit


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


def student(confidence: float, *, freedom: int) -> float:
    """How many standard errors to both sides hold this share of Student's distribution."""
    return float(stdtrit(freedom, (1 + confidence) / 2))
