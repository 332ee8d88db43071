"""Error bars for ratios of sums, such as bits per byte.

Tokens of one document are not independent, documents are: so whole documents are drawn again, with replacement (a
cluster bootstrap). Documents differ greatly in size, which makes the plain percentile bootstrap too narrow; each
resample is therefore measured in its own standard errors (bootstrap-t, Efron and Tibshirani 1993, chapter 12). Two
models are compared on the same documents, which removes what these have in common (Miller 2024, arXiv:2411.00640).

    bits per byte of a model   ratio(bits, of=bytes)
    how much lower than b's    ratio(bits_a - bits_b, of=bytes)
    what part of b's           ratio(bits_a, of=bits_b)
"""

from typing import NamedTuple

import numpy as np

from rhapsode.evaluate.arrays import Floats

FEWEST_DOCUMENTS = 8
"""Below this number no interval is given: it would promise more than so few documents can tell."""

_CHUNK_WEIGHTS = 2**22


class Draws(NamedTuple):
    """How an interval is made.

    Attributes:
        confidence: share of the intervals that hold the true ratio.
        resamples: number of draws of all documents; 2000 give two good digits.
        seed: equal seeds draw equal documents, so that intervals of a paired comparison match.
    """

    confidence: float
    resamples: int
    seed: int


class Interval(NamedTuple):
    """An estimate and the interval around it; no interval when there are too few documents for one."""

    value: float
    low: float | None
    high: float | None


def ratio(top: Floats, *, of: Floats, draws: Draws) -> Interval:
    """sum(top) / sum(of) over documents, and its interval.

    Args:
        top: [documents], what is counted, for example bits.
        of: [documents], what it is counted by, for example bytes.
        draws: how the interval is made.
    """
    value = float(top.sum() / of.sum())
    n = len(top)
    if n < FEWEST_DOCUMENTS:
        return Interval(value, None, None)
    scale = of.mean()
    x, y = top / scale, of / scale
    tail = (1 - draws.confidence) / 2
    low, high = np.quantile(_studentised(x, y, draws), [tail, 1 - tail])
    error = float(np.sqrt(((x - value * y) ** 2).sum() * n / (n - 1)) / y.sum())
    return Interval(value, value - float(high) * error, value - float(low) * error)


def _studentised(x: Floats, y: Floats, draws: Draws) -> Floats:
    """How far each resample's ratio lies from the ratio of all documents, in that resample's own standard errors."""
    n = len(x)
    moments = np.stack([x, y, x * x, x * y, y * y], axis=1)
    rng = np.random.default_rng(draws.seed)
    rows = max(1, _CHUNK_WEIGHTS // n)
    sums = np.concatenate(
        [
            rng.multinomial(n, np.full(n, 1 / n), size=min(rows, draws.resamples - start)) @ moments
            for start in range(0, draws.resamples, rows)
        ]
    )
    sum_x, sum_y, sum_xx, sum_xy, sum_yy = sums.T
    drawn = sum_x / sum_y
    squares = np.maximum(sum_xx - 2 * drawn * sum_xy + drawn**2 * sum_yy, 0)
    error = np.sqrt(squares * n / (n - 1)) / sum_y
    away = drawn - x.sum() / y.sum()
    # Documents that are all alike have no error; their distance is rounding.
    return np.where(error > 1e-12, away / np.maximum(error, 1e-12), 0.0)
