"""Weights of good and of bad answers, from how many there are of each. Free of torch.

KTO's authors advise that the weighted good answers be to the bad ones as 1 : 1 to 4 : 3 (Ethayarajh et al. 2024,
arXiv:2402.01306, section 4.2).
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

LEAST, MOST = 1.0, 4 / 3


class Balance(NamedTuple):
    """Training answers that people wanted, and those that they did not."""

    good: int
    bad: int


def balance_of(roles: Sequence[str]) -> Balance | None:
    """Of the roles of sequences; None where nobody has judged them so."""
    counts = Counter(roles)
    return Balance(counts["good"], counts["bad"]) if counts["good"] or counts["bad"] else None


class Weights(NamedTuple):
    """Of the losses of good and of bad answers."""

    good: float
    bad: float


def balanced(found: Balance) -> Weights:
    """The rarer kind weighs more, as much as brings the two within the bounds; where all are of one kind, 1."""
    if not found.good or not found.bad:
        return Weights(1.0, 1.0)
    ratio = found.good / found.bad
    if ratio < LEAST:
        return Weights(LEAST / ratio, 1.0)
    return Weights(1.0, ratio / MOST) if ratio > MOST else Weights(1.0, 1.0)
