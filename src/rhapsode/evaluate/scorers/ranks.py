"""Where the wanted passage stands in a list of the nearest ones, which is JSON: retrieval with one right passage.

Of an answer that is no such list, or does not hold it, all are 0 (MRR and nDCG as BEIR has them, arXiv:2104.08663).
"""

import json
import math

from rhapsode.evaluate.scorers.scorer import require_wanted

TEN = 10


def place(answer: str, wanted: str) -> int | None:
    """From 1; None where it is not among them. Raises RhapsodeError: the row wants no passage."""
    require_wanted(wanted)
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return found.index(wanted) + 1 if isinstance(found, list) and wanted in found else None


def recall_at_1(answer: str, wanted: str) -> float:
    return _within(answer, wanted, 1)


def recall_at_5(answer: str, wanted: str) -> float:
    return _within(answer, wanted, 5)


def recall_at_10(answer: str, wanted: str) -> float:
    return _within(answer, wanted, TEN)


def reciprocal_rank(answer: str, wanted: str) -> float:
    """1 / place, among the first ten."""
    return 1 / where if (where := place(answer, wanted)) is not None and where <= TEN else 0.0


def discounted_gain(answer: str, wanted: str) -> float:
    """1 / log2(1 + place), among the first ten: the gain of the best order is 1."""
    return 1 / math.log2(1 + where) if (where := place(answer, wanted)) is not None and where <= TEN else 0.0


def _within(answer: str, wanted: str, most: int) -> float:
    where = place(answer, wanted)
    return float(where is not None and where <= most)
