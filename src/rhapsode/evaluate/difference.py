"""How far two measured models are apart, and whether that is more than the choice of documents can explain."""

import math
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.evaluation import Evaluation, Row, compare


class Difference(NamedTuple):
    """Bits per byte of one model less those of another.

    Attributes:
        low, high: the interval; None when there are too few documents for one.
        is_paired: both read the same documents, so that what these have in common is no part of the interval.
    """

    value: float
    low: float | None
    high: float | None
    is_paired: bool

    @property
    def is_none(self) -> bool:
        """The interval holds zero: other documents of this kind could have turned it round."""
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high


def difference(one: Evaluation, other: Evaluation) -> Difference:
    """In pairs where both measured the same documents, else from the interval of each."""
    try:
        found = compare(one, other)
    except RhapsodeError:
        return _unpaired(one.model, other.model)
    return Difference(found.difference, found.difference_low, found.difference_high, is_paired=True)


def _unpaired(one: Row, other: Row) -> Difference:
    """Each end from the two ends that lead to it (Zou and Donner 2008), as the intervals are not symmetric."""
    value = one.bits_per_byte - other.bits_per_byte
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Difference(value, None, None, is_paired=False)
    below = math.hypot(one.bits_per_byte - one.low, other.high - other.bits_per_byte)
    above = math.hypot(one.high - one.bits_per_byte, other.bits_per_byte - other.low)
    return Difference(value, value - below, value + above, is_paired=False)
